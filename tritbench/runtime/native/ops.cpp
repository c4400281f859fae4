#include "ops.h"

#include <algorithm>

namespace tritbench {
namespace {

void relu(Map map) {
    for (int64_t i = 0; i < map.size(); ++i) map.data[i] = map.data[i] < 0 ? 0 : map.data[i];
}

void affine(Map map, const Op& op) {
    const bool each = static_cast<int64_t>(op.scale.size()) != map.channels;
    for (int64_t pixel = 0; pixel < map.height * map.width; ++pixel) {
        float* at = map.data + pixel * map.lanes;
        const float* scale = op.scale.data() + (each ? pixel * map.channels : 0);
        const float* bias = op.bias.data() + (each ? pixel * map.channels : 0);
        for (int64_t c = 0; c < map.channels; ++c) at[c] = at[c] * scale[c] + bias[c];
    }
}

void average(Map map, Map to, const Window& window) {
    const auto count = static_cast<float>(window.height * window.width);
    for (int64_t y = 0; y < to.height; ++y)
        for (int64_t x = 0; x < to.width; ++x) {
            float* sum = to.data + (y * to.width + x) * to.lanes;
            std::fill(sum, sum + to.lanes, 0.0F);
            for (int64_t ky = 0; ky < window.height; ++ky)
                for (int64_t kx = 0; kx < window.width; ++kx) {
                    const int64_t row = y * window.step_y + ky, column = x * window.step_x + kx;
                    const float* from = map.data + (row * map.width + column) * map.lanes;
                    for (int64_t c = 0; c < map.lanes; ++c) sum[c] += from[c];
                }
            for (int64_t c = 0; c < map.lanes; ++c) sum[c] /= count;
        }
}

}  // namespace

Map apply(const Op& op, Map map, float* to, const Kernels& kernels) {
    if (op.kind == OpKind::relu) {
        relu(map);
        return map;
    }
    if (op.kind == OpKind::affine) {
        affine(map, op);
        return map;
    }
    const Window& window = op.window;
    const Map result{to, pooled(map.height, window.height, window.step_y),
                     pooled(map.width, window.width, window.step_x), map.channels, map.lanes};
    if (op.kind == OpKind::average_pool) {
        average(map, result, window);
        return result;
    }
    for (int64_t y = 0; y < result.height; ++y)
        kernels.max_pool(map.data + y * window.step_y * map.width * map.lanes,
                         map.width * map.lanes, map.lanes, window, result.width,
                         result.data + y * result.width * result.lanes);
    return result;
}

}  // namespace tritbench
