// What lies between two stages, and the memory for it.

#pragma once

#include <cstddef>
#include <vector>

#include "kernels.h"

namespace tritbench {

inline size_t as_size(int64_t value) { return static_cast<size_t>(value); }

// Memory of one thread, kept from call to call; it only grows.
template <class T>
class Buffer {
  public:
    T* get(int64_t count) {
        if (as_size(count) > values_.size()) values_.resize(as_size(count));
        return values_.data();
    }

  private:
    std::vector<T> values_;
};

template <class T>
struct Scratch {
    Buffer<T> activations[2];
    Buffer<float> scales[2], maps[2];
    Buffer<int32_t> zeros[2];
    Buffer<Row<T>> rows;
    Buffer<Decoded> decoded;
};

// What a stage takes: one padded input an image, `stride` elements apart.
template <class T>
struct Activations {
    const T* data;
    int64_t stride;
    const float* scale;
    const int32_t* zero;
    bool pixels;
};

}  // namespace tritbench
