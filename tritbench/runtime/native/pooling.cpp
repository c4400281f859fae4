// Pools of maps [maps, height, width, channels].

#include <algorithm>
#include <limits>

#include "context.h"
#include "steps.h"

namespace tritbench {
namespace {

class Pool : public Step {
  public:
    explicit Pool(Reader& r) {
        x_ = r.view(4, "x");
        int64_t kernel[2], stride[2], padding[2], dilation[2];
        r.sizes(kernel, 2, 1, "a kernel");
        r.sizes(stride, 2, 1, "a stride");
        r.sizes(padding, 2, 0, "padding");
        r.sizes(dilation, 2, 1, "dilation");
        average_ = r.flag("average");
        include_padding_ = r.flag("include_padding");
        divisor_ = r.integer(0, LARGEST, "a divisor");
        out_ = r.writable_view(4, "out");
        window_ = {x_.sizes[1], x_.sizes[2], x_.sizes[3], kernel[0],   kernel[1],   stride[0],
                   stride[1],   padding[0],  padding[1],  dilation[0], dilation[1], out_.sizes[2]};
        require(out_.sizes[0] == x_.sizes[0] && out_.sizes[3] == x_.sizes[3],
                "out has another size");
        require_dense(x_);
        require_dense(out_);
    }

    void run(const Run& run) const override {
        const int64_t maps = x_.sizes[0], lines = out_.sizes[1];
        const double time = static_cast<double>(window_.out_width * window_.pixel *
                                                window_.kernel_y * window_.kernel_x) /
                            8;
        run.parallel(run.images * maps * lines, time, 1, [&](int64_t from, int64_t end, uint8_t*) {
            while (from < end) {
                const int64_t line = from % lines, map = from / lines % maps;
                const int64_t count = std::min(end - from, lines - line);
                pool(run, from / lines / maps, map, line, line + count);
                from += count;
            }
        });
    }

  private:
    static void require_dense(const View& view) {
        int64_t stride = 1;
        for (int d = 3; d >= 0; --d) {
            require(view.sizes[d] == 1 || view.strides[d] == stride, "maps with gaps");
            stride = multiplied(stride, view.sizes[d]);
        }
    }

    void pool(const Run& run, int64_t image, int64_t map, int64_t y0, int64_t y1) const {
        const FloatKernels& kernels = run.program.kernels->floats;
        const float* from = run.at(x_, image) + map * x_.strides[0];
        float* to = run.at(out_, image) + map * out_.strides[0];
        if (average_)
            kernels.average_pool(window_, include_padding_, divisor_, from, y0, y1, to);
        else
            kernels.max_pool(window_, from, y0, y1, to);
    }

    View x_, out_;
    Sliding window_;
    bool average_, include_padding_;
    int64_t divisor_;
};

class AdaptivePool : public Step {
  public:
    explicit AdaptivePool(Reader& r) {
        x_ = r.view(4, "x");
        height_ = r.constant_count();
        top_ = r.constant<int32_t>(height_, "top");
        bottom_ = r.constant<int32_t>(height_, "bottom");
        width_ = r.constant_count();
        left_ = r.constant<int32_t>(width_, "left");
        right_ = r.constant<int32_t>(width_, "right");
        average_ = r.flag("average");
        out_ = r.writable_view(4, "out");
        for (const View* view : {&x_, &out_})
            require(view->strides[3] == 1 || view->sizes[3] == 1, "channels with gaps");
        require(out_.sizes[0] == x_.sizes[0] && out_.sizes[1] == height_ &&
                    out_.sizes[2] == width_ && out_.sizes[3] == x_.sizes[3],
                "out has another size");
        for (int64_t y = 0; y < height_; ++y)
            require(top_[y] >= 0 && top_[y] < bottom_[y] && bottom_[y] <= x_.sizes[1],
                    "rows outside of the map");
        for (int64_t x = 0; x < width_; ++x)
            require(left_[x] >= 0 && left_[x] < right_[x] && right_[x] <= x_.sizes[2],
                    "columns outside of the map");
    }

    void run(const Run& run) const override {
        const int64_t maps = x_.sizes[0];
        const double time = static_cast<double>(x_.sizes[1] / height_ + 1) *
                            static_cast<double>(x_.sizes[2] * x_.sizes[3]) / 4;
        run.parallel(
            run.images * maps * height_, time, 1, [&](int64_t from, int64_t end, uint8_t*) {
                for (; from < end; ++from) {
                    const int64_t m = from / height_ % maps;
                    pool_line(run.at(x_, from / height_ / maps) + m * x_.strides[0], from % height_,
                              run.at(out_, from / height_ / maps) + m * out_.strides[0]);
                }
            });
    }

  private:
    void pool_line(const float* from, int64_t y, float* to) const {
        to += y * out_.strides[1];
        for (int64_t x = 0; x < width_; ++x, to += out_.strides[2]) {
            if (!average_) {
                fold(from, y, x, -std::numeric_limits<float>::infinity(), to,
                     [](float a, float v) { return a != a || a > v ? a : v; });
                continue;
            }
            fold(from, y, x, 0, to, [](float a, float v) { return a + v; });
            const auto count =
                static_cast<float>(int64_t{bottom_[y] - top_[y]} * (right_[x] - left_[x]));
            for (int64_t c = 0; c < x_.sizes[3]; ++c) to[c] /= count;
        }
    }

    template <class F>
    void fold(const float* from, int64_t y, int64_t x, float start, float* to, const F& f) const {
        const int64_t channels = x_.sizes[3];
        std::fill_n(to, channels, start);
        for (int64_t row = top_[y]; row < bottom_[y]; ++row)
            for (int64_t column = left_[x]; column < right_[x]; ++column) {
                const float* at = from + row * x_.strides[1] + column * x_.strides[2];
                for (int64_t c = 0; c < channels; ++c) to[c] = f(to[c], at[c]);
            }
    }

    View x_, out_;
    int64_t height_, width_;
    const int32_t *top_, *bottom_, *left_, *right_;
    bool average_;
};

}  // namespace

std::unique_ptr<Step> make_Pool(Reader& r) { return std::make_unique<Pool>(r); }
std::unique_ptr<Step> make_AdaptivePool(Reader& r) { return std::make_unique<AdaptivePool>(r); }

}  // namespace tritbench
