// Every instruction set that this machine has against `generic`, bit for bit, on random layers.
// tests/test_arm.py builds it for Arm and runs it under qemu.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "agree_floats.h"
#include "kernels.h"

using namespace tritbench;

namespace {

std::mt19937 engine(0);

int64_t draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine);
}

template <class T>
std::vector<T> random_values(int64_t count, double scale) {
    std::normal_distribution<double> normal(0, scale);
    std::vector<T> values(static_cast<size_t>(count));
    for (T& value : values) value = static_cast<T>(normal(engine));
    return values;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class T>
std::vector<Row<T>> make_rows(const std::vector<T>& data, int64_t count, int64_t width,
                              const float* bias) {
    std::vector<Row<T>> rows;
    for (int64_t r = 0; r < count; ++r)
        rows.push_back({data.data() + r * width, 0.01F, static_cast<int32_t>(r % 200), bias});
    return rows;
}

int32_t sum_trits(const uint8_t* panel, int64_t lane, int64_t block, int64_t end) {
    int32_t sum = 0;
    for (; block < end; ++block)
        for (int64_t i = 0; i < 4; ++i)
            for (int trit = 0; trit < 4; ++trit) {
                const int code = panel[block * BLOCK_BYTES + 4 * lane + i] >> (2 * trit) & 3;
                sum += code == 3 ? -1 : code;
            }
    return sum;
}

bool matmul_agrees(const Kernels& kernels, const Kernels& oracle) {
    const int64_t panels = draw(1, 9), groups = draw(1, 3), rows = draw(1, 11);
    std::vector<int32_t> ends;
    for (int64_t g = 0; g < groups; ++g)
        ends.push_back(static_cast<int32_t>((ends.empty() ? 0 : ends.back()) + draw(1, 40)));
    const int64_t blocks = ends.back(), lanes = panels * LANES, width = blocks * 16;
    std::vector<uint8_t> bytes(static_cast<size_t>((panels * blocks + 1) * BLOCK_BYTES));
    auto* codes = bytes.data() + BLOCK_BYTES - reinterpret_cast<uintptr_t>(bytes.data()) % 64;
    const bool widest = draw(0, 3) == 0;  // the sums that come nearest to overflowing
    const char* trits = widest ? draw(0, 1) == 1 ? "\1\1\1" : "\3\3\3" : "\0\1\3";
    for (int64_t i = 0; i < panels * blocks * BLOCK_BYTES; ++i)
        for (int trit = 0; trit < 4; ++trit)
            codes[i] |= static_cast<uint8_t>(trits[draw(0, 2)] << (2 * trit));
    std::vector<int32_t> offsets;
    for (int64_t d = 0; d < blocks * DWORDS; ++d)
        offsets.push_back(static_cast<int32_t>(draw(0, width - DWORD_INPUTS)));
    std::vector<int32_t> sums;
    for (int64_t g = 0; g < groups; ++g)
        for (int64_t lane = 0; lane < lanes; ++lane)
            sums.push_back(sum_trits(codes + lane / LANES * blocks * BLOCK_BYTES, lane % LANES,
                                     g == 0 ? 0 : ends[static_cast<size_t>(g - 1)],
                                     ends[static_cast<size_t>(g)]));
    const auto scales = random_values<float>(groups * lanes, 1);
    const auto bias = random_values<float>(lanes, 1);
    const Weights weights{panels,        blocks,         groups,
                          codes,         offsets.data(), ends.data(),
                          scales.data(), sums.data(),    draw(0, 1) == 1 ? 0.0F : -1e9F,
                          1e9F,          lanes};
    std::vector<float> found(static_cast<size_t>(rows * lanes)), expected(found);

    std::vector<uint8_t> pixels(static_cast<size_t>(rows * width));
    for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(widest ? 255 : draw(0, 255));
    const bool pool = draw(0, 1) == 1;
    std::vector<Decoded> room(static_cast<size_t>(blocks));
    const auto pixel_rows = make_rows(pixels, rows, width, bias.data());
    kernels.matmul(weights, pixel_rows.data(), rows, pool, room.data(), found.data(), lanes);
    oracle.matmul(weights, pixel_rows.data(), rows, pool, room.data(), expected.data(), lanes);
    if (!same(found, expected)) return false;

    const auto floats = random_values<float>(rows * width, 1);
    const auto float_rows = make_rows(floats, rows, width, bias.data());
    kernels.matmul_exact(weights, float_rows.data(), rows, found.data(), lanes);
    oracle.matmul_exact(weights, float_rows.data(), rows, expected.data(), lanes);
    return same(found, expected);
}

bool values_agree(const Kernels& kernels, const Kernels& oracle) {
    const int64_t count = draw(1, 100);
    const auto values = random_values<float>(count, 50);
    float low, high, oracle_low, oracle_high;
    kernels.range(values.data(), count, &low, &high);
    oracle.range(values.data(), count, &oracle_low, &oracle_high);
    std::vector<uint8_t> found(static_cast<size_t>(count)), expected(found);
    kernels.quantize(values.data(), count, 0.9F, 100, found.data());
    oracle.quantize(values.data(), count, 0.9F, 100, expected.data());
    std::vector<uint8_t> clamped(found), oracle_clamped(found);
    const auto zero = static_cast<int32_t>(draw(0, 255));
    bool same_levels = kernels.requantize(values.data(), count, 9.0F, zero, clamped.data()) &&
                       oracle.requantize(values.data(), count, 9.0F, zero, oracle_clamped.data()) &&
                       clamped == oracle_clamped;
    std::vector<float> wrong(values);
    wrong[static_cast<size_t>(draw(0, count - 1))] = draw(0, 1) == 1 ? NAN : -INFINITY;
    same_levels =
        same_levels && !kernels.requantize(wrong.data(), count, 9.0F, zero, clamped.data());
    std::vector<float> normal(values), oracle_normal(values);
    const bool finite = kernels.normalize(values.data(), count, 0.3F, 0.7F, normal.data()) &&
                        oracle.normalize(values.data(), count, 0.3F, 0.7F, oracle_normal.data());
    const auto map = random_values<float>(8 * 32, 1);
    std::vector<float> pooled(3 * 32), oracle_pooled(pooled);
    kernels.max_pool(map.data(), 4 * 32, 32, {2, 2, 1, 1}, 3, pooled.data());
    oracle.max_pool(map.data(), 4 * 32, 32, {2, 2, 1, 1}, 3, oracle_pooled.data());
    return low == oracle_low && high == oracle_high && found == expected && same_levels && finite &&
           same(normal, oracle_normal) && same(pooled, oracle_pooled);
}

}  // namespace

int main() {
    int failures = 0;
    for (const char* name : ISAS) {
        const Kernels* kernels = find_kernels(name);
        if (!kernels) continue;
        bool agrees = true;
        for (int i = 0; i < 300; ++i)
            agrees = agrees && matmul_agrees(*kernels, *find_kernels("generic")) &&
                     values_agree(*kernels, *find_kernels("generic")) &&
                     FloatCases(*kernels, *find_kernels("generic"), engine).agree();
        std::printf("%s %s\n", name, agrees ? "agrees" : "DIFFERS");
        failures += !agrees;
    }
    return failures;
}
