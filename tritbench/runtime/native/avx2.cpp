// AVX2: Haswell, Zen and later.

#include "isas.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <type_traits>

// What follows is compiled for this instruction set, and must not be called without it. No header
// of the standard library may follow: its inline functions would be compiled for it too.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

namespace tritbench {
constexpr int WIDTH = 8;
}

#include "tile.h"

namespace tritbench {
namespace {

struct Avx2 {
    struct Bytes {
        __m256i low, high;
    };
    using Accumulator = Bytes;
    static constexpr int PANELS = 1;
    static constexpr int ROWS = 4;
    static constexpr int OFFSET = 0;

    static Bytes load(const void* from) {
        const auto* at = static_cast<const __m256i*>(from);
        return {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
    }
    static Bytes broadcast(const uint8_t* from) {
        int32_t dword;
        std::memcpy(&dword, from, sizeof dword);
        const __m256i x = _mm256_set1_epi32(dword);
        return {x, x};
    }
    template <int D>
    static Bytes decode(Bytes codes) {
        const __m256i top = _mm256_set1_epi8(static_cast<char>(0xC0));
        return {_mm256_and_si256(_mm256_slli_epi16(codes.low, TRIT_SHIFT - 2 * D), top),
                _mm256_and_si256(_mm256_slli_epi16(codes.high, TRIT_SHIFT - 2 * D), top)};
    }
    static Accumulator zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Accumulator add(Accumulator a, Accumulator b) {
        return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
    }
    static Accumulator dot(Accumulator sums, Bytes x, Bytes trits) {
        return {dot_half(sums.low, x.low, trits.low), dot_half(sums.high, x.high, trits.high)};
    }
    static Ints part(Accumulator sums, int i) {
        return reinterpret_cast<Ints>(i == 0 ? sums.low : sums.high);
    }

  private:
    static __m256i dot_half(__m256i sums, __m256i x, __m256i trits) {
        // A pair is at most 2 × 255 × 64 = 32640: int16 holds it, nothing saturates.
        const __m256i pairs = _mm256_maddubs_epi16(x, trits);
        return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};

}  // namespace

const Kernels* avx2_kernels() {
    static constexpr Kernels kernels = make_kernels<Avx2>("avx2");
    return __builtin_cpu_supports("avx2") ? &kernels : nullptr;
}

}  // namespace tritbench

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace tritbench {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace tritbench

#endif
