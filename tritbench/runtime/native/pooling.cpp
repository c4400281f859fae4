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
        require(x_.strides[3] == 1 || x_.sizes[3] == 1, "channels with gaps");
        height_ = r.constant_count();
        top_ = r.constant<int32_t>(height_, "top");
        bottom_ = r.constant<int32_t>(height_, "bottom");
        width_ = r.constant_count();
        left_ = r.constant<int32_t>(width_, "left");
        right_ = r.constant<int32_t>(width_, "right");
        r.sizes(step_, 2, 1, "a step");
        average_ = r.flag("average");
        row_divisors_ = r.constant<float>(height_, "row_divisors");
        column_divisors_ = r.constant<float>(width_, "column_divisors");
        out_ = r.writable_view(4, "out");
        require(out_.sizes[0] == x_.sizes[0] && out_.sizes[1] == height_ &&
                    out_.sizes[2] == width_ && out_.sizes[3] == x_.sizes[3] &&
                    (out_.strides[3] == 1 || out_.sizes[3] == 1),
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
        const double time = static_cast<double>(width_ * x_.sizes[3]);
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
        const int64_t channels = x_.sizes[3];
        for (int64_t x = 0; x < width_; ++x, to += out_.strides[2]) {
            if (average_) {
                fold(from, y, x, 0, to, [](float a, float v) { return a + v; });
                const float divisor = row_divisors_[y] * column_divisors_[x];
                for (int64_t c = 0; c < channels; ++c) to[c] /= divisor;
            } else {
                fold(from, y, x, -std::numeric_limits<float>::infinity(), to,
                     [](float a, float v) { return a != a || a > v ? a : v; });
            }
        }
    }

    template <class F>
    void fold(const float* from, int64_t y, int64_t x, float start, float* to, const F& f) const {
        const int64_t channels = x_.sizes[3];
        std::fill_n(to, channels, start);
        for (int64_t row = top_[y]; row < bottom_[y]; row += step_[0])
            for (int64_t column = left_[x]; column < right_[x]; column += step_[1]) {
                const float* at = from + row * x_.strides[1] + column * x_.strides[2];
                for (int64_t c = 0; c < channels; ++c) to[c] = f(to[c], at[c]);
            }
    }

    View x_, out_;
    int64_t height_, width_, step_[2];
    const int32_t *top_, *bottom_, *left_, *right_;
    bool average_;
    const float *row_divisors_, *column_divisors_;
};

}  // namespace

std::unique_ptr<Step> make_Pool(Reader& r) { return std::make_unique<Pool>(r); }

}  // namespace tritbench
