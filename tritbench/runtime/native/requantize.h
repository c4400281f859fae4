// Activations of 8 bits whose levels are known before: where a step leaves its result in them.

#pragma once

#include <cmath>
#include <cstring>

#include "context.h"
#include "reader.h"

namespace tritbench {

// q = clamp(round(x × inverse) + zero, 0, 255).
struct Levels {
    int32_t zero = -1;  // where there are none
    float inverse = 0;

    bool known() const { return zero >= 0; }
};

inline Levels read_levels(Reader& r) {
    Levels levels;
    levels.zero = static_cast<int32_t>(r.integer(-1, 255, "a zero point"));
    if (!levels.known()) return levels;
    levels.inverse = r.number();
    require(std::isfinite(levels.inverse) && levels.inverse > 0,
            "a scale that is no number above 0");
    return levels;
}

// A result as bytes, with zero points around: `Requantize` in steps.py.
class Requantize {
  public:
    bool present() const { return data_ >= 0; }

    void read(Reader& r) {
        data_ = r.integer(-1, MOST, "data");
        if (!present()) return;
        r.sizes(padding_, 4, 0, "padding");
        levels_ = read_levels(r);
        require(levels_.known(), "levels that are not there");
    }

    // Of maps like `out`, once that is known.
    void check(Reader& r, const View& out) {
        require(present() || out.buffer >= 0, "a result that goes nowhere");
        if (!present()) return;
        height_ = out.sizes[1];
        width_ = out.sizes[2];
        channels_ = out.sizes[3];
        line_ = multiplied(width_ + padding_[1] + padding_[3], channels_);
        size_ = multiplied(line_, height_ + padding_[0] + padding_[2]);
        dense_ = padding_[0] + padding_[1] + padding_[2] + padding_[3] == 0;
        require(data_ < static_cast<int64_t>(r.program().buffers.size()), "data is in no buffer");
        r.require_writable(data_, multiplied(size_, out.sizes[0]), Type::uint8);
    }

    // Rows first..first + rows of the maps, which lie `stride` floats apart at `x`.
    void write(const Run& run, int64_t image, int64_t first, int64_t rows, const float* x,
               int64_t stride) const {
        uint8_t* data = run.at<uint8_t>(data_, image);
        if (dense_) return quantize(run, image, rows, x, stride, data + first * channels_);
        while (rows > 0) {
            const int64_t line = first / width_, column = first % width_, y = line % height_;
            const int64_t some = std::min(rows, width_ - column);
            uint8_t* map = data + line / height_ * size_;
            uint8_t* to = map + (padding_[0] + y) * line_ + (padding_[1] + column) * channels_;
            quantize(run, image, some, x, stride, to);
            // What is around goes with the rows beside it, so that each byte is written once.
            const bool begins = column == 0, ends = column + some == width_;
            if (begins) fill(to - padding_[1] * channels_, padding_[1] * channels_);
            if (ends) fill(to + some * channels_, padding_[3] * channels_);
            if (begins && y == 0) fill(map, padding_[0] * line_);
            if (ends && y + 1 == height_)
                fill(map + (padding_[0] + height_) * line_, padding_[2] * line_);
            first += some;
            rows -= some;
            x += some * stride;
        }
    }

  private:
    void quantize(const Run& run, int64_t image, int64_t rows, const float* x, int64_t stride,
                  uint8_t* to) const {
        const auto& kernel = run.program.kernels->requantize;
        int64_t count = channels_;
        if (stride == channels_) {
            count *= rows;
            rows = 1;
        }
        for (; rows > 0; --rows, x += stride, to += count)
            if (!kernel(x, count, levels_.inverse, levels_.zero, to)) run.spoil(image);
    }
    void fill(uint8_t* to, int64_t count) const { std::memset(to, levels_.zero, as_size(count)); }

    int64_t data_ = -1, padding_[4] = {}, height_, width_, channels_, line_, size_;
    bool dense_;
    Levels levels_;
};

// Scales and zero points of `maps` maps, which a step left or which are constants; or neither.
inline void check_scales(Reader& r, int64_t scale, int64_t zero, int64_t maps) {
    require((scale < 0) == (zero < 0), "a scale without a zero point");
    if (scale < 0) return;
    const auto& buffers = r.program().buffers;
    const auto count = static_cast<int64_t>(buffers.size());
    require(scale < count && zero < count, "a buffer that is not there");
    r.require_readable(scale, maps, Type::float32);
    r.require_readable(zero, maps, Type::float32);
    const auto constant = [&](int64_t buffer) -> const uint8_t* {
        const Buffer& found = buffers[as_size(buffer)];
        return found.place == Place::constant ? r.program().data + found.offset : nullptr;
    };
    const auto* scales = reinterpret_cast<const float*>(constant(scale));
    const auto* zeros = reinterpret_cast<const int32_t*>(constant(zero));
    for (int64_t i = 0; (scales || zeros) && i < maps; ++i) {
        require(!scales || (std::isfinite(scales[i]) && scales[i] > 0),
                "a scale that is no number above 0");
        require(!zeros || (zeros[i] >= 0 && zeros[i] <= 255), "a zero point that cannot be");
    }
}

}  // namespace tritbench
