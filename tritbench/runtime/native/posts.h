// Elementwise functions: of what a step gives, before it is written elsewhere (native `Post`s).

#pragma once

#include "context.h"
#include "reader.h"

namespace tritbench {

// In the order of FUNCTIONS in steps.py.
enum class Function : int64_t {
    add,
    sub,
    rsub,
    mul,
    div,
    rdiv,
    maximum,
    minimum,
    relu,
    leaky_relu,
    clamp,
    hardswish,
    hardsigmoid,
    abs,
    neg,
    reciprocal,
    sqrt,
    rsqrt,
    exp,
    log,
    pow,
    sigmoid,
    silu,
    tanh,
    gelu,
    gelu_tanh,
    erf,
    elu,
    selu,
    mish,
    softplus,
    prelu,
    count
};

struct Post {
    Function function;
    bool has_operand;
    View operand;
    float a, b, c;
};

// Posts whose operands have the sizes of `out`.
std::vector<Post> read_posts(Reader& reader, int rank);
void check_posts(const std::vector<Post>& posts, const View& out);

// x = function(x), where rows of an operand lie `row` floats apart and its values `step` (0 or
// more) apart.
void apply(const Kernels& kernels, const Post& post, const float* operand, int64_t row,
           int64_t step, int64_t rows, int64_t count, float* x, int64_t stride);

// All posts of rows first..first + rows of maps [maps, height, width, channels], which lie at `x`.
void apply_to_rows(const Run& run, const std::vector<Post>& posts, int64_t image, const View& out,
                   int64_t first, int64_t rows, float* x, int64_t stride);

}  // namespace tritbench
