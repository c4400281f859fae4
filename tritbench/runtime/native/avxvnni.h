// The AVX-512 scheme at half width, over `vpdpbusd` on 256 bits.

#pragma once

#include "ymm.h"

namespace tritbench {
namespace {

struct AvxVnni : Ymm {
    static constexpr int BLOCKS = 0;
    static constexpr int CHAINS = 4;  // of two registers
    static constexpr int SHIFT = 6;   // a trit at the top of its byte costs one shift less

    template <int D>
    static Bytes decode(Bytes codes) {
        const __m256i top = _mm256_set1_epi8(static_cast<char>(0xC0));
        return {_mm256_and_si256(_mm256_slli_epi16(codes.low, SHIFT - 2 * D), top),
                _mm256_and_si256(_mm256_slli_epi16(codes.high, SHIFT - 2 * D), top)};
    }
    static Accumulator dot(Accumulator sums, __m256i x, Bytes trits) {
        return {_mm256_dpbusd_avx_epi32(sums.low, x, trits.low),
                _mm256_dpbusd_avx_epi32(sums.high, x, trits.high)};
    }
};

struct AvxVnniBytes : AvxVnni {
    using Taps = Bytes;
    static constexpr int SHIFT = 0;
    static constexpr int DECODED_ROWS = 0;

    static Taps taps(const void* from) { return load(from); }
    static Bytes quads(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
        const __m128i low_ab = _mm_unpacklo_epi8(line(a), line(b));
        const __m128i low_cd = _mm_unpacklo_epi8(line(c), line(d));
        const __m128i high_ab = _mm_unpackhi_epi8(line(a), line(b));
        const __m128i high_cd = _mm_unpackhi_epi8(line(c), line(d));
        return {_mm256_set_m128i(_mm_unpackhi_epi16(low_ab, low_cd),
                                 _mm_unpacklo_epi16(low_ab, low_cd)),
                _mm256_set_m128i(_mm_unpackhi_epi16(high_ab, high_cd),
                                 _mm_unpacklo_epi16(high_ab, high_cd))};
    }
    using AvxVnni::dot;
    static Accumulator dot(Accumulator sums, Bytes x, Taps taps) {
        return {_mm256_dpbusd_avx_epi32(sums.low, x.low, taps.low),
                _mm256_dpbusd_avx_epi32(sums.high, x.high, taps.high)};
    }
};

}  // namespace
}  // namespace tritbench
