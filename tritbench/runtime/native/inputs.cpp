// What comes in: pixels, floats or indices; and activations of 8 bits.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "context.h"
#include "ranges.h"
#include "requantize.h"
#include "steps.h"

namespace tritbench {
namespace {

constexpr float LEAST_RANGE = 0x1p-100F;  // maps of smaller values count as zero

class Check : public Step {
  public:
    explicit Check(Reader& r) {
        x_ = r.buffer();
        count_ = r.size("a count");
        r.require_readable(x_, count_, Type::float32);
    }
    void run(const Run& run) const override {
        float low, high;
        for (int64_t i = 0; i < run.images; ++i)
            if (!run.program.kernels->range(run.at<float>(x_, i), count_, &low, &high))
                run.spoil(i);
    }

  private:
    int64_t x_, count_;
};

class Normalize : public Step {
  public:
    explicit Normalize(Reader& r) {
        x_ = r.buffer();
        out_ = r.buffer();
        pixels_ = r.flag("pixels");
        area_ = r.size("an area");
        channels_ = r.constant_count();
        require(channels_ >= 1 && channels_ <= LARGEST, "no channels");
        mean_ = r.constant<float>(channels_, "mean");
        std_ = r.constant<float>(channels_, "std");
        const int64_t count = multiplied(channels_, area_);
        r.require_readable(x_, count, pixels_ ? Type::uint8 : Type::float32);
        r.require_writable(out_, count, Type::float32);
    }
    void run(const Run& run) const override {
        for (int64_t i = 0; i < run.images; ++i)
            for (int64_t c = 0; c < channels_; ++c) normalize(run, i, c);
    }

  private:
    void normalize(const Run& run, int64_t i, int64_t c) const {
        float* to = run.at<float>(out_, i) + c * area_;
        if (!pixels_) {
            const float* from = run.at<float>(x_, i) + c * area_;
            if (!run.program.kernels->normalize(from, area_, mean_[c], std_[c], to)) run.spoil(i);
            return;
        }
        const uint8_t* from = run.at<uint8_t>(x_, i) + c * area_;
        for (int64_t p = 0; p < area_; ++p)
            to[p] = (static_cast<float>(from[p]) / 255.0F - mean_[c]) / std_[c];
    }

    int64_t x_, out_, area_, channels_;
    bool pixels_;
    const float *mean_, *std_;
};

class Indices : public Step {
  public:
    explicit Indices(Reader& r) {
        x_ = r.buffer();
        out_ = r.buffer();
        count_ = r.size("a count");
        r.require_readable(x_, count_, Type::int64);
        r.require_writable(out_, count_, Type::float32);
    }
    void run(const Run& run) const override {
        for (int64_t i = 0; i < run.images; ++i) {
            const int64_t* from = run.at<int64_t>(x_, i);
            auto* to = run.at<int32_t>(out_, i);
            for (int64_t k = 0; k < count_; ++k)
                to[k] = from[k] >= 0 && from[k] <= std::numeric_limits<int32_t>::max()
                            ? static_cast<int32_t>(from[k])
                            : -1;
        }
    }

  private:
    int64_t x_, out_, count_;
};

class PlacePixels : public Step {
  public:
    explicit PlacePixels(Reader& r) {
        x_ = r.buffer();
        out_ = r.buffer();
        r.sizes(size_, 3, 1, "a size");
        r.sizes(padding_, 4, 0, "padding");
        line_ = size_[2] + padding_[1] + padding_[3];
        lines_ = size_[1] + padding_[0] + padding_[2];
        r.require_readable(x_, multiplied(multiplied(size_[0], size_[1]), size_[2]), Type::uint8);
        r.require_writable(out_, multiplied(multiplied(size_[0], lines_), line_), Type::uint8);
    }
    void run(const Run& run) const override {
        const int64_t channels = size_[0], height = size_[1], width = size_[2];
        const bool padded = line_ * lines_ != width * height;
        run.parallel(run.images * channels, static_cast<double>(line_ * lines_) / 16, 1,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         for (int64_t k = from; k < end; ++k) {
                             const int64_t i = k / channels, c = k % channels;
                             const uint8_t* x = run.at<uint8_t>(x_, i) + c * height * width;
                             uint8_t* to = run.at<uint8_t>(out_, i) + c * lines_ * line_;
                             if (!padded) {
                                 std::memcpy(to, x, as_size(height * width));
                                 continue;
                             }
                             std::memset(to, 0, as_size(lines_ * line_));
                             to += padding_[0] * line_ + padding_[1];
                             for (int64_t y = 0; y < height; ++y, to += line_, x += width)
                                 std::memcpy(to, x, as_size(width));
                         }
                     });
    }

