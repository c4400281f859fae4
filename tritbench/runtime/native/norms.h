// Normalization and softmax.

#pragma once

#include "vector_math.h"

namespace tritbench {
namespace {

// The sum in 16 lanes of f(value).
template <class Function>
inline float sum_of(const float* values, int64_t count, float rest, const Function& function) {
    Floats sums[PARTS] = {};
    each_lane(count, [&](int64_t i, int p, auto left) {
        sums[p] += function(read_some(values + i, left, rest));
    });
    return sum_lanes(sums);
}

inline void layer_norm(const float* from, int64_t rows, int64_t count, int64_t from_stride,
                       const float* weight, const float* bias, float eps, float* to,
                       int64_t to_stride) {
    const auto n = static_cast<float>(count);
    for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
        const float mean = sum_of(from, count, 0, [](Floats v) { return v; }) / n;
        const float variance =
            sum_of(from, count, mean, [&](Floats v) { return (v - mean) * (v - mean); }) / n;
        const float inverse = 1 / __builtin_sqrtf(variance + eps);
        each_vector(count, [&](int64_t i, auto left) {
            Floats y = (read_some(from + i, left) - mean) * inverse;
            if (weight) y *= read_some(weight + i, left);
            if (bias) y += read_some(bias + i, left);
            write_some(to + i, left, y);
        });
    }
}

// NaN is passed over: it will be found in the sum.
inline float greatest(const float* values, int64_t count) {
    Floats most[PARTS];
    for (Floats& part : most) part = all(-__builtin_inff());
    each_lane(count, [&](int64_t i, int p, auto left) {
        const Floats v = read_some(values + i, left, -__builtin_inff());
        most[p] = greater(v, most[p]);
    });
    float result = -__builtin_inff();
    for (const Floats& part : most)
        for (int l = 0; l < WIDTH; ++l) result = part[l] > result ? part[l] : result;
    return result;
}

// exp(scale × value - most), and their sum in 16 lanes.
inline float exponentials(const float* from, int64_t count, float scale, float most, float* to) {
    Floats sums[PARTS] = {};
    each_lane(count, [&](int64_t i, int p, auto left) {
        const Floats y = exponential(read_some(from + i, left, -__builtin_inff()) * scale - most);
        write_some(to + i, left, y);
        sums[p] += y;
    });
    return sum_lanes(sums);
}

inline void softmax(const float* from, int64_t rows, int64_t count, int64_t from_stride,
                    bool logarithm, float* to, int64_t to_stride) {
    for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
        const float most = greatest(from, count);
        if (logarithm) {
            const float sum = sum_of(from, count, -__builtin_inff(),
                                     [&](Floats v) { return exponential(v - most); });
            const auto log = static_cast<float>(__builtin_log(static_cast<double>(sum)));
            map_values(from, count, to, [&](Floats v) { return v - most - log; });
        } else {
            const float inverse = 1 / exponentials(from, count, 1, most, to);
            map_values(to, count, to, [&](Floats v) { return v * inverse; });
        }
    }
}

// The sum of f(value) over the pixels of each channel, and then over channels.
template <class Function>
inline float sum_group(const float* map, int64_t pixels, int64_t channels, int64_t stride,
                       const Function& function) {
    float sum = 0;
    each_vector(channels, [&](int64_t c, auto left) {
        Floats sums = {};
        for (int64_t p = 0; p < pixels; ++p)
            sums += function(read_some(map + p * stride + c, left));
        for (int64_t l = 0; l < WIDTH && l < left; ++l) sum += sums[l];
    });
    return sum;
}

inline void group_norm(const float* from, int64_t pixels, int64_t channels, int64_t groups,
                       int64_t from_stride, const float* weight, const float* bias, float eps,
                       float* to, int64_t to_stride) {
    const int64_t size = channels / groups;
    const auto n = static_cast<float>(size * pixels);
    for (int64_t at = 0; at < channels; at += size) {
        const float* map = from + at;
        const float mean =
            sum_group(map, pixels, size, from_stride, [](Floats v) { return v; }) / n;
        const float variance = sum_group(map, pixels, size, from_stride,
                                         [&](Floats v) { return (v - mean) * (v - mean); }) /
                               n;
        const float inverse = 1 / __builtin_sqrtf(variance + eps);
        for (int64_t p = 0; p < pixels; ++p)
            each_vector(size, [&](int64_t c, auto left) {
                Floats y = (read_some(map + p * from_stride + c, left) - mean) * inverse;
                if (weight) y *= read_some(weight + at + c, left);
                if (bias) y += read_some(bias + at + c, left);
                write_some(to + p * to_stride + at + c, left, y);
            });
    }
}

}  // namespace
}  // namespace tritbench
