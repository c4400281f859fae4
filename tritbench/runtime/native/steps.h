// The kinds of steps, one line each, in the order of their numbers; names and words are those of
// the dataclasses in steps.py.

#pragma once

#include "reader.h"

namespace tritbench {

#define TRITBENCH_STEPS(STEP) \
    STEP(Check)               \
    STEP(Normalize)           \
    STEP(Indices)             \
    STEP(PlacePixels)         \
    STEP(Quantize)            \
    STEP(Pad)                 \
    STEP(Product)             \
    STEP(FloatProduct)        \
    STEP(Depthwise)           \
    STEP(Elementwise)         \
    STEP(Reduce)              \
    STEP(Pool)                \
    STEP(AdaptivePool)        \
    STEP(Softmax)             \
    STEP(LayerNorm)           \
    STEP(GroupNorm)           \
    STEP(Attention)           \
    STEP(MatMul)              \
    STEP(Copy)                \
    STEP(Gather)              \
    STEP(Embedding)

#define TRITBENCH_DECLARE(NAME) std::unique_ptr<Step> make_##NAME(Reader& reader);
TRITBENCH_STEPS(TRITBENCH_DECLARE)
#undef TRITBENCH_DECLARE

std::unique_ptr<Step> make_step(int64_t kind, Reader& reader);

}  // namespace tritbench