  private:
    int64_t x_, out_, size_[3], padding_[4], line_, lines_;
};

// Maps [maps, height, width, channels] with something around.
class Placed : public Step {
  protected:
    void read(Reader& r) {
        x_ = r.view(4, "x");
        require(x_.strides[3] == 1 || x_.sizes[3] == 1, "channels with gaps");
        r.sizes(padding_, 4, 0, "padding");
        line_ = multiplied(x_.sizes[2] + padding_[1] + padding_[3], x_.sizes[3]);
        size_ = multiplied(line_, x_.sizes[1] + padding_[0] + padding_[2]);
        total_ = multiplied(size_, x_.sizes[0]);
        unpadded_ = padding_[0] + padding_[1] + padding_[2] + padding_[3] == 0;
        const int64_t width = x_.sizes[2], channels = x_.sizes[3];
        even_lines_ = width == 1 || x_.strides[2] == channels;
        dense_ = even_lines_ && (x_.sizes[1] == 1 || x_.strides[1] == width * channels);
    }

    // put(from, count, to) of all values of a map, in pieces that lie together.
    template <class T, class Put>
    void place(const float* from, T* to, const Put& put) const {
        const int64_t height = x_.sizes[1], width = x_.sizes[2], channels = x_.sizes[3];
        if (dense_ && unpadded_) {
            put(from, height * width * channels, to);
            return;
        }
        to += padding_[0] * line_ + padding_[1] * channels;
        for (int64_t y = 0; y < height; ++y, from += x_.strides[1], to += line_)
            if (even_lines_)
                put(from, width * channels, to);
            else
                for (int64_t x = 0; x < width; ++x)
                    put(from + x * x_.strides[2], channels, to + x * channels);
    }

    View x_;
    int64_t padding_[4], line_, size_, total_;
    bool unpadded_, even_lines_, dense_;
};

class Quantize : public Placed {
  public:
    explicit Quantize(Reader& r) {
        read(r);
        data_ = r.writable(total_, Type::uint8);
        const auto buffers = static_cast<int64_t>(r.program().buffers.size());
        scale_ = r.integer(-1, buffers - 1, "scale");
        zero_ = r.integer(-1, buffers - 1, "zero");
        ranges_ = r.integer(-1, MOST, "ranges");
        pairs_ = r.integer(0, MOST, "pairs");
        levels_ = read_levels(r);
        require(levels_.known() == (scale_ < 0) && levels_.known() == (zero_ < 0) &&
                    !(levels_.known() && ranges_ >= 0),
                "levels that are known and found");
        if (!levels_.known()) {
            r.require_writable(scale_, x_.sizes[0], Type::float32);
            r.require_writable(zero_, x_.sizes[0], Type::float32);
        }
        if (ranges_ >= 0) {
            require(x_.sizes[0] == 1, "ranges of several maps");
            check_ranges(r, ranges_, pairs_);
        }
    }
    void run(const Run& run) const override {
        const int64_t maps = x_.sizes[0];
        run.parallel(run.images * maps, static_cast<double>(size_) / 8, 1,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         for (int64_t k = from; k < end; ++k) quantize(run, k / maps, k % maps);
                     });
    }

