// The kernels of floats and of 8-bit weights: tests/test_float_kernels.py holds those of the
// machine at hand to their reference, this all others to `generic`.

#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels.h"

namespace tritbench {

class FloatCases {
  public:
    FloatCases(const Kernels& kernels, const Kernels& oracle, std::mt19937& engine)
        : kernels_(kernels), oracle_(oracle), engine_(engine) {}

    bool agree() { return rows() && pairs() && products() && maps() && byte_products(); }

  private:
    using Floats = std::vector<float>;

    int64_t draw(int64_t low, int64_t high) {
        return std::uniform_int_distribution<int64_t>(low, high)(engine_);
    }
    Floats floats(int64_t count, float scale = 1) {
        std::normal_distribution<float> normal(0, scale);
        Floats values(static_cast<size_t>(count));
        for (float& value : values) value = normal(engine_);
        return values;
    }
    // 64 bytes that begin at a multiple of 64, and `count` more.
    template <class T>
    T* aligned(std::vector<T>& room, int64_t count, int64_t low, int64_t high) {
        room.resize(static_cast<size_t>(count) + 64 / sizeof(T));
        const auto address = reinterpret_cast<uintptr_t>(room.data());
        T* values = room.data() + (64 - address % 64) % 64 / sizeof(T);
        for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(draw(low, high));
        return values;
    }

    // Whether call(kernels, out) writes the same to `count` floats.
    template <class Call>
    bool same(int64_t count, const Call& call) const {
        Floats found(static_cast<size_t>(count)), expected(found);
        call(kernels_, found.data());
        call(oracle_, expected.data());
        return std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0;
    }

    bool rows() {
        const int64_t count = draw(1, 70), n = 3 * count;
        const Floats x = floats(n, 20), w = floats(count), b = floats(count);
        bool agree = same(n, [&](const Kernels& k, float* out) {
            k.floats.layer_norm(x.data(), 3, count, count, w.data(), b.data(), 1e-5F, out, count);
        });
        for (const bool logarithm : {false, true})
            agree = agree && same(n, [&](const Kernels& k, float* out) {
                        k.floats.softmax(x.data(), 3, count, count, logarithm, out, count);
                    });
        for (int kind = 0; kind <= static_cast<int>(Unary::hardswish); ++kind)
            agree = agree && same(n, [&](const Kernels& k, float* out) {
                        k.floats.unary(static_cast<Unary>(kind), x.data(), n, out);
                    });
        return agree && same(n, [&](const Kernels& k, float* out) {
                   k.floats.clamp(x.data(), n, -1, 6, out);
               });
    }

    bool pairs() {
        const int64_t count = draw(1, 40);
        const Floats x = floats(3 * count), y = floats(count);
        bool agree = true;
        for (int kind = 0; kind <= static_cast<int>(Binary::minimum); ++kind)
            for (const int64_t step : {0, 1})
                agree = agree && same(3 * count, [&](const Kernels& k, float* out) {
                            k.floats.binary(static_cast<Binary>(kind), {x.data(), count, 1},
                                            {y.data(), 0, step}, 3, count, out, count);
                        });
        return agree;
    }

    bool products() {
        const int64_t rows = draw(1, 14), inputs = draw(1, 30), outputs = draw(1, 90);
        const int64_t panels = round_up(outputs, LANES);
        const Floats x = floats(rows * inputs), w = floats(outputs * inputs), b = floats(panels);
        Floats packed(static_cast<size_t>(panels * inputs));
        oracle_.floats.pack_panels(w.data(), inputs, outputs, 1, inputs, packed.data());
        const FloatPanels weights{outputs, 1, inputs, nullptr, packed.data(), b.data(), -1, 6};
        const bool agree = same(rows * outputs, [&](const Kernels& k, float* out) {
            k.floats.matmul(weights, x.data(), inputs, rows, out, outputs);
        });
        // Of queries to keys, which are the values too.
        const Attention head{rows,   outputs, inputs, inputs,  x.data(), w.data(),        w.data(),
                             inputs, inputs,  inputs, nullptr, 0,        draw(0, 1) == 1, 0.3F};
        Floats room(static_cast<size_t>(attention_room(outputs, inputs, inputs)));
        return agree && same(rows * inputs, [&](const Kernels& k, float* out) {
                   k.floats.attention(head, 0, rows, room.data(), out, inputs);
               });
    }

