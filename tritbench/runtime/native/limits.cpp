#include "limits.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace tritbench {
namespace {

constexpr int ROUNDS = 20;

// The most work a second in several rounds.
template <class F>
double best_rate(double work, const F& call) {
    using Clock = std::chrono::steady_clock;
    double rate = 0;
    for (int round = 0; round < ROUNDS; ++round) {
        const auto start = Clock::now();
        call();
        rate = std::max(rate, work / std::chrono::duration<double>(Clock::now() - start).count());
    }
    return rate;
}

}  // namespace

Limits measure_limits(const Kernels& kernels, int64_t bytes) {
    std::vector<uint8_t> memory(static_cast<size_t>(bytes) + BLOCK_BYTES, 1);
    uint8_t* from = memory.data();
    from += (BLOCK_BYTES - reinterpret_cast<uintptr_t>(from) % BLOCK_BYTES) % BLOCK_BYTES;
    const int64_t times = std::max<int64_t>(1, (int64_t{8} << 20) / bytes);
    volatile int32_t sink = 0;
    const double read = best_rate(static_cast<double>(bytes * times), [&] {
        for (int64_t i = 0; i < times; ++i) sink = kernels.read_bytes(from, bytes);
    });

    constexpr int64_t PANELS = 4, BLOCKS = 64, ROWS = 32, LANES_ALL = PANELS * LANES;
    constexpr int64_t INPUTS = BLOCKS * DWORDS * DWORD_INPUTS;
    alignas(BLOCK_BYTES) static const uint8_t codes[PANELS * BLOCKS * BLOCK_BYTES] = {};
    std::vector<int32_t> offsets(BLOCKS * DWORDS), sums(LANES_ALL);
    for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int32_t>(i) * DWORD_INPUTS;
    const int32_t end = BLOCKS;
    const std::vector<float> floats(LANES_ALL);
    const Weights weights{PANELS,        BLOCKS,      1, codes, offsets.data(), &end,
                          floats.data(), sums.data(), 0, 0,     LANES_ALL};
    const std::vector<uint8_t> data(INPUTS);
    const std::vector<Row<uint8_t>> rows(ROWS, {data.data(), 1, 0, floats.data()});
    std::vector<float> out(ROWS * LANES_ALL);
    std::vector<Decoded> room(BLOCKS);
    constexpr int CALLS = 12;
    const double products = best_rate(double{CALLS * ROWS * LANES_ALL * INPUTS}, [&] {
        for (int i = 0; i < CALLS; ++i)
            kernels.matmul(weights, rows.data(), ROWS, false, room.data(), out.data(), LANES_ALL);
    });
    return {read, products};
}

}  // namespace tritbench