  private:
    void quantize(const Run& run, int64_t i, int64_t map) const {
        const float* from = run.at(x_, i) + map * x_.strides[0];
        uint8_t* to = run.at<uint8_t>(data_, i) + map * size_;
        const Kernels& kernels = *run.program.kernels;
        if (levels_.known()) {
            if (!unpadded_) std::memset(to, levels_.zero, as_size(size_));
            place(from, to, [&](const float* values, int64_t count, uint8_t* out) {
                if (!kernels.requantize(values, count, levels_.inverse, levels_.zero, out))
                    run.spoil(i);
            });
            return;
        }
        float low = 0, high = 0;
        const bool finite = ranges_ < 0 ? range(kernels, from, &low, &high)
                                        : read_ranges(run, ranges_, i, pairs_, &low, &high);
        if (!finite) run.spoil(i);
        const float range = high - low;
        const bool some = range >= LEAST_RANGE;
        const float inverse = some ? 255.0F / range : 0;
        const float middle = -low * inverse;
        run.at<float>(scale_, i)[map] = some ? range / 255.0F : 0;
        const auto zero = static_cast<int32_t>(std::lrint(middle < 255.0F ? middle : 255.0F));
        run.at<int32_t>(zero_, i)[map] = zero;
        if (!unpadded_) std::memset(to, zero, as_size(size_));
        place(from, to, [&](const float* values, int64_t count, uint8_t* out) {
            kernels.quantize(values, count, inverse, zero, out);
        });
    }

    bool range(const Kernels& kernels, const float* from, float* low, float* high) const {
        const int64_t width = x_.sizes[2], channels = x_.sizes[3];
        if (dense_) return kernels.range(from, x_.sizes[1] * width * channels, low, high);
        bool finite = true;
        const auto add = [&](const float* values, int64_t count) {
            float least, greatest;
            finite = kernels.range(values, count, &least, &greatest) && finite;
            *low = std::min(*low, least);
            *high = std::max(*high, greatest);
        };
        for (int64_t y = 0; y < x_.sizes[1]; ++y, from += x_.strides[1])
            if (even_lines_)
                add(from, width * channels);
            else
                for (int64_t x = 0; x < width; ++x) add(from + x * x_.strides[2], channels);
        return finite;
    }

    int64_t data_, scale_, zero_, ranges_, pairs_;
    Levels levels_;
};

class Pad : public Placed {
  public:
    explicit Pad(Reader& r) {
        read(r);
        out_ = r.writable(total_, Type::float32);
    }
    void run(const Run& run) const override {
        const int64_t maps = x_.sizes[0];
        run.parallel(run.images * maps, static_cast<double>(size_) / 4, 1,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         for (int64_t k = from; k < end; ++k) {
                             const int64_t i = k / maps, map = k % maps;
                             float* to = run.at<float>(out_, i) + map * size_;
                             if (!unpadded_) std::fill_n(to, size_, 0.0F);
                             place(run.at(x_, i) + map * x_.strides[0], to,
                                   [](const float* values, int64_t count, float* out) {
                                       std::copy_n(values, count, out);
                                   });
                         }
                     });
    }

  private:
    int64_t out_;
};

}  // namespace

std::unique_ptr<Step> make_Check(Reader& r) { return std::make_unique<Check>(r); }
std::unique_ptr<Step> make_Normalize(Reader& r) { return std::make_unique<Normalize>(r); }
std::unique_ptr<Step> make_Indices(Reader& r) { return std::make_unique<Indices>(r); }
std::unique_ptr<Step> make_PlacePixels(Reader& r) { return std::make_unique<PlacePixels>(r); }
std::unique_ptr<Step> make_Quantize(Reader& r) { return std::make_unique<Quantize>(r); }
std::unique_ptr<Step> make_Pad(Reader& r) { return std::make_unique<Pad>(r); }

}  // namespace tritbench
