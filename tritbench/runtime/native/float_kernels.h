// Operations beside the ternary products, for each instruction set. All give the same bits, those
// of runtime/float_reference.py: every operation is rounded on its own, and a sum has one order.
// A sum "in 16 lanes" adds its i-th value to lane i % 16, and then halves of the lanes to each
// other: l + (l + 8), l + (l + 4), l + (l + 2), l + (l + 1). Other sums go from first to last.
//
// Maps are channels-last: [height][width][channels]. "Panels" are of 16 outputs or channels, the
// last of which is filled up with zeros.

#pragma once

#include <cstdint>

namespace tritbench {

// A window that moves over a map. `pixel` elements lie from one pixel to the next, `width × pixel`
// from line to line. What lies outside of the map does not count.
struct Sliding {
    int64_t height, width, pixel;
    int64_t kernel_y, kernel_x;
    int64_t stride_y, stride_x;
    int64_t padding_y, padding_x;
    int64_t dilation_y, dilation_x;
    int64_t out_width;
};

// Depthwise weights of 8 bits; outputs are clamped to low..high. Taps of a column are taken by
// fours, QUAD, with zeros behind the last.
constexpr int64_t QUAD = 4;
struct DepthwiseBytes {
    int64_t panels;
    const int8_t* weights;  // [panels][⌈kernel_y / 4⌉][kernel_x][16 channels][4], aligned to 64
    const float* scales;    // [panels × 16]
    const int32_t* sums;    // [panels × 16]: of the weights
    const float* bias;      // [panels × 16]
    float low, high;
};

struct DepthwiseFloats {
    int64_t panels;
    const float* weights;  // [panels][kernel_y][kernel_x][16]
    const float* bias;     // [panels × 16]
    float low, high;
};

// Weights of a product or convolution. An output is Σ over taps, then inputs of a tap, of
// data[offsets[tap] + input] × weight, plus bias, clamped to low..high.
struct FloatPanels {
    int64_t outputs;         // ⌈outputs / 16⌉ panels
    int64_t taps;            // 1 for a product
    int64_t inputs;          // of a tap
    const int64_t* offsets;  // [taps]
    const float* weights;    // [panels][taps][inputs][16]
    const float* bias;       // [panels × 16], or null
    float low, high;
};

// One head: softmax(scale × query · keyᵀ + mask) · value. Strides are of rows, in floats.
struct Attention {
    int64_t queries, keys, size, value_size;
    const float *query, *key, *value;
    int64_t query_stride, key_stride, value_stride;
    const float* mask;  // [queries][keys], or null; -infinity where nothing is to be seen
    int64_t mask_stride;
    bool causal;  // query i sees the keys up to i
    float scale;
};

constexpr int64_t ATTENTION_ROWS = 24;  // queries whose scores are held at once
constexpr int64_t round_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// Floats of `room` that `attention` takes: keys and values in panels, scores of some queries.
constexpr int64_t attention_room(int64_t keys, int64_t size, int64_t value_size) {
    return round_up(keys, 16) * size + keys * round_up(value_size, 16) +
           ATTENTION_ROWS * (round_up(keys, 16) + round_up(value_size, 16));
}

enum class Unary : int32_t {
    exp,
    sigmoid,
    silu,
    tanh,
    erf,
    gelu,       // by erf
    gelu_tanh,  // its approximation
    hardsigmoid,
    hardswish,
};

enum class Binary : int32_t { add, subtract, multiply, divide, maximum, minimum };

// Rows of `count` values. Row r of an operand begins at r × stride (0: the same for all), and its
// values are `step` apart: 1, or 0 for one value that counts for the whole row.
struct Rows {
    const float* data;
    int64_t stride, step;
};

struct FloatKernels {
    // Lines y0..y1 of the outputs: [out_width][panels × 16], `stride` floats from one pixel to the
    // next, all of `out` beginning at line 0. (Σ weight·(data - zero) × weights' scale) × scale +
    // bias. The map has its padding in it, and 64 readable bytes behind it.
    void (*depthwise_bytes)(const DepthwiseBytes& weights, const Sliding& window,
                            const uint8_t* data, float scale, int32_t zero, int64_t y0, int64_t y1,
                            float* out, int64_t stride);

    // The same: Σ over the window's lines, then columns, of data × weight, plus bias.
    void (*depthwise_floats)(const DepthwiseFloats& weights, const Sliding& window,
                             const float* data, int64_t y0, int64_t y1, float* out, int64_t stride);

    // `count` rows of data, `step` floats apart, to rows of outputs, `stride` apart.
    void (*matmul)(const FloatPanels& weights, const float* data, int64_t step, int64_t count,
                   float* out, int64_t stride);

    // [inputs][outputs], with these strides, as FloatPanels has weights.
    void (*pack_panels)(const float* from, int64_t inputs, int64_t outputs, int64_t input_stride,
                        int64_t output_stride, float* to);

    // Queries q0..q1; row 0 of `out` is that of query 0. A query that sees no key gets zeros.
    void (*attention)(const Attention& head, int64_t q0, int64_t q1, float* room, float* out,
                      int64_t stride);

    // Rows of `count` values, strides in floats. Weight and bias may be null.
    void (*layer_norm)(const float* from, int64_t rows, int64_t count, int64_t from_stride,
                       const float* weight, const float* bias, float eps, float* to,
                       int64_t to_stride);
    void (*softmax)(const float* from, int64_t rows, int64_t count, int64_t from_stride,
                    bool logarithm, float* to, int64_t to_stride);

    // A map of `pixels` × `channels`, channels in groups of neighbours.
    void (*group_norm)(const float* from, int64_t pixels, int64_t channels, int64_t groups,
                       int64_t from_stride, const float* weight, const float* bias, float eps,
                       float* to, int64_t to_stride);

    void (*unary)(Unary kind, const float* from, int64_t count, float* to);
    void (*clamp)(const float* from, int64_t count, float low, float high, float* to);
    void (*binary)(Binary kind, const Rows& a, const Rows& b, int64_t rows, int64_t count,
                   float* to, int64_t to_stride);

    // Lines y0..y1 of pooled maps; channels as many as `pixel`. An average is Σ / count of the
    // window, with the padding where `include_padding`, or Σ / `divisor` where that is not 0.
    void (*max_pool)(const Sliding& window, const float* data, int64_t y0, int64_t y1, float* out);
    void (*average_pool)(const Sliding& window, bool include_padding, int64_t divisor,
                         const float* data, int64_t y0, int64_t y1, float* out);
    // Of each channel over all pixels.
    void (*mean)(const float* data, int64_t pixels, int64_t channels, int64_t stride, float* out);
};

}  // namespace tritbench
