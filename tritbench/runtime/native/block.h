// A block of images through the whole network, each stage over the whole block: weights are read
// once a block, and what lies between two stages stays in the cache. T is what activations are:
// uint8_t, or float in exact mode.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "network.h"
#include "ops.h"
#include "scratch.h"

namespace tritbench {
namespace {

constexpr int64_t SLACK = 16;             // elements that may be read behind activations
constexpr float LEAST_RANGE = 0x1p-100F;  // rows of smaller values count as zero

template <class T>
class Block {
  public:
    Block(const Network& network, int64_t count, float* logits, Scratch<T>& scratch)
        : network_(network), count_(count), logits_(logits), scratch_(scratch) {}

    void run(const uint8_t* pixels) {
        if (!network_.input_ops.empty()) {
            run_images([&](int64_t i, float* to) {
                const uint8_t* from = pixels + i * network_.image_size();
                for (int64_t p = 0; p < network_.image_size(); ++p)
                    to[p] = static_cast<float>(from[p]) / 255.0F;
                return to;
            });
            return;
        }
        const Stage& first = network_.stages.front();
        const int64_t size = network_.image_size();
        begin_stage(first);
        std::fill(scale_, scale_ + count_, 1.0F);
        std::fill(zero_, zero_ + count_, 0);
        if constexpr (std::is_same_v<T, uint8_t>) {
            if (first.padded() == size && first.reach() <= size) {
                run_stages({pixels, size, scale_, zero_, true});
                return;
            }
        }
        for (int64_t i = 0; i < count_; ++i) {
            T* to = input_ + i * stride_;
            if (first.padded() != size) std::fill(to, to + first.padded(), T{});
            place(first, pixels + i * size, true, 1, to,
                  [](const uint8_t* from, int64_t n, T* out) { std::copy(from, from + n, out); });
        }
        run_stages({input_, stride_, scale_, zero_, true});
    }

    void run(const float* images) {
        run_images([&](int64_t i, float*) { return images + i * network_.image_size(); });
    }

  private:
    // Floats in 0..1, given one image at a time.
    template <class Images>
    void run_images(const Images& images) {
        const Stage& first = network_.stages.front();
        const int64_t size = network_.image_size();
        // In 8 bits, packing finds what is not finite.
        const bool as_they_are = std::is_same_v<T, uint8_t> && network_.mean == 0 &&
                                 network_.std == 1 && network_.input_ops.empty();
        std::vector<int64_t> infinite;
        begin_stage(first);
        for (int64_t i = 0; i < count_; ++i) {
            float* values = scratch_.maps[0].get(map_size());
            float* spare = scratch_.maps[1].get(map_size());
            const float* image = images(i, values);
            bool finite = true;
            if (!as_they_are) {
                finite =
                    network_.kernels->normalize(image, size, network_.mean, network_.std, values);
                image = values;
            }
            if (network_.input_ops.empty()) {
                if (!(pack(first, image, size, size, i) && finite)) infinite.push_back(i);
                continue;
            }
            if (!finite) infinite.push_back(i);
            const int64_t channels = network_.channels, height = network_.height;
            const int64_t width = network_.width;
            const Map map{spare, height, width, channels, input_lanes()};
            std::fill(spare, spare + map.size(), 0.0F);
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t p = 0; p < height * width; ++p)
                    spare[p * map.lanes + c] = values[c * height * width + p];
            const Map last = apply_all(network_.input_ops, 0, map, values);
            pack(first, last.data, last.size(), last.lanes, i);
        }
        run_stages({input_, stride_, scale_, zero_, false});
        for (const int64_t i : infinite)
            std::fill(logits_ + i * logits(), logits_ + (i + 1) * logits(),
                      std::numeric_limits<float>::quiet_NaN());
    }

    void run_stages(Activations<T> activations) {
        for (size_t s = 0; s < network_.stages.size(); ++s) {
            const Stage& stage = network_.stages[s];
            const Stage* next = s + 1 < network_.stages.size() ? &stage + 1 : nullptr;
            if (next) begin_stage(*next);
            if (stage.positions() == 1)
                run_dense(stage, next, activations);
            else
                run_convolution(stage, next, activations);
            activations = {input_, stride_, scale_, zero_, false};
        }
    }

