// Products of floats, depthwise convolutions, and attention.

#include <algorithm>
#include <limits>

#include "context.h"
#include "posts.h"
#include "ranges.h"
#include "requantize.h"
#include "steps.h"
#include "windows.h"

namespace tritbench {
namespace {

constexpr double FLOAT_PRODUCTS = 30;  // a nanosecond
constexpr float ENDLESS = std::numeric_limits<float>::infinity();

class FloatProduct : public Step {
  public:
    explicit FloatProduct(Reader& r) {
        data_ = r.buffer();
        windows_ = read_windows(r);
        outputs_ = r.size("outputs");
        inputs_ = r.size("inputs");
        taps_ = r.constant_count();
        require(taps_ >= 1 && taps_ <= LARGEST, "no offsets");
        offsets_ = r.constant<int64_t>(taps_, "offsets");
        int64_t reach = 0;
        for (int64_t t = 0; t < taps_; ++t) {
            require(offsets_[t] >= 0 && offsets_[t] <= MOST, "an offset below 0");
            reach = std::max(reach, offsets_[t]);
        }
        const int64_t lanes = multiplied(windows_.groups, panels() * LANES);
        weights_ = r.constant<float>(multiplied(multiplied(taps_, inputs_), lanes), "weights");
        bias_ = r.constant<float>(lanes, "bias");
        low_ = r.number();
        high_ = r.number();
        posts_ = read_posts(r, 4);
        out_ = read_maps(r, windows_.maps, windows_.height, windows_.width,
                         windows_.groups * outputs_);
        check_posts(posts_, out_);
        r.require_readable(data_, multiplied(windows_.last() + reach + inputs_, 1), Type::float32);
        // Rows that follow each other evenly are one line.
        line_ = windows_;
        if (line_.height == 1 || line_.line == line_.width * line_.pixel) {
            if (line_.width == 1) line_.pixel = line_.line;
            line_.width *= line_.height;
            line_.height = 1;
        }
        if (line_.height == 1 &&
            (line_.maps == 1 || line_.width == 1 || line_.map_size == line_.width * line_.pixel)) {
            if (line_.width == 1) line_.pixel = line_.map_size;
            line_.width *= line_.maps;
            line_.maps = 1;
        }
    }

    void run(const Run& run) const override {
        const int64_t rows = line_.rows(), columns = windows_.groups * outputs_;
        const double products = static_cast<double>(columns * taps_ * inputs_);
        const int64_t chunk =
            posts_.empty() ? rows
                           : std::max<int64_t>((int64_t{32} << 10) / (columns * 4) / 6 * 6, 12);
        run.parallel(run.images * rows, products / FLOAT_PRODUCTS, 6,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         while (from < end) {
                             const int64_t row = from % rows;
                             const int64_t count =
                                 std::min({end - from, chunk, line_.width - row % line_.width});
                             multiply(run, from / rows, row, count);
                             from += count;
                         }
                     });
    }

  private:
    int64_t panels() const { return (outputs_ + LANES - 1) / LANES; }

    void multiply(const Run& run, int64_t image, int64_t row, int64_t count) const {
        const int64_t columns = windows_.groups * outputs_;
        float* out = run.at(out_, image) + row * columns;
        const float* data = run.at<float>(data_, image) + line_.at(row);
        const int64_t size = panels() * taps_ * inputs_ * LANES;
        for (int64_t g = 0; g < windows_.groups; ++g) {
            const FloatPanels weights{outputs_,
                                      taps_,
                                      inputs_,
                                      offsets_,
                                      weights_ + g * size,
                                      bias_ + g * panels() * LANES,
                                      low_,
                                      high_};
            run.program.kernels->floats.matmul(weights, data + g * windows_.group, line_.pixel,
                                               count, out + g * outputs_, columns);
        }
        apply_to_rows(run, posts_, image, out_, row, count, out, columns);
    }

    int64_t data_, outputs_, inputs_, taps_;
    Windows windows_, line_;
    const int64_t* offsets_;
    const float *weights_, *bias_;
    float low_, high_;
    std::vector<Post> posts_;
    View out_;
};

class Depthwise : public Step {
  public:
    explicit Depthwise(Reader& r) {
        data_ = r.buffer();
        scale_ = r.integer(-1, MOST, "scale");
        zero_ = r.integer(-1, MOST, "zero");
        bytes_ = scale_ >= 0;
        base_ = r.integer(0, MOST, "a base");
        maps_ = r.size("maps");
        int64_t size[5], kernel[2], stride[2], padding[2], dilation[2];
        r.sizes(size, 5, 1, "a size");
        r.sizes(kernel, 2, 1, "a kernel");
        r.sizes(stride, 2, 1, "a stride");
        r.sizes(padding, 2, 0, "padding");
        r.sizes(dilation, 2, 1, "dilation");
        window_ = {size[0],   size[1],    size[2],    kernel[0],   kernel[1],   stride[0],
                   stride[1], padding[0], padding[1], dilation[0], dilation[1], size[4]};
        lines_ = size[3];
        map_size_ = multiplied(multiplied(size[0], size[1]), size[2]);
        read_weights(r);
        low_ = r.number();
        high_ = r.number();
        posts_ = read_posts(r, 4);
        ranges_ = r.integer(-1, MOST, "ranges");
        if (ranges_ >= 0) check_ranges(r, ranges_, multiplied(maps_, lines_));
        requantize_.read(r);
        out_ = read_maps(r, maps_, lines_, window_.out_width, window_.pixel, requantize_.present());
        check_posts(posts_, out_);
        requantize_.check(r, out_);
        require(ranges_ < 0 || out_.buffer >= 0, "ranges of what is not kept");
        check_data(r);
    }

