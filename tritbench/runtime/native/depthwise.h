// Depthwise convolutions of maps [height][width][channels], in panels of 16 channels.

#pragma once

#include "pools.h"

namespace tritbench {
namespace {

constexpr int DEPTHWISE_OUTPUTS = WIDTH == 16 ? 8 : 4;  // of a tile

// T outputs from column x on, which have all of their `columns` inside the map.
template <int T>
inline void float_outputs(const DepthwiseFloats& w, const Sliding& s, const float* line,
                          const Taps& lines, const Taps& columns, int64_t panel, float* out,
                          int64_t stride) {
    Floats sums[T][PARTS] = {};
    const float* data = line + columns.origin * s.pixel + panel * LANES;
    const float* weights = w.weights + panel * s.kernel_y * s.kernel_x * LANES;
    for (int64_t ky = lines.first; ky < lines.end; ++ky)
        for (int64_t kx = columns.first; kx < columns.end; ++kx) {
            const float* weight = weights + (ky * s.kernel_x + kx) * LANES;
            const float* at = data + (ky * s.dilation_y * s.width + kx * s.dilation_x) * s.pixel;
#pragma GCC unroll 4
            for (int p = 0; p < PARTS; ++p) {
                const Floats tap = read<Floats>(weight + p * WIDTH);
#pragma GCC unroll 8
                for (int t = 0; t < T; ++t)
                    sums[t][p] += read<Floats>(at + t * s.stride_x * s.pixel + p * WIDTH) * tap;
            }
        }
#pragma GCC unroll 32
    for (int i = 0; i < T * PARTS; ++i) {
        const int64_t lane = panel * LANES + i % PARTS * WIDTH;
        const Floats y = sums[i / PARTS][i % PARTS] + read<Floats>(w.bias + lane);
        write(out + i / PARTS * stride + lane, clamp(y, w.low, w.high));
    }
}

inline void depthwise_floats(const DepthwiseFloats& w, const Sliding& s, const float* data,
                             int64_t y0, int64_t y1, float* out, int64_t stride) {
    constexpr int T = DEPTHWISE_OUTPUTS;
    const auto columns_at = [&](int64_t x) {
        return taps_inside(x, s.stride_x, s.padding_x, s.dilation_x, s.kernel_x, s.width);
    };
    const auto whole = [&](const Taps& taps) { return taps.first == 0 && taps.end == s.kernel_x; };
    for (int64_t y = y0; y < y1; ++y) {
        const Taps lines =
            taps_inside(y, s.stride_y, s.padding_y, s.dilation_y, s.kernel_y, s.height);
        const float* line = data + lines.origin * s.width * s.pixel;
        for (int64_t panel = 0; panel < w.panels; ++panel)
            for (int64_t x = 0; x < s.out_width;) {
                float* to = out + (y * s.out_width + x) * stride;
                const Taps columns = columns_at(x);
                if (x + T <= s.out_width && whole(columns) && whole(columns_at(x + T - 1))) {
                    float_outputs<T>(w, s, line, lines, columns, panel, to, stride);
                    x += T;
                } else {
                    float_outputs<1>(w, s, line, lines, columns, panel, to, stride);
                    ++x;
                }
            }
    }
}

template <class Isa>
inline Floats depthwise_output(typename Isa::Accumulator sums, int part, const DepthwiseBytes& w,
                               float scale, int32_t zero, int64_t lane) {
    zero -= Isa::OFFSET;
    const Ints sum = Isa::part(sums, part) - read<Ints>(w.sums + lane) * zero;
    const Floats y = __builtin_convertvector(sum, Floats) * read<Floats>(w.scales + lane);
    return clamp(y * scale + read<Floats>(w.bias + lane), w.low, w.high);
}

// Four lines' bytes of 16 channels; weights are 0 for lines behind the last.
template <class Isa>
inline auto read_quads(const Sliding& s, const uint8_t* at, int64_t quad) {
    const uint8_t* lines[QUAD];
    for (int64_t i = 0; i < QUAD; ++i) {
        const int64_t ky = quad * QUAD + i < s.kernel_y ? quad * QUAD + i : s.kernel_y - 1;
        lines[i] = at + ky * s.dilation_y * s.width * s.pixel;
    }
    return Isa::quads(lines[0], lines[1], lines[2], lines[3]);
}

// T outputs. With KERNEL columns each is read once for all outputs that it counts for; 0 stands
// for any number.
template <class Isa, int KERNEL, int STRIDE, int T>
inline void byte_outputs(const DepthwiseBytes& w, const Sliding& s,
                         const typename Isa::Taps* weights, const uint8_t* at, int64_t panel,
                         float scale, int32_t zero, float* out, int64_t stride) {
    typename Isa::Accumulator sums[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sums[t] = Isa::zero();
    const int64_t quads = (s.kernel_y + QUAD - 1) / QUAD;
    for (int64_t quad = 0; quad < quads; ++quad) {
        if constexpr (KERNEL > 0) {
#pragma GCC unroll 16
            for (int c = 0; c < (T - 1) * STRIDE + KERNEL; ++c) {
                const auto column = read_quads<Isa>(s, at + c * s.pixel, quad);
#pragma GCC unroll 8
                for (int t = 0; t < T; ++t) {
                    const int kx = c - t * STRIDE;
                    if (kx >= 0 && kx < KERNEL)
                        sums[t] = Isa::dot(sums[t], column, weights[quad * KERNEL + kx]);
                }
            }
        } else {
            const int8_t* from = w.weights + (panel * quads + quad) * s.kernel_x * BLOCK_BYTES;
            for (int64_t kx = 0; kx < s.kernel_x; ++kx) {
                const auto weight = Isa::taps(from + kx * BLOCK_BYTES);
#pragma GCC unroll 8
                for (int t = 0; t < T; ++t)
                    sums[t] =
                        Isa::dot(sums[t],
                                 read_quads<Isa>(
                                     s, at + (t * s.stride_x + kx * s.dilation_x) * s.pixel, quad),
                                 weight);
            }
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < T * PARTS; ++i) {
        const int64_t lane = panel * LANES + i % PARTS * WIDTH;
        write(out + i / PARTS * stride + lane,
              depthwise_output<Isa>(sums[i / PARTS], i % PARTS, w, scale, zero, lane));
    }
}

template <class Isa, int KERNEL, int STRIDE>
inline void byte_lines(const DepthwiseBytes& w, const Sliding& s, const uint8_t* data, float scale,
                       int32_t zero, int64_t y0, int64_t y1, float* out, int64_t stride) {
    constexpr int T = 4;
    const int64_t quads = (s.kernel_y + QUAD - 1) / QUAD;
    for (int64_t panel = 0; panel < w.panels; ++panel) {
        typename Isa::Taps weights[KERNEL > 0 ? 2 * KERNEL : 1];
        for (int64_t i = 0; KERNEL > 0 && i < quads * KERNEL; ++i)
            weights[i] = Isa::taps(w.weights + (panel * quads * KERNEL + i) * BLOCK_BYTES);
        for (int64_t y = y0; y < y1; ++y) {
            const uint8_t* line = data + y * s.stride_y * s.width * s.pixel + panel * LANES;
            float* to = out + y * s.out_width * stride;
            int64_t x = 0;
            const auto outputs = [&](auto tile) {
                constexpr int N = decltype(tile)::value;
                byte_outputs<Isa, KERNEL, STRIDE, N>(w, s, weights, line + x * s.stride_x * s.pixel,
                                                     panel, scale, zero, to + x * stride, stride);
                x += N;
            };
            while (x + T <= s.out_width) outputs(std::integral_constant<int, T>());
            while (x < s.out_width) outputs(std::integral_constant<int, 1>());
        }
    }
}

template <class Isa>
void depthwise_bytes(const DepthwiseBytes& w, const Sliding& s, const uint8_t* data, float scale,
                     int32_t zero, int64_t y0, int64_t y1, float* out, int64_t stride) {
    const auto run = [&](auto kernel, auto step) {
        byte_lines<Isa, decltype(kernel)::value, decltype(step)::value>(w, s, data, scale, zero, y0,
                                                                        y1, out, stride);
    };
    const auto with = [&](auto kernel) {
        constexpr int KERNEL = decltype(kernel)::value;
        if (s.kernel_x != KERNEL || s.kernel_y > 2 * QUAD || s.dilation_x != 1) return false;
        if (s.stride_x == 1)
            run(kernel, std::integral_constant<int, 1>());
        else if (s.stride_x == 2)
            run(kernel, std::integral_constant<int, 2>());
        return s.stride_x <= 2;
    };
    if (with(std::integral_constant<int, 3>()) || with(std::integral_constant<int, 5>()) ||
        with(std::integral_constant<int, 7>()))
        return;
    run(std::integral_constant<int, 0>(), std::integral_constant<int, 1>());
}

}  // namespace
}  // namespace tritbench
