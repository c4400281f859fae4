// What the kernels of 256 bits share: a block's 64 bytes, or 16 sums, in two registers.

#pragma once

#include <immintrin.h>

#include <cstring>
#include <type_traits>
#include <utility>

namespace tritbench {
constexpr int WIDTH = 8;
namespace {

inline __m256 read_part(const float* from, int count, float rest) {
    const __m256i mask =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_blendv_ps(_mm256_set1_ps(rest), _mm256_maskload_ps(from, mask),
                            _mm256_castsi256_ps(mask));
}
// Not by `vmaskmovps`, which AMD's processors are slow to write with.
inline void write_part(float* to, int count, __m256 values) {
    __m128 part = _mm256_castps256_ps128(values);
    if (count & 4) {
        _mm_storeu_ps(to, part);
        part = _mm256_extractf128_ps(values, 1);
        to += 4;
    }
    if (count & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(to), part);
        part = _mm_movehl_ps(part, part);
        to += 2;
    }
    if (count & 1) _mm_store_ss(to, part);
}

}  // namespace
}  // namespace tritbench

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
    static __m128i line(const uint8_t* from) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    }
    static Ints part(Accumulator sums, int i) {
        return reinterpret_cast<Ints>(i == 0 ? sums.low : sums.high);
    }
};

}  // namespace
}  // namespace tritbench
