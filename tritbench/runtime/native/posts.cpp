#include "posts.h"

#include <cmath>

namespace tritbench {
namespace {

// x = f(x) of rows, compiled for what every processor has.
template <class F>
void each(int64_t rows, int64_t count, float* x, int64_t stride, const F& f) {
    for (int64_t r = 0; r < rows; ++r, x += stride)
        for (int64_t i = 0; i < count; ++i) x[i] = f(x[i]);
}

template <class F>
void each_pair(const float* y, int64_t row, int64_t step, int64_t rows, int64_t count, float* x,
               int64_t stride, const F& f) {
    for (int64_t r = 0; r < rows; ++r, x += stride, y += row)
        for (int64_t i = 0; i < count; ++i) x[i] = f(x[i], y[i * step]);
}

// What is rare is computed in float64 and rounded once.
template <class F>
void each_double(int64_t rows, int64_t count, float* x, int64_t stride, const F& f) {
    each(rows, count, x, stride, [&](float v) { return static_cast<float>(f(double{v})); });
}

void apply_unary(const Kernels& kernels, Unary kind, int64_t rows, int64_t count, float* x,
                 int64_t stride) {
    if (stride == count) {
        count *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; ++r, x += stride) kernels.floats.unary(kind, x, count, x);
}

void apply_clamp(const Kernels& kernels, float low, float high, int64_t rows, int64_t count,
                 float* x, int64_t stride) {
    if (stride == count) {
        count *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; ++r, x += stride) kernels.floats.clamp(x, count, low, high, x);
}

bool is_binary(Function function) {
    return function <= Function::minimum || function == Function::prelu;
}

void apply_binary(const Kernels& kernels, Function function, const float* y, int64_t row,
                  int64_t step, int64_t rows, int64_t count, float* x, int64_t stride) {
    const auto fast = [&](Binary kind) {
        if (step > 1) return false;
        const Rows own{x, stride, 1}, other{y, row, step};
        kernels.floats.binary(kind, own, other, rows, count, x, stride);
        return true;
    };
    const auto slow = [&](const auto& f) { each_pair(y, row, step, rows, count, x, stride, f); };
    switch (function) {
        case Function::add:
            if (!fast(Binary::add)) slow([](float a, float b) { return a + b; });
            break;
        case Function::sub:
            if (!fast(Binary::subtract)) slow([](float a, float b) { return a - b; });
            break;
        case Function::rsub:
            slow([](float a, float b) { return b - a; });
            break;
        case Function::mul:
            if (!fast(Binary::multiply)) slow([](float a, float b) { return a * b; });
            break;
        case Function::div:
            if (!fast(Binary::divide)) slow([](float a, float b) { return a / b; });
            break;
        case Function::rdiv:
            slow([](float a, float b) { return b / a; });
            break;
        case Function::maximum:
            slow([](float a, float b) { return a != a || a > b ? a : b; });
            break;
        case Function::minimum:
            slow([](float a, float b) { return a != a || a < b ? a : b; });
            break;
        default:
            slow([](float a, float b) { return a < 0 ? a * b : a; });
    }
}

void apply_rare(const Post& post, int64_t rows, int64_t count, float* x, int64_t stride) {
    const double a = post.a, b = post.b, c = post.c;
    const auto wide = [&](const auto& f) { each_double(rows, count, x, stride, f); };
    switch (post.function) {
        case Function::log:
            return wide([](double v) { return std::log(v); });
        case Function::pow:
            return wide([=](double v) { return std::pow(v, a); });
        case Function::elu:
            return wide([=](double v) { return b * (v > 0 ? v : a * std::expm1(v * c)); });
        case Function::selu:
            return wide([](double v) {
                constexpr double ALPHA = 1.6732632423543772, SCALE = 1.0507009873554805;
                return SCALE * (v > 0 ? v : ALPHA * std::expm1(v));
            });
        case Function::mish:
            return wide(
                [](double v) { return v * std::tanh(v > 40 ? v : std::log1p(std::exp(v))); });
        case Function::softplus:
            return wide([=](double v) { return v * a > b ? v : std::log1p(std::exp(v * a)) / a; });
        default:
            return;
    }
}

}  // namespace

std::vector<Post> read_posts(Reader& reader, int rank) {
    std::vector<Post> posts(as_size(reader.integer(0, 1024, "posts")));
    for (Post& post : posts) {
        post.function = static_cast<Function>(
            reader.integer(0, static_cast<int64_t>(Function::count) - 1, "a function"));
        const int64_t buffer = reader.word();
        post.has_operand = buffer != -1;
        if (post.has_operand) post.operand = reader.view_of(buffer, rank, "an operand");
        require(is_binary(post.function) || !post.has_operand, "an operand too many");
        post.a = reader.number();
        post.b = reader.number();
        post.c = reader.number();
    }
    return posts;
}

void check_posts(const std::vector<Post>& posts, const View& out) {
    for (const Post& post : posts) {
        if (!post.has_operand) continue;
        require(post.operand.rank == out.rank, "an operand of other dimensions");
        for (int i = 0; i < out.rank; ++i)
            require(post.operand.sizes[i] == out.sizes[i], "an operand of another size");
    }
}

void apply(const Kernels& kernels, const Post& post, const float* operand, int64_t row,
           int64_t step, int64_t rows, int64_t count, float* x, int64_t stride) {
    const float a = post.a, b = post.b;
    if (is_binary(post.function)) {
        if (post.has_operand)
            apply_binary(kernels, post.function, operand, row, step, rows, count, x, stride);
        else
            apply_binary(kernels, post.function, &a, 0, 0, rows, count, x, stride);
        return;
    }
    const auto plain = [&](const auto& f) { each(rows, count, x, stride, f); };
    const auto fast = [&](Unary kind) { apply_unary(kernels, kind, rows, count, x, stride); };
    switch (post.function) {
        case Function::relu:
            return apply_clamp(kernels, 0, INFINITY, rows, count, x, stride);
        case Function::leaky_relu:
            return plain([=](float v) { return v < 0 ? v * a : v; });
        case Function::clamp:
            return apply_clamp(kernels, a, b, rows, count, x, stride);
        case Function::abs:
            return plain([](float v) { return std::fabs(v); });
        case Function::neg:
            return plain([](float v) { return -v; });
        case Function::reciprocal:
            return plain([](float v) { return 1.0F / v; });
        case Function::sqrt:
            return plain([](float v) { return std::sqrt(v); });
        case Function::rsqrt:
            return plain([](float v) { return 1.0F / std::sqrt(v); });
        case Function::hardswish:
            return fast(Unary::hardswish);
        case Function::hardsigmoid:
            return fast(Unary::hardsigmoid);
        case Function::exp:
            return fast(Unary::exp);
        case Function::sigmoid:
            return fast(Unary::sigmoid);
        case Function::silu:
            return fast(Unary::silu);
        case Function::tanh:
            return fast(Unary::tanh);
        case Function::gelu:
            return fast(Unary::gelu);
        case Function::gelu_tanh:
            return fast(Unary::gelu_tanh);
        case Function::erf:
            return fast(Unary::erf);
        default:
            return apply_rare(post, rows, count, x, stride);
    }
}

void apply_to_rows(const Run& run, const std::vector<Post>& posts, int64_t image, const View& out,
                   int64_t first, int64_t rows, float* x, int64_t stride) {
    const int64_t height = out.sizes[1], width = out.sizes[2], count = out.sizes[3];
    for (const Post& post : posts) {
        const Kernels& kernels = *run.program.kernels;
        if (!post.has_operand) {
            apply(kernels, post, nullptr, 0, 0, rows, count, x, stride);
            continue;
        }
        const int64_t* strides = post.operand.strides;
        const float* operand = run.at(post.operand, image);
        // Rows follow each other evenly, or up to the end of a line.
        const bool tokens = height == 1 && width == 1;
        const int64_t step = tokens ? strides[0] : width == 1 ? strides[1] : strides[2];
        const int64_t line_step = height == 1 ? width * strides[2] : strides[1];
        const bool even = tokens || ((width == 1 || line_step == width * strides[2]) &&
                                     (out.sizes[0] == 1 || strides[0] == height * line_step));
        int64_t row = first;
        while (row < first + rows) {
            const int64_t line = row / width, map = line / height;
            int64_t some = first + rows - row;
            if (!even) some = std::min(some, (line + 1) * width - row);
            apply(
                kernels, post,
                operand + map * strides[0] + line % height * strides[1] + row % width * strides[2],
                step, strides[3], some, count, x + (row - first) * stride, stride);
            row += some;
        }
    }
}

}  // namespace tritbench
