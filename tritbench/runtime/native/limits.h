// What the machine allows, measured: the bound that a layer's time is compared with.

#pragma once

#include "kernels.h"

namespace tritbench {

struct Limits {
    double bytes;     // a second, read again and again from a buffer of the given size
    double products;  // a second, of a layer that lies in the first-level cache
};

Limits measure_limits(const Kernels& kernels, int64_t bytes);

}  // namespace tritbench
