// The least and greatest of a result, found while it is warm: pairs for pieces of it, which are
// brought together where it is quantized.

#pragma once

#include <limits>

#include "context.h"
#include "reader.h"

namespace tritbench {

constexpr int64_t RANGE_ROWS = 16;  // of a product that share a pair

inline void check_ranges(Reader& r, int64_t buffer, int64_t count) {
    require(buffer < static_cast<int64_t>(r.program().buffers.size()), "ranges are in no buffer");
    r.require_writable(buffer, multiplied(count, 2), Type::float32);
}

// The range of values as the pair `first`; `pairs` are for them, and those behind the first stay
// empty. NaN where a value is not finite.
inline void write_ranges(const Run& run, int64_t buffer, int64_t image, int64_t first,
                         int64_t pairs, const float* values, int64_t count) {
    float* to = run.at<float>(buffer, image) + 2 * first;
    if (!run.program.kernels->range(values, count, to, to + 1))
        *to = std::numeric_limits<float>::quiet_NaN();
    std::fill(to + 2, to + 2 * pairs, 0.0F);
}

// False where one is not finite.
inline bool read_ranges(const Run& run, int64_t buffer, int64_t image, int64_t pairs, float* low,
                        float* high) {
    const float* from = run.at<float>(buffer, image);
    bool finite = true;
    *low = *high = 0;
    for (int64_t i = 0; i < pairs; ++i, from += 2) {
        finite = finite && from[0] == from[0];
        *low = std::min(*low, from[0]);
        *high = std::max(*high, from[1]);
    }
    return finite;
}

}  // namespace tritbench
