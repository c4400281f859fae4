// Depthwise convolutions of maps [height][width][channels], in panels of 16 channels.

#pragma once

#include "pools.h"

namespace tritbench {
namespace {

constexpr int TILE = 4;  // outputs beside each other

// A tile of outputs of WIDTH channels. With KERNEL columns each is read once for all outputs that
// it counts for; 0 stands for any number. Columns outside of the map are passed over.
template <int KERNEL, int STRIDE>
inline void float_tile(const Sliding& s, const float* line, const Taps& lines, int64_t column,
                       const float* weights, Floats (&sums)[TILE]) {
    const auto inside = [&](int64_t c) { return column + c >= 0 && column + c < s.width; };
    const float* data = line + column * s.pixel;
    for (int64_t ky = lines.first; ky < lines.end; ++ky) {
        const float* at = data + ky * s.dilation_y * s.width * s.pixel;
        const float* weight = weights + ky * s.kernel_x * LANES;
        if constexpr (KERNEL > 0) {
            Floats taps[KERNEL];
#pragma GCC unroll 8
            for (int kx = 0; kx < KERNEL; ++kx) taps[kx] = read<Floats>(weight + kx * LANES);
#pragma GCC unroll 16
            for (int c = 0; c < (TILE - 1) * STRIDE + KERNEL; ++c) {
                if (!inside(c)) continue;
                const Floats x = read<Floats>(at + c * s.pixel);
#pragma GCC unroll 4
                for (int t = 0; t < TILE; ++t)
                    if (c >= t * STRIDE && c < t * STRIDE + KERNEL)
                        sums[t] += x * taps[c - t * STRIDE];
            }
        } else {
            for (int64_t kx = 0; kx < s.kernel_x; ++kx)
#pragma GCC unroll 4
                for (int t = 0; t < TILE; ++t) {
                    const int64_t c = t * s.stride_x + kx * s.dilation_x;
                    if (inside(c))
                        sums[t] +=
                            read<Floats>(at + c * s.pixel) * read<Floats>(weight + kx * LANES);
                }
        }
    }
}

// run(KERNEL, STRIDE) as constants, or with 0 for what has no code of its own.
template <class Run>
inline void choose_depthwise(const Sliding& s, const Run& run) {
    const auto with = [&](auto kernel) {
        if (s.kernel_x != decltype(kernel)::value || s.dilation_x != 1) return false;
        if (s.stride_x == 1)
            run(kernel, std::integral_constant<int, 1>());
        else if (s.stride_x == 2)
            run(kernel, std::integral_constant<int, 2>());
        return s.stride_x <= 2;
    };
    if (!with(std::integral_constant<int, 3>()) && !with(std::integral_constant<int, 5>()) &&
        !with(std::integral_constant<int, 7>()))
        run(std::integral_constant<int, 0>(), std::integral_constant<int, 0>());
}

inline void depthwise_floats(const DepthwiseFloats& w, const Sliding& s, const float* data,
                             int64_t y0, int64_t y1, float* out, int64_t stride) {
    const Floats low = all(w.low), high = all(w.high);
    choose_depthwise(s, [&](auto kernel, auto step) {
        for (int64_t y = y0; y < y1; ++y) {
            const Taps lines =
                taps_inside(y, s.stride_y, s.padding_y, s.dilation_y, s.kernel_y, s.height);
            for (int64_t lane = 0; lane < w.panels * LANES; lane += WIDTH) {
                const float* line = data + lines.origin * s.width * s.pixel + lane;
                const float* weights =
                    w.weights + lane / LANES * s.kernel_y * s.kernel_x * LANES + lane % LANES;
                float* to = out + y * s.out_width * stride + lane;
                const Floats bias = read<Floats>(w.bias + lane);
                for (int64_t x = 0; x < s.out_width; x += TILE) {
                    Floats sums[TILE] = {};
                    float_tile<decltype(kernel)::value, decltype(step)::value>(
                        s, line, lines, x * s.stride_x - s.padding_x, weights, sums);
#pragma GCC unroll 4
                    for (int t = 0; t < TILE; ++t)
                        if (x + t < s.out_width)
                            write(to + (x + t) * stride, clamp(sums[t] + bias, low, high));
                }
            }
        }
    });
}

// N outputs of 16 channels, from where window's first lines and columns are.
template <class Isa, int KERNEL, int STRIDE, int N>
inline void byte_tile(const Sliding& s, const typename Isa::Taps* taps, const int8_t* weights,
                      const uint8_t* at, typename Isa::Accumulator (&sums)[N]) {
    for (int64_t ky = 0; ky < s.kernel_y; ky += QUAD) {
        const uint8_t* lines[QUAD];  // weights are 0 for those behind the last
        for (int64_t i = 0; i < QUAD; ++i)
            lines[i] = at + (ky + i < s.kernel_y ? ky + i : ky) * s.dilation_y * s.width * s.pixel;
        const auto column = [&](int64_t c) {
            const int64_t offset = c * s.pixel;
            return Isa::quads(lines[0] + offset, lines[1] + offset, lines[2] + offset,
                              lines[3] + offset);
        };
        if constexpr (KERNEL > 0) {
#pragma GCC unroll 16
            for (int c = 0; c < (N - 1) * STRIDE + KERNEL; ++c) {
                const auto x = column(c);
#pragma GCC unroll 4
                for (int t = 0; t < N; ++t)
                    if (c >= t * STRIDE && c < t * STRIDE + KERNEL)
                        sums[t] = Isa::dot(sums[t], x, taps[c - t * STRIDE]);
            }
            taps += KERNEL;
        } else {
            for (int64_t kx = 0; kx < s.kernel_x; ++kx, weights += BLOCK_BYTES) {
                const auto tap = Isa::taps(weights);
#pragma GCC unroll 4
                for (int t = 0; t < N; ++t)
                    sums[t] = Isa::dot(sums[t], column(t * s.stride_x + kx * s.dilation_x), tap);
            }
        }
    }
}

template <class Isa, int KERNEL, int STRIDE>
inline void byte_lines(const DepthwiseBytes& w, const Sliding& s, const uint8_t* data, float scale,
                       int32_t zero, int64_t y0, int64_t y1, float* out, int64_t stride) {
    constexpr int64_t MOST = KERNEL > 0 ? 2 * KERNEL : 1;  // quads × columns
    const int64_t quads = (s.kernel_y + QUAD - 1) / QUAD;
    const Floats low = all(w.low), high = all(w.high);
    for (int64_t panel = 0; panel < w.panels; ++panel) {
        const int8_t* weights = w.weights + panel * quads * s.kernel_x * BLOCK_BYTES;
        typename Isa::Taps taps[MOST];
        for (int64_t i = 0; KERNEL > 0 && i < quads * KERNEL; ++i)
            taps[i] = Isa::taps(weights + i * BLOCK_BYTES);
        const auto outputs = [&](const uint8_t* at, float* to, auto tile) {
            constexpr int N = decltype(tile)::value;
            typename Isa::Accumulator sums[N];
#pragma GCC unroll 4
            for (auto& sum : sums) sum = Isa::zero();
            byte_tile<Isa, KERNEL, STRIDE, N>(s, taps, weights, at, sums);
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; ++part) {
                const int64_t lane = panel * LANES + part * WIDTH;
                const Ints offset = read<Ints>(w.sums + lane) * (zero - Isa::OFFSET);
                const Floats scales = read<Floats>(w.scales + lane);
                const Floats bias = read<Floats>(w.bias + lane);
#pragma GCC unroll 4
                for (int t = 0; t < N; ++t) {
                    const Ints sum = Isa::part(sums[t], part) - offset;
                    const Floats y = __builtin_convertvector(sum, Floats) * scales * scale + bias;
                    write(to + t * stride + lane, clamp(y, low, high));
                }
            }
        };
        for (int64_t y = y0; y < y1; ++y) {
            const uint8_t* line = data + y * s.stride_y * s.width * s.pixel + panel * LANES;
            float* to = out + y * s.out_width * stride;
            const auto at = [&](int64_t x, auto tile) {
                outputs(line + x * s.stride_x * s.pixel, to + x * stride, tile);
            };
            if (s.out_width < TILE)
                for (int64_t x = 0; x < s.out_width; ++x) at(x, std::integral_constant<int, 1>());
            else  // the last tile may overlap the one before
                for (int64_t x = 0; x < s.out_width; x += TILE)
                    at(x + TILE <= s.out_width ? x : s.out_width - TILE,
                       std::integral_constant<int, TILE>());
        }
    }
}

template <class Isa>
void depthwise_bytes(const DepthwiseBytes& w, const Sliding& s, const uint8_t* data, float scale,
                     int32_t zero, int64_t y0, int64_t y1, float* out, int64_t stride) {
    if (s.kernel_y > 2 * QUAD)
        return byte_lines<Isa, 0, 0>(w, s, data, scale, zero, y0, y1, out, stride);
    choose_depthwise(s, [&](auto kernel, auto step) {
        byte_lines<Isa, decltype(kernel)::value, decltype(step)::value>(w, s, data, scale, zero, y0,
                                                                        y1, out, stride);
    });
}

}  // namespace
}  // namespace tritbench
