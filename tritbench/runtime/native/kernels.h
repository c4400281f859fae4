// What one instruction set provides. Each implements the same table; `generic` is plain C++.
//
// Weights are panels of 16 outputs. Along its inputs a panel is cut into blocks of 64 bytes, each
// holding 16 outputs × 4 dwords × 4 inputs at 2 bits: byte 4·output + i holds, in its bits 2d and
// 2d+1, the trit (two's complement: 00 = 0, 01 = +1, 11 = -1) of input i of dword d. A dword of
// four activations lies at offsets[4·block + d] from a row's data; where fewer than four are
// wanted, the others meet zero trits. So one kernel serves dense layers, convolutions without
// im2col, any order of the inputs and groups of any size.

#pragma once

#include <cstdint>
#include <string>

#include "float_kernels.h"

namespace tritbench {

constexpr int LANES = 16;  // outputs in a panel
constexpr int DWORDS = 4;  // in a block
constexpr int DWORD_INPUTS = 4;
constexpr int BLOCK_BYTES = 64;  // of packed trits
constexpr int POOLED_ROWS = 4;   // a window of 2×2

struct Weights {
    int64_t panels;
    int64_t blocks;
    int64_t groups;
    const uint8_t* codes;         // [panels][blocks][64], aligned to 64 bytes
    const int32_t* offsets;       // [blocks][4]
    const int32_t* group_blocks;  // [groups]: the block after a group's last
    const float* scales;          // [groups][panels × 16], none negative
    const int32_t* sums;          // [groups][panels × 16]: sums of trits
    float low, high;              // of an output
    int64_t outputs;              // that are written, of the panels' 16 each
};

// A block with a byte for each trit, as an instruction set wants it.
struct alignas(BLOCK_BYTES) Decoded {
    uint8_t bytes[DWORDS][BLOCK_BYTES];
};

// One row of activations; x ≈ scale × (data - zero) for uint8, x = data for float.
template <class T>
struct Row {
    const T* data;
    float scale;
    int32_t zero;
    const float* bias;  // [panels × 16]
};

struct Window {
    int64_t height, width, step_y, step_x;
};

struct Kernels {
    const char* name;

    // out[r][output] = (Σ_groups float(Σ trit·(data - zero)) × scale) × row scale + bias, each
    // operation rounded on its own, for `count` rows; `stride` floats from row to row of `out`.
    // `pool` makes one row of each POOLED_ROWS, which differ in their data and
    // bias alone: the greatest. `room` is for as many blocks as the weights have.
    void (*matmul)(const Weights& weights, const Row<uint8_t>* rows, int64_t count, bool pool,
                   Decoded* room, float* out, int64_t stride);

    // The same for weights of 8 bits: `codes` are [panels][blocks] of Decoded.
    void (*matmul_bytes)(const Weights& weights, const Row<uint8_t>* rows, int64_t count, bool pool,
                         float* out, int64_t stride);

    // The same as `matmul` for float activations, with nothing but additions and subtractions in
    // the sums.
    void (*matmul_exact)(const Weights& weights, const Row<float>* rows, int64_t count, float* out,
                         int64_t stride);

    // The least and greatest of 0 and `count` values; false where one is NaN or infinite.
    bool (*range)(const float* values, int64_t count, float* low, float* high);

    // min(round_half_even(value × inverse) + zero, 255), for values that give 0 at least; what is
    // not finite gives anything.
    void (*quantize)(const float* values, int64_t count, float inverse, int32_t zero, uint8_t* out);

    // clamp(round_half_even(value × inverse) + zero, 0, 255) of any values; false where one is NaN
    // or infinite, which gives anything.
    bool (*requantize)(const float* values, int64_t count, float inverse, int32_t zero,
                       uint8_t* out);

    // A row of `count` windows over maps [..., lanes]; `row` floats from one input row to the next,
    // `lanes` a multiple of 16.
    void (*max_pool)(const float* from, int64_t row, int64_t lanes, const Window& window,
                     int64_t count, float* to);

    // out = (value - mean) / std; false where a value is NaN or infinite.
    bool (*normalize)(const float* values, int64_t count, float mean, float std, float* out);

    // Reads `bytes` bytes, for measuring how fast they can be had.
    int32_t (*read_bytes)(const uint8_t* from, int64_t bytes);

    FloatKernels floats;
};

// The kernels of an instruction set, or null where this build or machine lacks it. `ISAS` names
// them, best first.
constexpr const char* ISAS[] = {"avx512vnni", "avxvnni", "avx2", "neon", "generic"};
const Kernels* find_kernels(const std::string& name);

}  // namespace tritbench
