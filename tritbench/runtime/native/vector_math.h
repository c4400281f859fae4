// Functions of vectors of floats. Polynomials are Cephes' (exp, tanh) and Eigen's (erf). Their
// greatest relative errors, which tests/test_float_kernels.py holds them to: exp 0.9e-7, sigmoid
// 1.6e-7, silu 1.8e-7, tanh 1.4e-7, erf 4.3e-7; relative to its argument, gelu by erf 2.6e-7, by
// tanh 1.3e-7.

#pragma once

#include "vectors.h"

namespace tritbench {
namespace {

using Bits = uint32_t __attribute__((vector_size(4 * WIDTH)));

#define ALWAYS_INLINE __attribute__((always_inline)) inline

inline Floats all(float value) { return value - Floats{}; }  // x + 0 is not always x

inline Floats clamp(Floats v, Floats low, Floats high) {  // NaN stays
    v = low > v ? low : v;
    return high < v ? high : v;
}

inline Floats clamp(Floats v, float low, float high) { return clamp(v, all(low), all(high)); }

inline Floats absolute(Floats v) {
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & 0x7FFFFFFF);
}

// `magnitude` is not negative.
inline Floats with_sign(Floats magnitude, Floats sign) {
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(magnitude) |
                                    (reinterpret_cast<Ints>(sign) & INT32_MIN));
}

// The greatest coefficient's term first.
template <size_t N>
inline Floats polynomial(Floats x, const float (&coefficients)[N]) {
    Floats y = all(coefficients[0]);
#pragma GCC unroll 8
    for (size_t i = 1; i < N; ++i) y = y * x + coefficients[i];
    return y;
}

// What would be denormal is 0. The values selected last may be any where they are not.
ALWAYS_INLINE Floats exponential(Floats x) {
    constexpr float LEAST = -87.33654F, GREATEST = 88.72283F;  // logarithms of 2^-126 and 2^128
    constexpr float ROUND = 12582912.0F;  // 1.5 × 2^23: an integer added to it is in the low bits
    constexpr float COEFFICIENTS[] = {1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                                      4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F};
    const Floats rounded = x * 1.44269504F + ROUND;
    const Floats n = rounded - ROUND;
    const Floats r = x - n * 0.693359375F - n * -2.12194440e-4F;
    const Floats y = polynomial(r, COEFFICIENTS) * (r * r) + r + 1.0F;
    const auto scaled = reinterpret_cast<Floats>(reinterpret_cast<Bits>(y) +
                                                 (reinterpret_cast<Bits>(rounded) << 23));
    return x < LEAST ? Floats{} : x <= GREATEST ? scaled : x + __builtin_inff();
}

ALWAYS_INLINE Floats sigmoid(Floats x) { return 1.0F / (exponential(-x) + 1.0F); }

ALWAYS_INLINE Floats silu(Floats x) { return x / (exponential(-x) + 1.0F); }

ALWAYS_INLINE Floats hyperbolic_tangent(Floats x) {
    constexpr float COEFFICIENTS[] = {-5.70498872745e-3F, 2.06390887954e-2F, -5.37397155531e-2F,
                                      1.33314422036e-1F, -3.33332819422e-1F};
    const Floats size = absolute(x), square = x * x;
    const Floats small = polynomial(square, COEFFICIENTS) * square * x + x;
    const Floats large = 1.0F - 2.0F / (exponential(size + size) + 1.0F);
    return size < 0.625F ? small : with_sign(large, x);
}

ALWAYS_INLINE Floats error_function(Floats x) {
    constexpr float TOP[] = {-2.72614225801306e-10F, 2.77068142495902e-08F,  -2.10102402082508e-06F,
                             -5.69250639462346e-05F, -7.34990630326855e-04F, -2.95459980854025e-03F,
                             -1.60960333262415e-02F};
    constexpr float BOTTOM[] = {-1.45660718464996e-05F, -2.13374055278905e-04F,
                                -1.68282697438203e-03F, -7.37332916720468e-03F,
                                -1.42647390514189e-02F};
    const Floats bounded = clamp(x, -4.0F, 4.0F);
    const Floats square = bounded * bounded;
    return bounded * polynomial(square, TOP) / polynomial(square, BOTTOM);
}

ALWAYS_INLINE Floats gelu(Floats x) { return x * 0.5F * (error_function(x * 0.70710678F) + 1.0F); }

// x × sigmoid(2u) is x/2 × (1 + tanh(u)).
ALWAYS_INLINE Floats gelu_tanh(Floats x) {
    const Floats u = (x * x * x * 0.044715F + x) * -1.59576912F;
    return x / (exponential(u) + 1.0F);
}

