// The AVX-VNNI kernels with the same instruction in AVX-512's encoding, in place of
// native/avxvnni.cpp, for machines that have only the latter: tests/test_avxvnni.py.

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

#include "isas.h"

#pragma GCC target("avx2,avx512vl,avx512vnni")
#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32
#include "avxvnni.h"

namespace tritbench {

const Kernels* avxvnni_kernels() {
    static constexpr Kernels kernels = make_kernels<AvxVnni, AvxVnniBytes>("avxvnni");
    return &kernels;
}

}  // namespace tritbench