    int64_t scratch() const override {
        return whole() && out_.buffer >= 0
                   ? 0
                   : window_.out_width * panels() * LANES * int64_t{sizeof(float)};
    }

    void run(const Run& run) const override {
        const double products = static_cast<double>(window_.out_width * window_.pixel *
                                                    window_.kernel_y * window_.kernel_x);
        run.parallel(run.images * maps_ * lines_, products / FLOAT_PRODUCTS, 1,
                     [&](int64_t from, int64_t end, uint8_t* scratch) {
                         const bool plain =
                             whole() && posts_.empty() && ranges_ < 0 && !requantize_.present();
                         const int64_t some = plain ? lines_ : 1;
                         while (from < end) {
                             const int64_t line = from % lines_;
                             const int64_t count = std::min({end - from, some, lines_ - line});
                             const int64_t map = from / lines_ % maps_;
                             convolve(run, from / lines_ / maps_, map, line, count, scratch);
                             from += count;
                         }
                     });
    }

  private:
    int64_t panels() const { return (window_.pixel + LANES - 1) / LANES; }
    bool whole() const { return window_.pixel % LANES == 0; }

    void read_weights(Reader& r) {
        const int64_t lanes = panels() * LANES;
        if (bytes_) {
            const int64_t quads = (window_.kernel_y + QUAD - 1) / QUAD;
            byte_weights_ = r.constant<int8_t>(
                multiplied(multiplied(lanes, quads * QUAD), window_.kernel_x), "weights");
        } else {
            float_weights_ = r.constant<float>(
                multiplied(multiplied(lanes, window_.kernel_y), window_.kernel_x), "weights");
        }
        scales_ = r.constant<float>(bytes_ ? lanes : 0, "scales");
        sums_ = r.constant<int32_t>(bytes_ ? lanes : 0, "sums");
        bias_ = r.constant<float>(lanes, "bias");
        const int64_t taps = multiplied(window_.kernel_y, window_.kernel_x);
        require(!bytes_ || taps < 1 << 15, "a kernel that is too large");
        for (int64_t i = 0; bytes_ && i < lanes; ++i)
            require(sums_[i] >= -128 * taps && sums_[i] <= 128 * taps, "a sum that cannot be");
    }

    // Taps outside of a map count only where the map has no padding in it.
    void check_data(Reader& r) const {
        const Sliding& s = window_;
        require(!bytes_ || (s.padding_y == 0 && s.padding_x == 0), "padding of bytes");
        const int64_t y = (lines_ - 1) * s.stride_y + (s.kernel_y - 1) * s.dilation_y - s.padding_y;
        const int64_t x =
            (s.out_width - 1) * s.stride_x + (s.kernel_x - 1) * s.dilation_x - s.padding_x;
        const int64_t last = bytes_ ? multiplied(y * s.width + x, s.pixel) + s.pixel : map_size_;
        require(y <= MOST && x <= MOST, "sizes that are too large");
        const int64_t reach = multiplied(maps_ - 1, map_size_) + last;
        r.require_readable(data_, multiplied(base_ + reach, 1),
                           bytes_ ? Type::uint8 : Type::float32, BLOCK_BYTES);
        check_scales(r, scale_, zero_, maps_);
    }

    void convolve(const Run& run, int64_t image, int64_t map, int64_t line, int64_t count,
                  uint8_t* scratch) const {
        const int64_t channels = window_.pixel, row = (map * lines_ + line) * window_.out_width;
        const bool kept = out_.buffer >= 0;
        const int64_t stride = panels() * LANES, rows = count * window_.out_width;
        float* out = kept ? run.at(out_, image) + row * channels : nullptr;
        float* to = whole() && kept ? out : reinterpret_cast<float*>(scratch);
        float* origin = to - line * window_.out_width * stride;  // of line 0
        const FloatKernels& kernels = run.program.kernels->floats;
        if (bytes_) {
            const DepthwiseBytes weights{panels(), byte_weights_, scales_, sums_,
                                         bias_,    low_,          high_};
            kernels.depthwise_bytes(weights, window_,
                                    run.at<uint8_t>(data_, image) + base_ + map * map_size_,
                                    run.at<float>(scale_, image)[map],
                                    std::clamp(run.at<int32_t>(zero_, image)[map], 0, 255), line,
                                    line + count, origin, stride);
        } else {
            const DepthwiseFloats weights{panels(), float_weights_, bias_, low_, high_};
            kernels.depthwise_floats(weights, window_,
                                     run.at<float>(data_, image) + base_ + map * map_size_, line,
                                     line + count, origin, stride);
        }
        if (!whole() && kept)
            for (int64_t x = 0; x < window_.out_width; ++x)
                std::copy_n(to + x * stride, channels, out + x * channels);
        if (!kept) out = to;
        const int64_t apart = kept ? channels : stride;
        apply_to_rows(run, posts_, image, out_, row, rows, out, apart);
        if (requantize_.present()) requantize_.write(run, image, row, rows, out, apart);
        if (ranges_ >= 0)
            write_ranges(run, ranges_, image, map * lines_ + line, count, out, rows * channels);
    }

    int64_t data_, scale_, zero_, ranges_, base_, maps_, lines_, map_size_;
    bool bytes_;
    Sliding window_;
    const int8_t* byte_weights_ = nullptr;
    const float *float_weights_ = nullptr, *scales_, *bias_;
    const int32_t* sums_;
    float low_, high_;
    std::vector<Post> posts_;
    Requantize requantize_;
    View out_;
};

}  // namespace

std::unique_ptr<Step> make_FloatProduct(Reader& r) { return std::make_unique<FloatProduct>(r); }
std::unique_ptr<Step> make_Depthwise(Reader& r) { return std::make_unique<Depthwise>(r); }

}  // namespace tritbench
