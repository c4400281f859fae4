// AVX2: Haswell, Zen and later.

#include "isas.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

// What follows is compiled for this instruction set, and must not be called without it. No header
// of the standard library may follow: its inline functions would be compiled for it too.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

#include "ymm.h"

namespace tritbench {
namespace {

struct Avx2 : Ymm {
    // A dword's pair of products is at most 2 × 255: int16 holds the sum of 64 of them.
    static constexpr int BLOCKS = 64 / DWORDS;
    static constexpr int CHAINS = 1;  // an addition takes one cycle
    static constexpr int SHIFT = 0;

    // A nibble holds the trits of two dwords; a table has what each of its values means for one.
    template <int D>
    static Bytes decode(Bytes codes) {
        return {decode_half<D>(codes.low), decode_half<D>(codes.high)};
    }
    static Accumulator dot(Accumulator sums, __m256i x, Bytes trits) {
        return {dot_half(sums.low, x, trits.low), dot_half(sums.high, x, trits.high)};
    }
    static Accumulator widen(Accumulator sums, Accumulator narrow) {
        const __m256i one = _mm256_set1_epi16(1);
        return add(sums, {_mm256_madd_epi16(narrow.low, one), _mm256_madd_epi16(narrow.high, one)});
    }

  private:
    static __m256i dot_half(__m256i sums, __m256i x, __m256i trits) {
        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, trits));
        asm(""
            : "+x"(sums));  // or GCC adds products to each other first, and runs out of registers
        return sums;
    }
    template <int D>
    static __m256i decode_half(__m256i codes) {
        const __m256i nibbles =
            _mm256_and_si256(D < 2 ? codes : _mm256_srli_epi16(codes, 4), _mm256_set1_epi8(15));
        const __m128i table =
            D % 2 == 0 ? _mm_setr_epi8(0, 1, 0, -1, 0, 1, 0, -1, 0, 1, 0, -1, 0, 1, 0, -1)
                       : _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, -1, -1, -1, -1);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
    }
};

// Bytes widened to int16, whose products `vpmaddwd` adds in pairs: byte 0 with 2, 1 with 3.
struct Avx2Bytes : Ymm {
    struct Pairs {
        __m256i even, odd;
    };
    struct Quads {
        Pairs low, high;
    };
    using Taps = Quads;
    static constexpr int BLOCKS = 0;
    static constexpr int CHAINS = 1;
    static constexpr int SHIFT = 0;
    static constexpr int DECODED_ROWS = 0;

    static Pairs broadcast(const uint8_t* from) {
        const __m256i x = Ymm::broadcast(from);
        return {_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
    }
    static Accumulator dot(Accumulator sums, Pairs x, Bytes weights) {
        return {dot_half(sums.low, x, split(weights.low)),
                dot_half(sums.high, x, split(weights.high))};
    }
    static Taps taps(const void* from) {
        const Bytes weights = load(from);
        return {split(weights.low), split(weights.high)};
    }
    static Quads quads(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
        return {{_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(line(a), line(c))),
                 _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(line(b), line(d)))},
                {_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(line(a), line(c))),
                 _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(line(b), line(d)))}};
    }
    static Accumulator dot(Accumulator sums, Quads x, Taps taps) {
        return {dot_half(sums.low, x.low, taps.low), dot_half(sums.high, x.high, taps.high)};
    }

  private:
    static Pairs split(__m256i bytes) {
        return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
    }
    static __m256i dot_half(__m256i sums, Pairs x, Pairs weights) {
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x.even, weights.even));
        asm("" : "+x"(sums));  // as in Avx2
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x.odd, weights.odd));
        asm("" : "+x"(sums));
        return sums;
    }
};

}  // namespace

const Kernels* avx2_kernels() {
    static constexpr Kernels kernels = make_kernels<Avx2, Avx2Bytes>("avx2");
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