    void run_dense(const Stage& stage, const Stage* next, const Activations<T>& in) {
        const int64_t lanes = stage.lanes();
        Row<T>* rows = scratch_.rows.get(count_);
        const float* bias = (in.pixels ? stage.pixels : stage.values).bias.data();
        for (int64_t i = 0; i < count_; ++i)
            rows[i] = {in.data + i * in.stride, in.scale[i], in.zero[i], bias};
        const bool last = !next && stage.ops.empty() && network_.ordered && lanes == logits();
        float* sums = last ? logits_ : scratch_.maps[0].get(count_ * lanes);
        matmul(stage.weights(in.pixels), rows, count_, false, sums, lanes);
        if (last) return;
        float* spare = scratch_.maps[1].get(lanes);
        for (int64_t i = 0; i < count_; ++i) {
            const Map map{sums + i * lanes, 1, 1, stage.outputs, lanes};
            emit(next, apply_all(stage.ops, 0, map, spare), i);
        }
    }

    // Image by image. Max-pooling of 2×2 is part of the product: nothing is held unpooled.
    void run_convolution(const Stage& stage, const Stage* next, const Activations<T>& in) {
        const int64_t lanes = stage.lanes();
        const bool pool = std::is_same_v<T, uint8_t> && pools_by_four(stage);
        const Window window = pool ? stage.ops[0].window : Window{1, 1, 1, 1};
        const Map map{scratch_.maps[0].get(stage.positions() * lanes),
                      pooled(stage.out_height, window.height, window.step_y),
                      pooled(stage.out_width, window.width, window.step_x), stage.outputs, lanes};
        float* spare = scratch_.maps[1].get(stage.positions() * lanes);
        const int64_t count = map.width * window.height * window.width;
        Row<T>* rows = scratch_.rows.get(count);
        const Weights weights = stage.weights(in.pixels);
        for (int64_t i = 0; i < count_; ++i) {
            for (int64_t y = 0; y < map.height; ++y) {
                for (int64_t k = 0; k < window.height; ++k)
                    for (int64_t j = 0; j < window.width; ++j)
                        fill_rows(stage, in, i, y * window.step_y + k, j, window.step_x, map.width,
                                  rows + k * window.width + j, window.height * window.width);
                matmul(weights, rows, count, pool, map.data + y * map.width * lanes, lanes);
            }
            emit(next, apply_all(stage.ops, pool ? 1 : 0, map, spare), i);
        }
    }

    static bool pools_by_four(const Stage& stage) {
        if (stage.ops.empty() || stage.ops[0].kind != OpKind::max_pool) return false;
        const Window& window = stage.ops[0].window;
        return window.height == 2 && window.width == 2 && window.step_y >= 2 && window.step_x >= 2;
    }

    // Rows of the product for `count` positions of line `y`, from `x` on every `step`th; they are
    // written `apart` from each other.
    static void fill_rows(const Stage& stage, const Activations<T>& in, int64_t i, int64_t y,
                          int64_t x, int64_t step, int64_t count, Row<T>* rows, int64_t apart) {
        const int64_t pixel = stage.planar ? 1 : stage.channels;
        const int64_t line = (stage.width + 2 * stage.pad_x) * pixel;
        const T* data = in.data + i * in.stride + y * stage.step_y * line;
        Row<T> row = {data + x * stage.step_x * pixel, in.scale[i], in.zero[i],
                      stage.values.bias.data()};
        const float* classes = stage.pixels.bias.data();
        if (in.pixels) classes += stage.row_class[as_size(y)] * stage.lanes();
        for (; count > 0; --count, x += step, rows += apart) {
            if (in.pixels) row.bias = classes + stage.column_class[as_size(x)] * stage.lanes();
            *rows = row;
            row.data += step * stage.step_x * pixel;
        }
    }

    void matmul(const Weights& weights, const Row<T>* rows, int64_t count, bool pool, float* out,
                int64_t stride) const {
        if constexpr (std::is_same_v<T, uint8_t>)
            network_.kernels->matmul(weights, rows, count, pool,
                                     scratch_.decoded.get(weights.blocks), out, stride);
        else
            network_.kernels->matmul_exact(weights, rows, count, out, stride);
    }