    bool maps() {
        const int64_t ky = draw(1, 7), kx = draw(1, 7), stride = draw(1, 2), channels = draw(1, 40);
        const int64_t height = ky + draw(0, 6), width = kx + draw(0, 12);
        const int64_t out_height = (height - ky) / stride + 1,
                      out_width = (width - kx) / stride + 1;
        const int64_t panels = round_up(channels, LANES) / LANES, lanes = panels * LANES;
        Sliding s{height, width, channels, ky, kx, stride, stride, 0, 0, 1, 1, out_width};
        const Floats x = floats(height * width * channels + 16), bias = floats(lanes);
        const Floats w = floats(lanes * ky * kx), scales = floats(lanes);
        const int64_t n = out_height * out_width * lanes;
        bool agree = same(n, [&](const Kernels& k, float* out) {
            k.floats.depthwise_floats({panels, w.data(), bias.data(), -3, 3}, s, x.data(), 0,
                                      out_height, out, lanes);
        });
        agree = agree && same(n, [&](const Kernels& k, float* out) {
                    k.floats.max_pool(s, x.data(), 0, out_height, out);
                    k.floats.average_pool(s, true, 0, x.data(), 0, out_height, out);
                    k.floats.mean(x.data(), height * width, channels, channels, out);
                });
        std::vector<uint8_t> byte_room;
        std::vector<int8_t> weight_room;
        const uint8_t* bytes = aligned(byte_room, height * width * channels + 64, 0, 255);
        const int64_t size = lanes * round_up(ky, QUAD) * kx;
        const int8_t* weights = aligned(weight_room, size, -127, 127);
        std::vector<int32_t> sums;
        for (int64_t lane = 0; lane < lanes; ++lane) sums.push_back(0);
        for (int64_t i = 0; i < size; ++i) {
            const int64_t tap =
                i / QUAD / LANES / kx % (round_up(ky, QUAD) / QUAD) * QUAD + i % QUAD;
            if (tap >= ky) weight_room[static_cast<size_t>(weights - weight_room.data() + i)] = 0;
            sums[static_cast<size_t>(i / (size / panels) * LANES + i / QUAD % LANES)] += weights[i];
        }
        return agree && same(n, [&](const Kernels& k, float* out) {
                   k.floats.depthwise_bytes(
                       {panels, weights, scales.data(), sums.data(), bias.data(), -1e9F, 1e9F}, s,
                       bytes, 0.01F, 77, 0, out_height, out, lanes);
               });
    }

    // One group, against the definition.
    bool byte_products() {
        const int64_t rows = draw(1, 9), blocks = draw(1, 30), panels = draw(1, 5);
        const int64_t lanes = panels * LANES, width = blocks * DWORDS * DWORD_INPUTS;
        std::vector<int8_t> room;
        std::vector<uint8_t> data_room;
        const bool widest = draw(0, 3) == 0;
        const int8_t* w = aligned(room, lanes * width, widest ? 127 : -127, 127);
        const uint8_t* data = aligned(data_room, rows * width, widest ? 255 : 0, 255);
        const auto weight = [&](int64_t lane, int64_t i) {
            return w[((lane / LANES * width / QUAD + i / QUAD) * LANES + lane % LANES) * QUAD +
                     i % QUAD];
        };
        std::vector<int32_t> offsets, sums;
        for (int64_t i = 0; i < width; i += QUAD) offsets.push_back(static_cast<int32_t>(i));
        for (int64_t lane = 0; lane < lanes; ++lane) {
            sums.push_back(0);
            for (int64_t i = 0; i < width; ++i) sums.back() += weight(lane, i);
        }
        const Floats bias = floats(lanes);
        Floats scales = floats(lanes);
        for (float& scale : scales) scale = std::fabs(scale);
        const auto end = static_cast<int32_t>(blocks);
        Weights weights{};
        weights.panels = panels;
        weights.blocks = blocks;
        weights.groups = 1;
        weights.codes = reinterpret_cast<const uint8_t*>(w);
        weights.offsets = offsets.data();
        weights.group_blocks = &end;
        weights.scales = scales.data();
        weights.sums = sums.data();
        weights.low = -INFINITY;
        weights.high = INFINITY;
        weights.outputs = lanes;
        std::vector<Row<uint8_t>> input;
        Floats found(static_cast<size_t>(rows * lanes)), expected(found);
        for (int64_t r = 0; r < rows; ++r) {
            const auto zero = static_cast<int32_t>(draw(0, 255));
            input.push_back({data + r * width, 0.01F, zero, bias.data()});
            for (int64_t lane = 0; lane < lanes; ++lane) {
                int32_t sum = 0;
                for (int64_t i = 0; i < width; ++i)
                    sum += weight(lane, i) * (data[r * width + i] - zero);
                const auto at = static_cast<size_t>(lane);
                expected[static_cast<size_t>(r * lanes) + at] =
                    static_cast<float>(sum) * scales[at] * 0.01F + bias[at];
            }
        }
        kernels_.matmul_bytes(weights, input.data(), rows, false, found.data(), lanes);
        return std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0;
    }

    const Kernels& kernels_;
    const Kernels& oracle_;
    std::mt19937& engine_;
};

}  // namespace tritbench
