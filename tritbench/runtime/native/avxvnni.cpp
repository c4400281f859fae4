// AVX2 with VNNI at 256 bits: Alder Lake, Sapphire Rapids, Zen 5 and later.

#include "isas.h"

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

namespace tritbench {
namespace {

// The compilers' __builtin_cpu_supports knows the name only since recently.
bool has_avxvnni() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) &&
           (eax >> 4 & 1) != 0;
}

}  // namespace
}  // namespace tritbench

// What follows is compiled for this instruction set, and must not be called without it. No header
// of the standard library may follow: its inline functions would be compiled for it too.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif

#include "avxvnni.h"

namespace tritbench {

const Kernels* avxvnni_kernels() {
    static constexpr Kernels kernels = make_kernels<AvxVnni, AvxVnniBytes>("avxvnni");
    return has_avxvnni() ? &kernels : nullptr;
}

}  // namespace tritbench

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace tritbench {
const Kernels* avxvnni_kernels() { return nullptr; }
}  // namespace tritbench

#endif
