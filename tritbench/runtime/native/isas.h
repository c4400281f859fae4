// One function for each instruction set: its kernels, or null where this build lacks it. They are
// apart because nothing but the kernels may be compiled for more than the machine at hand has.

#pragma once

#include "kernels.h"

namespace tritbench {

const Kernels* generic_kernels();
const Kernels* avx2_kernels();
const Kernels* avxvnni_kernels();
const Kernels* avx512vnni_kernels();
const Kernels* neon_kernels();

}  // namespace tritbench
