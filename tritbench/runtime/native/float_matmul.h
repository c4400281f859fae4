// Products and convolutions of floats, and attention.

#pragma once

#include "norms.h"

namespace tritbench {
namespace {

// Rows of a tile: their product with its panels in accumulators fills the registers.
constexpr int FLOAT_ROWS = WIDTH == 16 ? 12 : WIDTH == 8 ? 6 : 4;
constexpr int FLOAT_PANELS = 1;

// Apart from what calls it, whose pointers would take its registers.
template <int R, int P>
__attribute__((noinline)) void matmul_tile(const FloatPanels& w, int64_t panel_size, int64_t panel,
                                           const float* data, int64_t step, float* out,
                                           int64_t stride) {
    constexpr int N = P * PARTS;
    Floats sums[R][N] = {};
    const float* weights = w.weights + panel * panel_size;
    for (int64_t tap = 0; tap < w.taps; ++tap) {
        const float* rows[R];
        for (int r = 0; r < R; ++r) rows[r] = data + r * step + (w.offsets ? w.offsets[tap] : 0);
        for (int64_t i = 0; i < w.inputs; ++i, weights += LANES) {
            Floats weight[N];
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
                weight[n] = read<Floats>(weights + n / PARTS * panel_size + n % PARTS * WIDTH);
#pragma GCC unroll 64
            for (int k = 0; k < R * N; ++k)
                sums[k / N][k % N] += all(rows[k / N][i]) * weight[k % N];
        }
    }
    const Floats low = all(w.low), high = all(w.high);
#pragma GCC unroll 64
    for (int k = 0; k < R * N; ++k) {
        const int64_t lane = panel * LANES + k % N * WIDTH;
        Floats y = sums[k / N][k % N];
        if (w.bias) y += read<Floats>(w.bias + lane);
        write_some(out + k / N * stride + lane, w.outputs - lane, clamp(y, low, high));
    }
}

template <int R, int P>
inline void float_rows(const FloatPanels& w, int64_t panel_size, int64_t panel, const float* data,
                       int64_t step, int64_t count, float* out, int64_t stride) {
    for (; count >= R; count -= R, data += R * step, out += R * stride)
        matmul_tile<R, P>(w, panel_size, panel, data, step, out, stride);
    if constexpr (R > 1)
        if (count > 0) float_rows<R / 2, P>(w, panel_size, panel, data, step, count, out, stride);
}

// Panels lie `panel_size` floats apart.
template <int P = FLOAT_PANELS>
inline void multiply(const FloatPanels& w, int64_t panel_size, int64_t panel, const float* data,
                     int64_t step, int64_t count, float* out, int64_t stride) {
    for (; (panel + P - 1) * LANES < w.outputs; panel += P)
        float_rows<FLOAT_ROWS, P>(w, panel_size, panel, data, step, count, out, stride);
    if constexpr (P > 1)
        if (panel * LANES < w.outputs)
            multiply<P / 2>(w, panel_size, panel, data, step, count, out, stride);
}

inline void float_matmul(const FloatPanels& w, const float* data, int64_t step, int64_t count,
                         float* out, int64_t stride) {
    multiply(w, w.taps * w.inputs * LANES, 0, data, step, count, out, stride);
}

inline void pack_panels(const float* from, int64_t inputs, int64_t outputs, int64_t input_stride,
                        int64_t output_stride, float* to) {
    for (int64_t o = 0; o < outputs; o += LANES, to += inputs * LANES) {
        const float* at = from + o * output_stride;
        if (output_stride == 1) {
            for (int64_t i = 0; i < inputs; ++i)
                for (int part = 0; part < LANES; part += WIDTH)
                    write(to + i * LANES + part,
                          read_some(at + i * input_stride + part, outputs - o - part));
            continue;
        }
        for (int64_t l = 0; l < LANES; ++l)
            for (int64_t i = 0; i < inputs; ++i)
                to[i * LANES + l] = o + l < outputs ? at[l * output_stride + i * input_stride] : 0;
    }
}

// Scores to their exponentials; returns what makes their sum 1, or 0 where no key is seen.
inline float weigh(float* scores, int64_t keys, int64_t seen, const float* mask, float scale) {
    if (mask || scale <= 0) {
        map_values(scores, keys, scores, [&](Floats v) { return v * scale; });
        scale = 1;
    }
    if (mask) {
        const Rows own{scores, 0, 1}, other{mask, 0, 1};
        binary(Binary::add, own, other, 1, keys, scores, 0);
    }
    for (int64_t i = seen; i < keys; ++i) scores[i] = -__builtin_inff();
    const float most = greatest(scores, keys) * scale;  // the same as of scaled scores
    if (most > -__builtin_inff()) return 1 / exponentials(scores, keys, scale, most, scores);
    for (int64_t i = 0; i < keys; ++i) scores[i] = scores[i] == scores[i] ? 0 : scores[i];
    return scores[0] == 0 ? 0 : 1;
}

inline void attention(const Attention& a, int64_t q0, int64_t q1, float* room, float* out,
                      int64_t stride) {
    const int64_t lanes = round_up(a.keys, LANES);
    float* keys = room;
    float* values = keys + lanes * a.size;
    float* scores = values + a.keys * round_up(a.value_size, LANES);
    pack_panels(a.key, a.size, a.keys, 1, a.key_stride, keys);
    pack_panels(a.value, a.keys, a.value_size, a.value_stride, 1, values);
    const float endless = __builtin_inff();
    for (int64_t q = q0; q < q1; q += ATTENTION_ROWS) {
        const int64_t rows = q1 - q < ATTENTION_ROWS ? q1 - q : ATTENTION_ROWS;
        const int64_t seen = a.causal && q + rows < a.keys ? q + rows : a.keys;
        const FloatPanels by_key{seen, 1, a.size, nullptr, keys, nullptr, -endless, endless};
        multiply(by_key, a.size * LANES, 0, a.query + q * a.query_stride, a.query_stride, rows,
                 scores, lanes);
        float inverse[ATTENTION_ROWS];
        for (int64_t r = 0; r < rows; ++r)
            inverse[r] = weigh(scores + r * lanes, seen, a.causal ? q + r + 1 : seen,
                               a.mask ? a.mask + (q + r) * a.mask_stride : nullptr, a.scale);
        const FloatPanels by_value{a.value_size, 1,       seen,     nullptr,
                                   values,       nullptr, -endless, endless};
        multiply(by_value, a.keys * LANES, 0, scores, lanes, rows, out + q * stride, stride);
        for (int64_t r = 0; r < rows; ++r) {
            float* row = out + (q + r) * stride;
            map_values(row, a.value_size, row, [&](Floats v) { return v * inverse[r]; });
        }
    }
}

}  // namespace
}  // namespace tritbench
