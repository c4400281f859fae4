// Plain C++ for every machine.

#include <cstring>
#include <type_traits>
#include <utility>

#include "isas.h"

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

struct Generic {
    struct Accumulator {
        Ints part[PARTS];
    };
    using Bytes = Accumulator;
    static constexpr int PANELS = 1;
    static constexpr int ROWS = 2;
    static constexpr int BLOCKS = 0;
    static constexpr int ROW_PANELS = 1;
    static constexpr int DECODED_ROWS = 0;
    static constexpr int CHAINS = 8;
    static constexpr int SHIFT = 6;  // a trit at the top of its byte costs one shift less
    static constexpr int OFFSET = 0;

    static Bytes load(const void* from) {
        Bytes bytes;
        std::memcpy(&bytes, from, sizeof bytes);
        return bytes;
    }
    static Ints broadcast(const uint8_t* from) {
        int32_t dword;
        std::memcpy(&dword, from, sizeof dword);
        return Ints{} + dword;
    }
    template <int D>
    static Bytes decode(const Bytes& codes) {
        Bytes trits;
        for (int i = 0; i < PARTS; ++i) trits.part[i] = codes.part[i] << (SHIFT - 2 * D);
        return trits;
    }
    static Accumulator zero() { return {}; }
    static Accumulator add(const Accumulator& a, const Accumulator& b) {
        Accumulator sums;
        for (int i = 0; i < PARTS; ++i) sums.part[i] = a.part[i] + b.part[i];
        return sums;
    }
    static Accumulator dot(Accumulator sums, Ints x, const Bytes& trits) {
        for (int byte = 0; byte < 4; ++byte) {
            const Ints input = x >> (8 * byte) & 0xFF;
            for (int i = 0; i < PARTS; ++i)
                sums.part[i] += (trits.part[i] << (24 - 8 * byte) >> 30) * (input << SHIFT);
        }
        return sums;
    }
    static Ints part(const Accumulator& sums, int i) { return sums.part[i]; }
};

struct GenericBytes : Generic {
    using Taps = Bytes;
    static constexpr int SHIFT = 0;

    static Taps taps(const void* from) { return load(from); }
    static Bytes quads(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
        Bytes bytes;
        for (int lane = 0; lane < LANES; ++lane)
            bytes.part[lane / WIDTH][lane % WIDTH] = static_cast<int32_t>(
                a[lane] | b[lane] << 8 | c[lane] << 16 | static_cast<uint32_t>(d[lane]) << 24);
        return bytes;
    }
    static Accumulator dot(Accumulator sums, Ints x, const Bytes& weights) {
        Bytes inputs;
        for (Ints& part : inputs.part) part = x;
        return dot(sums, inputs, weights);
    }
    static Accumulator dot(Accumulator sums, const Bytes& x, const Bytes& weights) {
        for (int byte = 0; byte < 4; ++byte)
            for (int i = 0; i < PARTS; ++i)
                sums.part[i] +=
                    (weights.part[i] << (24 - 8 * byte) >> 24) * (x.part[i] >> (8 * byte) & 0xFF);
        return sums;
    }
};

}  // namespace

const Kernels* generic_kernels() {
    static constexpr Kernels kernels = make_kernels<Generic, GenericBytes>("generic");
    return &kernels;
}

}  // namespace tritbench