    Map apply_all(const std::vector<Op>& ops, size_t from, Map map, float* spare) const {
        for (size_t i = from; i < ops.size(); ++i) {
            float* const data = map.data;
            map = apply(ops[i], map, spare, *network_.kernels);
            if (map.data == spare) spare = data;
        }
        return map;
    }

    void emit(const Stage* next, const Map& map, int64_t i) {
        if (next) {
            pack(*next, map.data, map.size(), map.lanes, i);
            return;
        }
        if (network_.ordered) {
            std::copy(map.data, map.data + logits(), logits_ + i * logits());
            return;
        }
        for (int64_t k = 0; k < logits(); ++k)
            logits_[i * logits() + k] = map.data[network_.order[as_size(k)]];
    }

    // Room for the activations that `stage` takes, apart from those in use.
    void begin_stage(const Stage& stage) {
        turn_ = 1 - turn_;
        stride_ = (stage.padded() + SLACK - 1) / SLACK * SLACK;
        input_ = scratch_.activations[turn_].get(count_ * stride_ + SLACK);
        scale_ = scratch_.scales[turn_].get(count_);
        zero_ = scratch_.zeros[turn_].get(count_);
    }

    // A float map as the next stage's input: quantized to 8 bits, or as it is. False where it is
    // to be quantized and not finite.
    bool pack(const Stage& stage, const float* data, int64_t size, int64_t lanes, int64_t i) {
        T* to = input_ + i * stride_;
        const bool dense = stage.padded() == stage.channels * stage.height * stage.width;
        if constexpr (std::is_same_v<T, uint8_t>) {
            float low, high;
            const bool finite = network_.kernels->range(data, size, &low, &high);
            const float range = high - low;
            const bool some = range >= LEAST_RANGE;
            const float inverse = some ? 255.0F / range : 0;
            const float middle = -low * inverse;
            scale_[i] = some ? range / 255.0F : 0;
            const auto zero = static_cast<int32_t>(std::lrint(middle < 255.0F ? middle : 255.0F));
            zero_[i] = zero;
            if (!dense) std::fill(to, to + stage.padded(), static_cast<uint8_t>(zero));
            place(stage, data, stage.planar, lanes, to,
                  [&](const float* from, int64_t n, uint8_t* out) {
                      network_.kernels->quantize(from, n, inverse, zero, out);
                  });
            return finite;
        } else {
            scale_[i] = 1;
            zero_[i] = 0;
            if (!dense) std::fill(to, to + stage.padded(), 0.0F);
            place(stage, data, stage.planar, lanes, to,
                  [](const float* from, int64_t n, float* out) { std::copy(from, from + n, out); });
            return true;
        }
    }

    // Write a map [height, width, lanes], or [channels, height, width], into its padded place.
    template <class From, class Put>
    static void place(const Stage& stage, const From* from, bool planar, int64_t lanes, T* to,
                      const Put& put) {
        const int64_t height = stage.height, width = stage.width, channels = stage.channels;
        const int64_t line = width + 2 * stage.pad_x;
        const bool unpadded = stage.pad_y == 0 && stage.pad_x == 0;
        if (unpadded && (planar || lanes == channels || height * width == 1)) {
            put(from, channels * height * width, to);
        } else if (planar) {
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t y = 0; y < height; ++y)
                    put(from + (c * height + y) * width, width,
                        to + (c * (height + 2 * stage.pad_y) + y + stage.pad_y) * line +
                            stage.pad_x);
        } else {
            const int64_t whole = lanes == channels ? width : 1;  // pixels written at once
            for (int64_t y = 0; y < height; ++y)
                for (int64_t x = 0; x < width; x += whole)
                    put(from + (y * width + x) * lanes, whole * channels,
                        to + ((y + stage.pad_y) * line + x + stage.pad_x) * channels);
        }
    }

    int64_t logits() const { return static_cast<int64_t>(network_.order.size()); }
    int64_t input_lanes() const { return (network_.channels + LANES - 1) / LANES * LANES; }
    int64_t map_size() const { return network_.height * network_.width * input_lanes(); }

    const Network& network_;
    const int64_t count_;
    float* const logits_;
    Scratch<T>& scratch_;
    // The activations being written, one of two by turns.
    int turn_ = 0;
    T* input_ = nullptr;
    int64_t stride_ = 0;
    float* scale_ = nullptr;
    int32_t* zero_ = nullptr;
};

}  // namespace
}  // namespace tritbench
