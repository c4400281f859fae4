// A network as stages: activations, times ternary weights, then what follows up to the next
// weights. `plan.py` makes them; `validate` refuses what would read or write out of bounds.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels.h"

namespace tritbench {

enum class OpKind : int32_t { relu = 0, affine = 1, max_pool = 2, average_pool = 3 };

struct Op {
    OpKind kind;
    Window window;                   // of a pool
    std::vector<float> scale, bias;  // of affine, for each channel or [height, width, channels]
};

// What differs between inputs that are floats (or quantized floats) and those that are pixels.
struct Epilogue {
    std::vector<float> scales;  // [groups][panels × 16]
    std::vector<float> bias;    // [classes][panels × 16]
};

struct Stage {
    // The input: maps [height, width, channels], or [channels, height, width] where `planar`, with
    // `pad` zeros around.
    int64_t channels, height, width, pad_y, pad_x;
    bool planar;
    // One row of the product for each output position; a dense layer has one.
    int64_t outputs, out_height, out_width, step_y, step_x;
    bool relu;
    std::vector<uint8_t> code_bytes;    // `codes` with room to align them
    const uint8_t* codes;               // [panels][blocks][64]
    std::vector<int32_t> offsets;       // [blocks][4]
    std::vector<int32_t> group_blocks;  // [groups]
    std::vector<int32_t> sums;          // [groups][panels × 16]
    // The pixels' epilogue; its bias depends on which weights meet padding:
    // its class is row_class[y] + column_class[x].
    Epilogue values, pixels;
    std::vector<int32_t> row_class, column_class;
    std::vector<Op> ops;  // on what the product gives

    int64_t panels() const { return (outputs + LANES - 1) / LANES; }
    int64_t lanes() const { return panels() * LANES; }
    int64_t positions() const { return out_height * out_width; }
    // Elements of one padded input; reading a dword may touch three more.
    int64_t padded() const { return channels * (height + 2 * pad_y) * (width + 2 * pad_x); }
    // The least number of elements that holds all which may be read.
    int64_t reach() const;
    Weights weights(bool from_pixels) const;
};

struct Network {
    int64_t channels, height, width;  // of an image
    float mean, std;                  // of pixels in 0..1
    std::vector<Op> input_ops;        // before the first weights; maps [height, width, channels]
    std::vector<Stage> stages;
    std::vector<int32_t> order;  // of each logit in the last map
    bool ordered;                // logits lie there one after another from 0 on
    bool exact;                  // float activations instead of 8 bits
    int threads;
    const Kernels* kernels;

    int64_t image_size() const { return channels * height * width; }
    int64_t products() const;  // multiplications for one image, with what padding adds
};

// Throws std::invalid_argument, saying which stage and what is wrong.
void validate(const Network& network);

// Logits [count, order.size()] of uint8 pixels or of floats in 0..1, [count, image_size]. Safe to
// call from several threads.
void run(const Network& network, const uint8_t* pixels, int64_t count, float* logits);
void run(const Network& network, const float* images, int64_t count, float* logits);

}  // namespace tritbench
