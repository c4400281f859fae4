// The kernels, written once over an `Isa` and compiled for each instruction set. An Isa has
//   WIDTH      floats in a register; outside it, before this header, as are
//   read_part, write_part   fewer floats than WIDTH, with others behind them
//   Bytes      64 bytes: four for each of the 16 outputs
//   Accumulator    16 int32, or 32 int16 that `widen` adds to 16 int32
//   BLOCKS     how many an accumulator can take before it must be widened; 0 where it need not be
//   PANELS, ROWS   of a tile: their product in accumulators, and what decoding needs, fill the
//              registers
//   ROW_PANELS     of a tile with a single row
//   DECODED_ROWS   from how many rows on a panel is decoded to memory first, for all of them
//   CHAINS     accumulators that hide the time which a dot product takes
//   SHIFT      `decode` gives 2^SHIFT × trit
//   OFFSET     what `dot` takes from each activation (128 where it multiplies signed bytes)
//   load, store, broadcast, decode<dword>, zero, add, dot, and `part`, WIDTH of the 16 sums

#pragma once

#include "depthwise.h"
#include "float_matmul.h"

namespace tritbench {
namespace {

constexpr int64_t EXACT_CHUNK = 16;  // blocks summed apart: bounds the rounding of long float sums

// Σ trit·(data - zero) × scale of some outputs, from what `dot` summed.
template <class Isa>
inline Floats scaled(Ints sum, int32_t zero, const Weights& w, int64_t lane) {
    zero -= Isa::OFFSET;
    if (zero != 0) sum -= read<Ints>(w.sums + lane) * (zero * (1 << Isa::SHIFT));
    return __builtin_convertvector(sum >> Isa::SHIFT, Floats) * read<Floats>(w.scales + lane);
}

template <int R>
inline bool same_bias(const Row<uint8_t>* rows) {
    bool same = true;
    for (int r = 1; r < R; ++r) same = same && rows[r].bias == rows[0].bias;
    return same;
}

inline Floats finish(Floats total, float scale, const float* bias, const Weights& w) {
    return clamp(total * scale + read<Floats>(bias), w.low, w.high);
}

// A dot product takes several cycles: few accumulators would wait for themselves, so each of the
// four dwords may have its own.
template <class Isa, int R, int P>
constexpr int SETS = R * P * 4 <= Isa::CHAINS   ? 4
                     : R * P * 2 <= Isa::CHAINS ? 2
                                                : 1;

template <class Isa, int R, int P>
using Accumulators = typename Isa::Accumulator[R][P];

// What a tile multiplies by: panels, `stride` bytes apart, of 2-bit codes, or of decoded bytes.
template <bool DECODED>
struct Panels {
    static constexpr int64_t BYTES = DECODED ? sizeof(Decoded) : BLOCK_BYTES;  // of a block
    const uint8_t* data;
    int64_t stride;
};

// Add a block's products, dword by dword: one broadcast serves P panels, one decoding R rows.
template <class Isa, int R, int P, bool DECODED>
inline void add_block(const Panels<DECODED>& panels, const int32_t* offsets,
                      const uint8_t* const (&data)[R],
                      Accumulators<Isa, R, P> (&sums)[SETS<Isa, R, P>]) {
    typename Isa::Bytes packed[P];
    if constexpr (!DECODED)
#pragma GCC unroll 8
        for (int n = 0; n < P; ++n) packed[n] = Isa::load(panels.data + n * panels.stride);
    const auto step = [&](auto dword) __attribute__((always_inline)) {
        constexpr int D = decltype(dword)::value;
        typename Isa::Bytes trits[P];
#pragma GCC unroll 8
        for (int n = 0; n < P; ++n)
            if constexpr (DECODED)
                trits[n] = Isa::load(panels.data + n * panels.stride + D * BLOCK_BYTES);
            else
                trits[n] = Isa::template decode<D>(packed[n]);
#pragma GCC unroll 32
        for (int r = 0; r < R; ++r) {
            const auto x = Isa::broadcast(data[r] + offsets[D]);
#pragma GCC unroll 8
            for (int n = 0; n < P; ++n) {
                auto& sum = sums[D % SETS<Isa, R, P>][r][n];
                sum = Isa::dot(sum, x, trits[n]);
            }
        }
    };
    step(std::integral_constant<int, 0>{});
    step(std::integral_constant<int, 1>{});
    step(std::integral_constant<int, 2>{});
    step(std::integral_constant<int, 3>{});
}

// The products of blocks `block` to `end`.
template <class Isa, int R, int P, bool DECODED>
inline void sum_blocks(const Weights& w, Panels<DECODED> panels, const uint8_t* const (&data)[R],
                       int64_t block, int64_t end, Accumulators<Isa, R, P>& sums) {
    Accumulators<Isa, R, P> sets[SETS<Isa, R, P>];
#pragma GCC unroll 64
    for (int i = 0; i < SETS<Isa, R, P> * R * P; ++i)
        sets[i / (R * P)][i / P % R][i % P] = Isa::zero();
    panels.data += block * Panels<DECODED>::BYTES;
    for (; block < end; ++block, panels.data += Panels<DECODED>::BYTES)
        add_block<Isa, R, P, DECODED>(panels, w.offsets + block * DWORDS, data, sets);
#pragma GCC unroll 64
    for (int i = 0; i < SETS<Isa, R, P> * R * P; ++i) {
        auto& sum = sums[i / P % R][i % P];
        const auto& part = sets[i / (R * P)][i / P % R][i % P];
        sum = i < R * P ? part : Isa::add(sum, part);
    }
}

// The same in int32, however many blocks there are.
template <class Isa, int R, int P, bool DECODED>
inline void sum_group(const Weights& w, const Panels<DECODED>& panels,
                      const uint8_t* const (&data)[R], int64_t block, int64_t end,
                      Accumulators<Isa, R, P>& sums) {
    if constexpr (Isa::BLOCKS == 0) {
        sum_blocks<Isa, R, P, DECODED>(w, panels, data, block, end, sums);
    } else {
#pragma GCC unroll 64
        for (int i = 0; i < R * P; ++i) sums[i / P][i % P] = Isa::zero();
        while (block < end) {
            const int64_t stop = block + Isa::BLOCKS < end ? block + Isa::BLOCKS : end;
            Accumulators<Isa, R, P> narrow;
            sum_blocks<Isa, R, P, DECODED>(w, panels, data, block, stop, narrow);
#pragma GCC unroll 64
            for (int i = 0; i < R * P; ++i)
                sums[i / P][i % P] = Isa::widen(sums[i / P][i % P], narrow[i / P][i % P]);
            block = stop;
        }
    }
}

// R rows × P panels, accumulated in registers. POOL writes one row: the greatest of each output.
template <class Isa, int R, int P, bool POOL, bool DECODED>
void compute_tile(const Weights& w, int64_t panel, const Panels<DECODED>& panels,
                  const Row<uint8_t>* rows, float* out, int64_t stride) {
    const uint8_t* data[R];
    for (int r = 0; r < R; ++r) data[r] = rows[r].data;
    Floats total[R][P][PARTS] = {};
    int64_t block = 0;
    for (int64_t group = 0; group < w.groups; ++group) {
        Accumulators<Isa, R, P> sums;
        sum_group<Isa, R, P, DECODED>(w, panels, data, block, w.group_blocks[group], sums);
        block = w.group_blocks[group];
        const int64_t at = (group * w.panels + panel) * LANES;
        if constexpr (POOL)
            if (w.groups == 1 && same_bias<R>(rows)) {
            // Scales are not negative, so that all that follows grows with the sum.
#pragma GCC unroll 64
                for (int i = 0; i < P * PARTS; ++i) {
                    const int n = i / PARTS, part = i % PARTS;
                    const int64_t lane = at + n * LANES + part * WIDTH;
                    Ints most = Isa::part(sums[0][n], part);
#pragma GCC unroll 8
                    for (int r = 1; r < R; ++r) most = greater(Isa::part(sums[r][n], part), most);
                    const Floats y = scaled<Isa>(most, rows[0].zero, w, lane);
                    write_some(out + lane, w.outputs - lane,
                               finish(y, rows[0].scale, rows[0].bias + lane, w));
                }
                return;
            }
#pragma GCC unroll 64
        for (int i = 0; i < R * P * PARTS; ++i) {
            const int r = i / (P * PARTS), n = i / PARTS % P, part = i % PARTS;
            const int64_t lane = at + n * LANES + part * WIDTH;
            total[r][n][part] += scaled<Isa>(Isa::part(sums[r][n], part), rows[r].zero, w, lane);
        }
    }
#pragma GCC unroll 64
    for (int i = 0; i < (POOL ? 1 : R) * P * PARTS; ++i) {
        const int r = i / (P * PARTS), n = i / PARTS % P, part = i % PARTS;
        const int64_t lane = (panel + n) * LANES + part * WIDTH;
        Floats y = finish(total[r][n][part], rows[r].scale, rows[r].bias + lane, w);
        if constexpr (POOL)
#pragma GCC unroll 8
            for (int other = 1; other < R; ++other) {
                const Row<uint8_t>& row = rows[other];
                y = greater(finish(total[other][n][part], row.scale, row.bias + lane, w), y);
            }
        write_some(out + r * stride + lane, w.outputs - lane, y);
    }
}

template <class Isa, int R, int P, bool DECODED>
void compute_rows(const Weights& w, int64_t panel, const Panels<DECODED>& panels,
                  const Row<uint8_t>* rows, int64_t count, float* out, int64_t stride) {
    for (; count >= R; count -= R, rows += R, out += R * stride)
        compute_tile<Isa, R, P, false>(w, panel, panels, rows, out, stride);
    if constexpr (R > 1)
        if (count > 0) compute_rows<Isa, R / 2, P>(w, panel, panels, rows, count, out, stride);
}

template <class Isa>
void decode_panel(const uint8_t* codes, int64_t blocks, Decoded* to) {
    for (; blocks > 0; --blocks, codes += BLOCK_BYTES, ++to) {
        const auto packed = Isa::load(codes);
        Isa::store(to->bytes[0], Isa::template decode<0>(packed));
        Isa::store(to->bytes[1], Isa::template decode<1>(packed));
        Isa::store(to->bytes[2], Isa::template decode<2>(packed));
        Isa::store(to->bytes[3], Isa::template decode<3>(packed));
    }
}

// Panels from `panel` on, P at a time; R rows at a time, or the four of a pool. Without `room`
// the codes are decoded already.
template <class Isa, int R, int P, bool DECODED>
void matmul_panels(const Weights& w, int64_t panel, const Row<uint8_t>* rows, int64_t count,
                   bool pool, Decoded* room, float* out, int64_t stride) {
    for (; panel + P <= w.panels; panel += P) {
        const uint8_t* codes = w.codes + panel * w.blocks * BLOCK_BYTES;
        Panels<DECODED> panels{codes, w.blocks * Panels<DECODED>::BYTES};
        if constexpr (DECODED) {
            if constexpr (Isa::DECODED_ROWS > 0) {
                static_assert(P == 1);
                decode_panel<Isa>(codes, w.blocks, room);
                panels.data = room->bytes[0];
            } else {
                panels.data = w.codes + panel * panels.stride;
            }
        }
        if constexpr (R > 1)
            if (pool) {
                for (int64_t i = 0; i + POOLED_ROWS <= count; i += POOLED_ROWS)
                    compute_tile<Isa, POOLED_ROWS, P, true>(w, panel, panels, rows + i,
                                                            out + i / POOLED_ROWS * stride, stride);
                continue;
            }
        compute_rows<Isa, R, P>(w, panel, panels, rows, count, out, stride);
    }
    if constexpr (P > 1)
        if (panel < w.panels)
            matmul_panels<Isa, R, P / 2, DECODED>(w, panel, rows, count, pool, room, out, stride);
}

template <class Isa>
void matmul(const Weights& w, const Row<uint8_t>* rows, int64_t count, bool pool, Decoded* room,
            float* out, int64_t stride) {
    if constexpr (Isa::DECODED_ROWS > 0)
        if (count >= Isa::DECODED_ROWS) {
            matmul_panels<Isa, Isa::ROWS, Isa::PANELS, true>(w, 0, rows, count, pool, room, out,
                                                             stride);
            return;
        }
    if (count == 1)
        matmul_panels<Isa, 1, Isa::ROW_PANELS, false>(w, 0, rows, 1, false, room, out, stride);
    else
        matmul_panels<Isa, Isa::ROWS, Isa::PANELS, false>(w, 0, rows, count, pool, room, out,
                                                          stride);
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
        write_some(out + r * stride + lane, w.outputs - lane,
                   finish(total[r], rows[r].scale, rows[r].bias + lane, w));
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
void matmul_bytes(const Weights& w, const Row<uint8_t>* rows, int64_t count, bool pool, float* out,
                  int64_t stride) {
    if (count == 1)
        matmul_panels<Isa, 1, Isa::ROW_PANELS, true>(w, 0, rows, 1, false, nullptr, out, stride);
    else
        matmul_panels<Isa, Isa::ROWS, Isa::PANELS, true>(w, 0, rows, count, pool, nullptr, out,
                                                         stride);
}

// `Bytes` is the Isa for weights of 8 bits. It has SHIFT 0, no BLOCKS, and for depthwise weights
//   Taps       of 16 channels: as `taps` has them of four bytes each
//   quads      the bytes of four lines, for 16 channels
//   dot        of these two
template <class Isa, class Bytes>
constexpr Kernels make_kernels(const char* name) {
    return {name,
            matmul<Isa>,
            matmul_bytes<Bytes>,
            matmul_exact,
            range,
            quantize,
            requantize,
            max_pool,
            normalize,
            read_bytes,
            {depthwise_bytes<Bytes>, depthwise_floats, float_matmul, pack_panels, attention,
             layer_norm, softmax, group_norm, unary, clamp_values, binary, max_pool_map,
             average_pool_map, mean_map}};
}

}  // namespace
}  // namespace tritbench
