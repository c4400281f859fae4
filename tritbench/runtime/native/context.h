// What a step sees while it runs: where the buffers of a block of images lie, and threads.

#pragma once

#include <algorithm>

#include "pool.h"
#include "program.h"

namespace tritbench {

class Run {
  public:
    Run(const Program& program, int64_t images, int64_t input_apart, uint8_t** bases,
        uint8_t* scratch, uint8_t* spoiled, int threads)
        : program(program),
          images(images),
          input_apart_(input_apart),
          bases_(bases),
          scratch_(scratch),
          spoiled_(spoiled),
          threads_(threads) {}

    template <class T>
    T* at(int64_t buffer, int64_t image) const {
        return reinterpret_cast<T*>(bases_[buffer] + image * apart(buffer));
    }
    int64_t apart(int64_t buffer) const {  // bytes from one image to the next
        return buffer == 0 ? input_apart_ : program.buffers[as_size(buffer)].apart;
    }
    template <class T = float>
    T* at(const View& view, int64_t image) const {
        return at<T>(view.buffer, image) + view.offset;
    }

    // body(from, to, scratch) on ranges of `count`, which take `nanoseconds` each; multiples of
    // `unit` but for the last.
    template <class F>
    void parallel(int64_t count, double nanoseconds, int64_t unit, const F& body) const {
        const double total = nanoseconds * static_cast<double>(count);
        int64_t parts = std::min<int64_t>(threads_, count / unit);
        if (parts > 1) parts = std::min(parts, static_cast<int64_t>(total / THREAD_NANOSECONDS));
        if (parts <= 1) {
            body(int64_t{0}, count, scratch_);
            return;
        }
        const auto part = [&](int64_t i) {
            const auto from = [&](int64_t k) { return count * k / parts / unit * unit; };
            const int64_t end = i + 1 == parts ? count : from(i + 1);
            if (from(i) < end) body(from(i), end, scratch_ + i * program.scratch);
        };
        run_in_pool(
            parts, [](void* context, int64_t i) { (*static_cast<decltype(&part)>(context))(i); },
            const_cast<void*>(static_cast<const void*>(&part)));
    }

    void spoil(int64_t image) const { spoiled_[image] = 1; }  // it is not finite

    const Program& program;
    const int64_t images;

  private:
    static constexpr double THREAD_NANOSECONDS = 15000;  // for which waking a thread is worth it

    int64_t input_apart_;
    uint8_t** bases_;
    uint8_t* scratch_;
    uint8_t* spoiled_;
    int threads_;
};

}  // namespace tritbench
