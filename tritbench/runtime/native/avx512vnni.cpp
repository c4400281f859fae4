// AVX-512 with VNNI: Cascade Lake, Ice Lake, Zen 4 and later.

#include "isas.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

// What follows is compiled for this instruction set, and must not be called without it. No header
// of the standard library may follow: its inline functions would be compiled for it too.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")
#endif

namespace tritbench {
constexpr int WIDTH = 16;
namespace {

inline __m512 read_part(const float* from, int count, float rest) {
    const auto mask = static_cast<__mmask16>((1 << count) - 1);
    return _mm512_mask_loadu_ps(_mm512_set1_ps(rest), mask, from);
}
inline void write_part(float* to, int count, __m512 values) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1 << count) - 1), values);
}

}  // namespace
}  // namespace tritbench

#include "tile.h"

namespace tritbench {
namespace {

struct Avx512Vnni {
    using Bytes = __m512i;
    using Accumulator = __m512i;
    static constexpr int PANELS = 4;
    static constexpr int ROWS = 4;
    static constexpr int BLOCKS = 0;
    static constexpr int ROW_PANELS = 4;
    static constexpr int DECODED_ROWS = 0;
    static constexpr int CHAINS = 8;
    static constexpr int SHIFT = 6;  // a trit at the top of its byte costs one shift less
    static constexpr int OFFSET = 0;

    static Bytes load(const void* from) {
        Bytes bytes = _mm512_load_si512(from);
        asm("" : "+v"(bytes));  // or GCC loads it anew for each `decode`
        return bytes;
    }
    static Bytes broadcast(const uint8_t* from) {
        int32_t dword;
        std::memcpy(&dword, from, sizeof dword);
        return _mm512_set1_epi32(dword);
    }
    template <int D>
    static Bytes decode(Bytes codes) {
        return _mm512_and_si512(_mm512_slli_epi16(codes, SHIFT - 2 * D),
                                _mm512_set1_epi8(static_cast<char>(0xC0)));
    }
    static Accumulator zero() { return _mm512_setzero_si512(); }
    static Accumulator add(Accumulator a, Accumulator b) { return _mm512_add_epi32(a, b); }
    static Accumulator dot(Accumulator sums, Bytes x, Bytes trits) {
        return _mm512_dpbusd_epi32(sums, x, trits);
    }
    static Ints part(Accumulator sums, int) { return reinterpret_cast<Ints>(sums); }
};

struct Avx512VnniBytes : Avx512Vnni {
    using Taps = __m512i;
    static constexpr int SHIFT = 0;

    static Taps taps(const void* from) { return _mm512_load_si512(from); }
    static __m512i quads(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
        return reinterpret_cast<__m512i>(line(a) | line(b) << 8 | line(c) << 16 | line(d) << 24);
    }

  private:
    static Ints line(const uint8_t* from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        // With a mask, or GCC warns of the header's own undefined operand.
        return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, bytes));
    }
};

}  // namespace

const Kernels* avx512vnni_kernels() {
    static constexpr Kernels kernels = make_kernels<Avx512Vnni, Avx512VnniBytes>("avx512vnni");
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl")
               ? &kernels
               : nullptr;
}

}  // namespace tritbench

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace tritbench {
const Kernels* avx512vnni_kernels() { return nullptr; }
}  // namespace tritbench

#endif
