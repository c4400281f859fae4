// Vectors as wide as the instruction set's, and the kernels that need no products. Compiled for
// each instruction set, which defines WIDTH, the floats in a register, before.

#pragma once

#include <cstring>
#include <utility>

#include "kernels.h"

namespace tritbench {
namespace {

// Vectors of the compiler's own, as wide as the instruction set's: PARTS of them are a panel's
// 16 outputs.
constexpr int PARTS = LANES / WIDTH;
using Floats = float __attribute__((vector_size(4 * WIDTH)));
using Ints = int32_t __attribute__((vector_size(4 * WIDTH)));

template <class V, class T>
inline V read(const T* from) {
    V values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

template <class V, class T>
inline void write(T* to, V values) {
    std::memcpy(to, &values, sizeof values);
}

template <class V>
inline V greater(V a, V b) {
    return a > b ? a : b;
}

// Whether a float is NaN or infinite, as all ones or zeros.
inline Ints not_finite(Floats v) {
    Ints bits;
    std::memcpy(&bits, &v, sizeof bits);
    return (bits & 0x7F800000) == 0x7F800000;
}

inline bool none(Ints marks) {
    for (int l = 0; l < WIDTH; ++l)
        if (marks[l]) return false;
    return true;
}

inline bool range(const float* values, int64_t count, float* low, float* high) {
    Floats least = {}, greatest = {};
    Ints infinite = {};
    const auto update = [&](Floats v) {
        least = v < least ? v : least;
        greatest = greater(v, greatest);
        infinite |= not_finite(v);
    };
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) update(read<Floats>(values + i));
    for (; i < count; ++i) update(Floats{} + values[i]);
    *low = *high = 0;
    for (int l = 0; l < WIDTH; ++l) {
        *low = least[l] < *low ? least[l] : *low;
        *high = greatest[l] > *high ? greatest[l] : *high;
    }
    return none(infinite);
}

using Levels = uint8_t __attribute__((vector_size(WIDTH)));

// The low byte of each.
template <size_t... I>
inline Levels narrow(Ints values, std::index_sequence<I...>) {
#if __has_builtin(__builtin_shufflevector)
    // Without AVX-512, GCC converts 256 bits element by element.
    if constexpr (WIDTH == 8) {
        uint8_t bytes __attribute__((vector_size(4 * WIDTH)));
        std::memcpy(&bytes, &values, sizeof bytes);
        return __builtin_shufflevector(bytes, bytes, 4 * I...);
    }
#endif
    return __builtin_convertvector(values, Levels);
}

inline void quantize(const float* values, int64_t count, float inverse, int32_t zero,
                     uint8_t* out) {
    const auto quantized = [&](Floats v) {
        // Adding 1.5 × 2^23 leaves the nearest integer, ties to even, in the low bits. The least
        // value becomes 0; the greatest may be rounded up twice.
        v = v * inverse + 12582912.0F;
        Ints q;
        std::memcpy(&q, &v, sizeof q);
        q += zero - 0x4B400000;
        q = q < 255 ? q : Ints{} + 255;
        return narrow(q, std::make_index_sequence<WIDTH>());
    };
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) write(out + i, quantized(read<Floats>(values + i)));
    for (; i < count; ++i) out[i] = quantized(Floats{} + values[i])[0];
}

inline bool requantize(const float* values, int64_t count, float inverse, int32_t zero,
                       uint8_t* out) {
    const Floats low = Floats{} - static_cast<float>(zero), high = low + 255.0F;
    Ints marks = {};  // below 0 where an exponent was all ones
    const auto quantized = [&](Floats v) {
        Ints q;
        std::memcpy(&q, &v, sizeof q);
        marks |= (q & 0x7F800000) + 0x00800000;
        v = v * inverse;
        v = v < low ? low : v;
        v = v > high ? high : v;
        v = v + 12582912.0F;  // as in `quantize`
        std::memcpy(&q, &v, sizeof q);
        return narrow(q + (zero - 0x4B400000), std::make_index_sequence<WIDTH>());
    };
    int64_t i = 0;
    for (; i + 2 * WIDTH <= count; i += 2 * WIDTH) {
        write(out + i, quantized(read<Floats>(values + i)));
        write(out + i + WIDTH, quantized(read<Floats>(values + i + WIDTH)));
    }
    for (; i + WIDTH <= count; i += WIDTH) write(out + i, quantized(read<Floats>(values + i)));
    for (; i < count; ++i) out[i] = quantized(Floats{} + values[i])[0];
    return none(marks < 0);
}

inline void max_pool(const float* from, int64_t row, int64_t lanes, const Window& window,
                     int64_t count, float* to) {
    for (int64_t x = 0; x < count; ++x, from += window.step_x * lanes, to += lanes)
        for (int64_t lane = 0; lane < lanes; lane += WIDTH) {
            Floats greatest = read<Floats>(from + lane);
            for (int64_t ky = 0; ky < window.height; ++ky)
                for (int64_t kx = 0; kx < window.width; ++kx) {
                    const Floats v = read<Floats>(from + ky * row + kx * lanes + lane);
                    greatest = greater(v, greatest);
                }
            write(to + lane, greatest);
        }
}

inline bool normalize(const float* values, int64_t count, float mean, float std, float* out) {
    Ints infinite = {};
    const auto normalized = [&](Floats v) {
        infinite |= not_finite(v);
        return (v - mean) / std;
    };
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) write(out + i, normalized(read<Floats>(values + i)));
    for (; i < count; ++i) out[i] = normalized(Floats{} + values[i])[0];
    return none(infinite);
}

inline int32_t read_bytes(const uint8_t* from, int64_t bytes) {
    constexpr int UNROLL = 8;
    Ints seen[UNROLL] = {};
    for (int64_t at = 0; at + UNROLL * 4 * WIDTH <= bytes; at += UNROLL * 4 * WIDTH)
#pragma GCC unroll 8
        for (int i = 0; i < UNROLL; ++i) seen[i] |= read<Ints>(from + at + i * 4 * WIDTH);
    int32_t result = 0;
    for (const Ints& part : seen) result |= part[0];
    return result;
}

}  // namespace
}  // namespace tritbench
