// Layers without weights, on float maps.

#pragma once

#include "network.h"

namespace tritbench {

// [height][width][lanes] at `data`, of which the first `channels` lanes count.
struct Map {
    float* data;
    int64_t height, width, channels, lanes;

    int64_t size() const { return height * width * lanes; }
};

// Apply one operation; `to` has room for `map` and is where the result of a pool lies.
Map apply(const Op& op, Map map, float* to, const Kernels& kernels);

// What `apply` makes of a map's height or width.
inline int64_t pooled(int64_t size, int64_t window, int64_t step) {
    return (size - window) / step + 1;
}

}  // namespace tritbench
