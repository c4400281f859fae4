// The kernels, written once over an `Isa` and compiled for each instruction set. An Isa has
//   WIDTH (outside it, before this header)   floats in a register
//   Bytes      64 bytes: four for each of the 16 outputs
//   Accumulator    16 int32
//   PANELS, ROWS   of a tile: their product in accumulators, and what decoding needs, fill the
//              registers
//   OFFSET     what `dot` takes from each activation (128 where it multiplies signed bytes)
//   load, broadcast, decode<dword>, zero, add, dot, and `part`, WIDTH of the 16 sums

#pragma once

#include "vectors.h"

namespace tritbench {
namespace {

constexpr int64_t EXACT_CHUNK = 16;  // blocks summed apart: bounds the rounding of long float sums

// Σ trit·(data - zero) × scale of some outputs, from what `dot` summed.
inline Floats scaled(Ints sum, int32_t zero, const Weights& w, int64_t lane) {
    if (zero != 0) sum -= read<Ints>(w.sums + lane) * (zero * (1 << TRIT_SHIFT));
    return __builtin_convertvector(sum >> TRIT_SHIFT, Floats) * read<Floats>(w.scales + lane);
}

template <int R>
inline bool same_bias(const Row<uint8_t>* rows) {
    bool same = true;
    for (int r = 1; r < R; ++r) same = same && rows[r].bias == rows[0].bias;
    return same;
}

inline Floats finish(Floats total, float scale, const float* bias, bool relu) {
    const Floats y = total * scale + read<Floats>(bias);
    return relu ? y < 0 ? Floats{} : y : y;
}

template <class Isa, int R, int P, int SETS>
using Accumulators = typename Isa::Accumulator[SETS][R][P];

// Add a block's products, dword by dword: one broadcast serves P panels, one decoding R rows.
template <class Isa, int R, int P, int SETS>
inline void add_block(const uint8_t* codes, int64_t stride, const int32_t* offsets,
                      const uint8_t* const (&data)[R], Accumulators<Isa, R, P, SETS>& sums) {
    typename Isa::Bytes packed[P];
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) packed[n] = Isa::load(codes + n * stride);
    const auto step = [&](auto dword) __attribute__((always_inline)) {
        constexpr int D = decltype(dword)::value;
        typename Isa::Bytes trits[P];
#pragma GCC unroll 8
        for (int n = 0; n < P; ++n) trits[n] = Isa::template decode<D>(packed[n]);
#pragma GCC unroll 32
        for (int r = 0; r < R; ++r) {
            const auto x = Isa::broadcast(data[r] + offsets[D]);
#pragma GCC unroll 8
            for (int n = 0; n < P; ++n) {
                auto& sum = sums[D % SETS][r][n];
                sum = Isa::dot(sum, x, trits[n]);
            }
        }
    };
    step(std::integral_constant<int, 0>{});
    step(std::integral_constant<int, 1>{});
    step(std::integral_constant<int, 2>{});
    step(std::integral_constant<int, 3>{});
}

// R rows × P panels, accumulated in registers. POOL writes one row: the greatest of each output.
template <class Isa, int R, int P, bool POOL>
void compute_tile(const Weights& w, int64_t panel, const Row<uint8_t>* rows, float* out,
                  int64_t stride) {
    // A dot product takes several cycles: few accumulators would wait for themselves.
    constexpr int SETS = R * P >= 8 ? 1 : R * P >= 4 ? 2 : 4;
    const uint8_t* codes = w.codes + panel * w.blocks * BLOCK_BYTES;
    const uint8_t* data[R];
    for (int r = 0; r < R; ++r) data[r] = rows[r].data;
    Floats total[R][P][PARTS] = {};
    int64_t block = 0;
    for (int64_t group = 0; group < w.groups; ++group) {
        typename Isa::Accumulator sums[SETS][R][P];
#pragma GCC unroll 64
        for (int i = 0; i < SETS * R * P; ++i) sums[i / (R * P)][i / P % R][i % P] = Isa::zero();
        for (; block < w.group_blocks[group]; ++block) {
            const int32_t* offsets = w.offsets + block * DWORDS;
            const uint8_t* packed = codes + block * BLOCK_BYTES;
            add_block<Isa, R, P, SETS>(packed, w.blocks * BLOCK_BYTES, offsets, data, sums);
        }
#pragma GCC unroll 64
        for (int i = R * P; i < SETS * R * P; ++i) {
            auto& sum = sums[0][i / P % R][i % P];
            sum = Isa::add(sum, sums[i / (R * P)][i / P % R][i % P]);
        }
        const int64_t at = (group * w.panels + panel) * LANES;
        if constexpr (POOL)
            if (w.groups == 1 && same_bias<R>(rows)) {
            // Scales are not negative, so that all that follows grows with the sum.
#pragma GCC unroll 64
                for (int i = 0; i < P * PARTS; ++i) {
                    const int n = i / PARTS, part = i % PARTS;
                    const int64_t lane = at + n * LANES + part * WIDTH;
                    Ints most = Isa::part(sums[0][0][n], part);
#pragma GCC unroll 8
                    for (int r = 1; r < R; ++r)
                        most = greater(Isa::part(sums[0][r][n], part), most);
                    const Floats y = scaled(most, rows[0].zero - Isa::OFFSET, w, lane);
                    write(out + lane, finish(y, rows[0].scale, rows[0].bias + lane, w.relu));
                }
                return;
            }
#pragma GCC unroll 64
        for (int i = 0; i < R * P * PARTS; ++i) {
            const int r = i / (P * PARTS), n = i / PARTS % P, part = i % PARTS;
            const int64_t lane = at + n * LANES + part * WIDTH;
            total[r][n][part] +=
                scaled(Isa::part(sums[0][r][n], part), rows[r].zero - Isa::OFFSET, w, lane);
        }
    }
#pragma GCC unroll 64
    for (int i = 0; i < (POOL ? 1 : R) * P * PARTS; ++i) {
        const int r = i / (P * PARTS), n = i / PARTS % P, part = i % PARTS;
        const int64_t lane = (panel + n) * LANES + part * WIDTH;
        Floats y = finish(total[r][n][part], rows[r].scale, rows[r].bias + lane, w.relu);
        if constexpr (POOL)
#pragma GCC unroll 8
            for (int other = 1; other < R; ++other) {
                const Row<uint8_t>& row = rows[other];
                y = greater(finish(total[other][n][part], row.scale, row.bias + lane, w.relu), y);
            }
        write(out + r * stride + lane, y);
    }
}

template <class Isa, int R, int P>
void compute_rows(const Weights& w, int64_t panel, const Row<uint8_t>* rows, int64_t count,
                  float* out, int64_t stride) {
    for (; count >= R; count -= R, rows += R, out += R * stride)
        compute_tile<Isa, R, P, false>(w, panel, rows, out, stride);
    if constexpr (R > 1)
        if (count > 0) compute_rows<Isa, R / 2, P>(w, panel, rows, count, out, stride);
}

template <class Isa, int P>
void matmul_panels(const Weights& w, int64_t panel, const Row<uint8_t>* rows, int64_t count,
                   bool pool, float* out, int64_t stride) {
    for (; panel + P <= w.panels; panel += P)
        if (pool)
            for (int64_t i = 0; i + POOLED_ROWS <= count; i += POOLED_ROWS)
                compute_tile<Isa, POOLED_ROWS, P, true>(w, panel, rows + i,
                                                        out + i / POOLED_ROWS * stride, stride);
        else
            compute_rows<Isa, Isa::ROWS, P>(w, panel, rows, count, out, stride);
    if constexpr (P > 1)
        if (panel < w.panels) matmul_panels<Isa, P / 2>(w, panel, rows, count, pool, out, stride);
}

template <class Isa>
void matmul(const Weights& w, const Row<uint8_t>* rows, int64_t count, bool pool, float* out,
            int64_t stride) {
    matmul_panels<Isa, Isa::PANELS>(w, 0, rows, count, pool, out, stride);
}

// R rows × WIDTH outputs from `lane` on.
template <int R>
void exact_rows(const Weights& w, int64_t lane, const Row<float>* rows, float* out,
                int64_t stride) {
    const uint8_t* codes =
        w.codes + lane / LANES * w.blocks * BLOCK_BYTES + lane % LANES * (BLOCK_BYTES / LANES);
    Floats total[R] = {};
    int64_t block = 0;
    for (int64_t group = 0; group < w.groups; ++group) {
        Floats group_sum[R] = {};
        while (block < w.group_blocks[group]) {
            Floats sum[R] = {};
            const int64_t chunk = block + EXACT_CHUNK;
            const int64_t end = chunk < w.group_blocks[group] ? chunk : w.group_blocks[group];
            for (; block < end; ++block) {
                const Ints packed = read<Ints>(codes + block * BLOCK_BYTES);
                for (int k = 0; k < 4 * DWORDS; ++k) {
                    const int dword = k / 4, input = k % 4;
                    const Ints trits = packed << (30 - 8 * input - 2 * dword) >> 30;
                    const int64_t at = w.offsets[block * DWORDS + dword] + input;
                    for (int r = 0; r < R; ++r) {
                        const Floats x = Floats{} + rows[r].data[at];
                        sum[r] += trits < 0 ? -x : trits > 0 ? x : Floats{};
                    }
                }
            }
            for (int r = 0; r < R; ++r) group_sum[r] += sum[r];
        }
        const Floats scale = read<Floats>(w.scales + group * w.panels * LANES + lane);
        for (int r = 0; r < R; ++r) total[r] += group_sum[r] * scale;
    }
    for (int r = 0; r < R; ++r)
        write(out + r * stride + lane,
              finish(total[r], rows[r].scale, rows[r].bias + lane, w.relu));
}

inline void matmul_exact(const Weights& w, const Row<float>* rows, int64_t count, float* out,
                         int64_t stride) {
    constexpr int R = 4;
    for (int64_t lane = 0; lane < w.panels * LANES; lane += WIDTH) {
        int64_t r = 0;
        for (; r + R <= count; r += R) exact_rows<R>(w, lane, rows + r, out + r * stride, stride);
        for (; r < count; ++r) exact_rows<1>(w, lane, rows + r, out + r * stride, stride);
    }
}

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
    return {name, matmul<Isa>, matmul_exact, range, quantize, max_pool, normalize, read_bytes};
}

}  // namespace
}  // namespace tritbench
