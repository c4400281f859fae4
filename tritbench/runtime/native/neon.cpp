// NEON with the dot product extension: Arm since Cortex-A75, Apple M1, Graviton 2.

#include "isas.h"

#if defined(__aarch64__) && defined(__linux__)

#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include <cstring>
#include <type_traits>
#include <utility>

// What follows is compiled for this instruction set, and must not be called without it. No header
// of the standard library may follow: its inline functions would be compiled for it too.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace tritbench {
constexpr int WIDTH = 4;
namespace {

using Four = float __attribute__((vector_size(16)));
inline Four read_part(const float* from, int count, float rest) {
    return Four{count > 0 ? from[0] : rest, count > 1 ? from[1] : rest, count > 2 ? from[2] : rest,
                rest};
}
inline void write_part(float* to, int count, Four values) {
    for (int i = 0; i < count; ++i) to[i] = values[i];
}

}  // namespace
}  // namespace tritbench

#include "tile.h"

namespace tritbench {
namespace {

struct Neon {
    struct Bytes {
        int8x16_t at[4];
    };
    struct Accumulator {
        int32x4_t at[4];
    };
    static constexpr int PANELS = 1;
    static constexpr int ROWS = 4;
    static constexpr int BLOCKS = 0;
    static constexpr int ROW_PANELS = 1;
    static constexpr int DECODED_ROWS = 0;
    static constexpr int CHAINS = 8;
    static constexpr int SHIFT = 6;     // a trit at the top of its byte costs one shift less
    static constexpr int OFFSET = 128;  // sdot multiplies signed bytes

    static Bytes load(const void* from) {
        const auto* at = static_cast<const int8_t*>(from);
        return {{vld1q_s8(at), vld1q_s8(at + 16), vld1q_s8(at + 32), vld1q_s8(at + 48)}};
    }
    static Bytes broadcast(const uint8_t* from) {
        uint32_t dword;
        std::memcpy(&dword, from, sizeof dword);
        const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(dword ^ 0x80808080U));
        return {{x, x, x, x}};
    }
    template <int D>
    static Bytes decode(const Bytes& codes) {
        Bytes trits;
        for (int i = 0; i < 4; ++i)
            trits.at[i] = vandq_s8(vshlq_n_s8(codes.at[i], SHIFT - 2 * D),
                                   vdupq_n_s8(static_cast<int8_t>(-64)));
        return trits;
    }
    static Accumulator zero() {
        const int32x4_t zero = vdupq_n_s32(0);
        return {{zero, zero, zero, zero}};
    }
    static Accumulator add(const Accumulator& a, const Accumulator& b) {
        Accumulator sums;
        for (int i = 0; i < 4; ++i) sums.at[i] = vaddq_s32(a.at[i], b.at[i]);
        return sums;
    }
    static Accumulator dot(const Accumulator& sums, const Bytes& x, const Bytes& trits) {
        Accumulator result;
        for (int i = 0; i < 4; ++i) result.at[i] = vdotq_s32(sums.at[i], x.at[i], trits.at[i]);
        return result;
    }
    static Ints part(const Accumulator& sums, int i) { return sums.at[i]; }
};

struct NeonBytes : Neon {
    using Taps = Bytes;
    static constexpr int SHIFT = 0;

    static Taps taps(const void* from) { return load(from); }
    static Bytes quads(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
        const uint8x16_t sign = vdupq_n_u8(0x80);
        const uint8x16x4_t lines = {{veorq_u8(vld1q_u8(a), sign), veorq_u8(vld1q_u8(b), sign),
                                     veorq_u8(vld1q_u8(c), sign), veorq_u8(vld1q_u8(d), sign)}};
        uint8_t bytes[64];
        vst4q_u8(bytes, lines);
        return load(bytes);
    }
};

}  // namespace

const Kernels* neon_kernels() {
    static constexpr Kernels kernels = make_kernels<Neon, NeonBytes>("neon");
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &kernels : nullptr;
}

}  // namespace tritbench

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace tritbench {
const Kernels* neon_kernels() { return nullptr; }
}  // namespace tritbench

#endif
