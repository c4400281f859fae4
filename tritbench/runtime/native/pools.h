// Pooling of maps [height][width][channels].

#pragma once

#include "vector_math.h"

namespace tritbench {
namespace {

// The taps of one direction that lie in a map of `size`: first..end, from input `origin` on.
struct Taps {
    int64_t origin, first, end;
};

inline Taps taps_inside(int64_t at, int64_t stride, int64_t padding, int64_t dilation,
                        int64_t kernel, int64_t size) {
    const int64_t origin = at * stride - padding;
    const int64_t first = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
    const int64_t room = size - origin;
    const int64_t end = room > 0 ? (room + dilation - 1) / dilation : 0;
    return {origin, first, end < kernel ? end : kernel};
}

// visit(y, x, taps of lines, taps of columns) for each output of lines y0..y1.
template <class Visit>
inline void each_window(const Sliding& w, int64_t y0, int64_t y1, const Visit& visit) {
    for (int64_t y = y0; y < y1; ++y) {
        const Taps lines =
            taps_inside(y, w.stride_y, w.padding_y, w.dilation_y, w.kernel_y, w.height);
        for (int64_t x = 0; x < w.out_width; ++x)
            visit(y, x, lines,
                  taps_inside(x, w.stride_x, w.padding_x, w.dilation_x, w.kernel_x, w.width));
    }
}

// `result` and each value of a window, from its first line and column on.
template <class Function>
inline Floats fold(const Sliding& w, const float* data, const Taps& lines, const Taps& columns,
                   int64_t left, Floats result, const Function& function) {
    const int64_t line = w.dilation_y * w.width * w.pixel, column = w.dilation_x * w.pixel;
    const float* at = data + (lines.origin * w.width + columns.origin) * w.pixel +
                      lines.first * line + columns.first * column;
    for (int64_t ky = lines.first; ky < lines.end; ++ky, at += line) {
        const float* tap = at;
        for (int64_t kx = columns.first; kx < columns.end; ++kx, tap += column)
            result = function(result, read_some(tap, left));
    }
    return result;
}

inline void max_pool_map(const Sliding& w, const float* data, int64_t y0, int64_t y1, float* out) {
    each_window(w, y0, y1, [&](int64_t y, int64_t x, const Taps& lines, const Taps& columns) {
        float* to = out + (y * w.out_width + x) * w.pixel;
        each_vector(w.pixel, [&](int64_t c, auto left) {
            write_some(
                to + c, left,
                fold(w, data + c, lines, columns, left, all(-__builtin_inff()),
                     [](Floats most, Floats v) { return (v > most) | (v != v) ? v : most; }));
        });
    });
}

inline void average_pool_map(const Sliding& w, bool include_padding, int64_t divisor,
                             const float* data, int64_t y0, int64_t y1, float* out) {
    // A window may reach beyond the padding, where nothing counts.
    const auto padded = [](const Taps& taps, int64_t kernel, int64_t size, int64_t padding) {
        const int64_t room = size + padding - taps.origin;
        return kernel < room ? kernel : room;
    };
    each_window(w, y0, y1, [&](int64_t y, int64_t x, const Taps& lines, const Taps& columns) {
        int64_t count = divisor;
        if (count == 0 && include_padding)
            count = padded(lines, w.kernel_y, w.height, w.padding_y) *
                    padded(columns, w.kernel_x, w.width, w.padding_x);
        else if (count == 0)
            count = (lines.end - lines.first) * (columns.end - columns.first);
        float* to = out + (y * w.out_width + x) * w.pixel;
        each_vector(w.pixel, [&](int64_t c, auto left) {
            const Floats sum = fold(w, data + c, lines, columns, left, Floats{},
                                    [](Floats total, Floats v) { return total + v; });
            write_some(to + c, left, sum / static_cast<float>(count));
        });
    });
}

inline void mean_map(const float* data, int64_t pixels, int64_t channels, int64_t stride,
                     float* out) {
    each_vector(channels, [&](int64_t c, auto left) {
        Floats sum = {};
        for (int64_t p = 0; p < pixels; ++p) sum += read_some(data + p * stride + c, left);
        write_some(out + c, left, sum / static_cast<float>(pixels));
    });
}

}  // namespace
}  // namespace tritbench
