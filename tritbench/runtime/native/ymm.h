// What the kernels of 256 bits share: a block's 64 bytes, or 16 sums, in two registers.

#pragma once

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

namespace tritbench {
constexpr int WIDTH = 8;
}

#include "tile.h"

namespace tritbench {
namespace {

struct Ymm {
    struct Bytes {
        __m256i low, high;
    };
    using Accumulator = Bytes;
    static constexpr int PANELS = 1;
    static constexpr int ROWS = 4;
    static constexpr int ROW_PANELS = 2;
    static constexpr int DECODED_ROWS = 8;
    static constexpr int OFFSET = 0;

    static Bytes load(const void* from) {
        const auto* at = static_cast<const __m256i*>(from);
        Bytes bytes = {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
        asm("" : "+x"(bytes.low), "+x"(bytes.high));  // or GCC loads them anew for each `decode`
        return bytes;
    }
    static void store(void* to, Bytes bytes) {
        auto* at = static_cast<__m256i*>(to);
        _mm256_store_si256(at, bytes.low);
        _mm256_store_si256(at + 1, bytes.high);
    }
    static __m256i broadcast(const uint8_t* from) {
        int32_t dword;
        std::memcpy(&dword, from, sizeof dword);
        return _mm256_set1_epi32(dword);
    }
    static Accumulator zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Accumulator add(Accumulator a, Accumulator b) {
        return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
    }
    // Bytes of two lines by turns.
    static __m256i pairs(const uint8_t* a, const uint8_t* b) {
        const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
        const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
        return _mm256_set_m128i(_mm_unpackhi_epi8(x, y), _mm_unpacklo_epi8(x, y));
    }
    static Ints part(Accumulator sums, int i) {
        return reinterpret_cast<Ints>(i == 0 ? sums.low : sums.high);
    }
};

}  // namespace
}  // namespace tritbench