ALWAYS_INLINE Floats hardsigmoid(Floats x) { return clamp(x + 3.0F, 0.0F, 6.0F) * 0.16666667F; }

ALWAYS_INLINE Floats hardswish(Floats x) { return x * hardsigmoid(x); }

// A vector of which `count` values are there, which may be more than it has or less than none.
inline Floats read_some(const float* from, int64_t count, float rest = 0) {
    if (count >= WIDTH) return read<Floats>(from);
    return count > 0 ? read_part(from, static_cast<int>(count), rest) : all(rest);
}

inline void write_some(float* to, int64_t count, Floats values) {
    if (count >= WIDTH)
        write(to, values);
    else if (count > 0)
        write_part(to, static_cast<int>(count), values);
}

// Calls visit(index, values left from there on): whole vectors first.
template <class Visit>
inline void each_vector(int64_t count, const Visit& visit) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) visit(i, std::integral_constant<int64_t, WIDTH>());
    if (i < count) visit(i, count - i);
}

// The same in 16 lanes: visit(index, lane, values left).
template <class Visit>
inline void each_lane(int64_t count, const Visit& visit) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
#pragma GCC unroll 4
        for (int p = 0; p < PARTS; ++p)
            visit(i + p * WIDTH, p, std::integral_constant<int64_t, WIDTH>());
    if (i < count)
#pragma GCC unroll 4
        for (int p = 0; p < PARTS; ++p) visit(i + p * WIDTH, p, count - i - p * WIDTH);
}

inline float sum_lanes(const Floats (&parts)[PARTS]) {
    float sums[LANES];
    std::memcpy(sums, &parts, sizeof sums);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
    return sums[0];
}

template <class Function>
inline void map_values(const float* from, int64_t count, float* to, const Function& function) {
    each_vector(count, [&](int64_t i, auto left) {
        write_some(to + i, left, function(read_some(from + i, left)));
    });
}

inline void unary(Unary kind, const float* from, int64_t count, float* to) {
    // One loop for each, or the functions would be there twice.
    const auto map = [&](const auto& function) {
        for (int64_t i = 0; i < count; i += WIDTH)
            write_some(to + i, count - i, function(read_some(from + i, count - i)));
    };
    switch (kind) {
        case Unary::exp:
            return map([](Floats x) { return exponential(x); });
        case Unary::sigmoid:
            return map([](Floats x) { return sigmoid(x); });
        case Unary::silu:
            return map([](Floats x) { return silu(x); });
        case Unary::tanh:
            return map([](Floats x) { return hyperbolic_tangent(x); });
        case Unary::erf:
            return map([](Floats x) { return error_function(x); });
        case Unary::gelu:
            return map([](Floats x) { return gelu(x); });
        case Unary::gelu_tanh:
            return map([](Floats x) { return gelu_tanh(x); });
        case Unary::hardsigmoid:
            return map([](Floats x) { return hardsigmoid(x); });
        case Unary::hardswish:
            return map([](Floats x) { return hardswish(x); });
    }
}

inline void clamp_values(const float* from, int64_t count, float low, float high, float* to) {
    map_values(from, count, to, [&](Floats v) { return clamp(v, low, high); });
}

template <class Function>
inline void map_pairs(const Rows& a, const Rows& b, int64_t rows, int64_t count, float* to,
                      int64_t to_stride, const Function& function) {
    const auto operand = [](const Rows& o, int64_t row, int64_t i, auto left) {
        const float* at = o.data + row * o.stride;
        return o.step == 0 ? all(*at) : read_some(at + i, left);
    };
    for (int64_t r = 0; r < rows; ++r)
        each_vector(count, [&](int64_t i, auto left) {
            write_some(to + r * to_stride + i, left,
                       function(operand(a, r, i, left), operand(b, r, i, left)));
        });
}

inline void binary(Binary kind, const Rows& a, const Rows& b, int64_t rows, int64_t count,
                   float* to, int64_t stride) {
    const auto map = [&](const auto& f) { map_pairs(a, b, rows, count, to, stride, f); };
    switch (kind) {
        case Binary::add:
            return map([](Floats x, Floats y) { return x + y; });
        case Binary::subtract:
            return map([](Floats x, Floats y) { return x - y; });
        case Binary::multiply:
            return map([](Floats x, Floats y) { return x * y; });
        case Binary::divide:
            return map([](Floats x, Floats y) { return x / y; });
        case Binary::maximum:  // NaN where one is
            return map([](Floats x, Floats y) { return (x > y) | (x != x) ? x : y; });
        case Binary::minimum:
            return map([](Floats x, Floats y) { return (x < y) | (x != x) ? x : y; });
    }
}

}  // namespace
}  // namespace tritbench
