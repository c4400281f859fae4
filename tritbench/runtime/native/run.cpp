// Divides images into blocks, and large work among threads.

#include <exception>
#include <system_error>
#include <thread>

#include "block.h"
#include "network.h"

namespace tritbench {
namespace {

constexpr int64_t BLOCK_IMAGES = 128;
constexpr int64_t BLOCK_MEMORY = 256 << 10;  // bytes of activations between two stages
constexpr int64_t THREAD_WORK = 20 << 20;    // products for which a thread is worth its start

template <class T, class Image>
void run_range(const Network& network, const Image* images, int64_t count, float* logits) {
    thread_local Scratch<T> scratch;
    int64_t largest = 1;
    for (const Stage& stage : network.stages)
        if (stage.positions() > 1 || &stage != &network.stages.front())
            largest = std::max<int64_t>(largest, stage.padded() * static_cast<int64_t>(sizeof(T)));
    const int64_t step = std::clamp(BLOCK_MEMORY / largest / 4 * 4, int64_t{8}, BLOCK_IMAGES);
    for (int64_t i = 0; i < count; i += step)
        Block<T>(network, std::min(step, count - i),
                 logits + i * static_cast<int64_t>(network.order.size()), scratch)
            .run(images + i * network.image_size());
}

template <class Image>
void run_threads(const Network& network, const Image* images, int64_t count, float* logits) {
    const auto part = [&](int64_t from, int64_t to) {
        const Image* some = images + from * network.image_size();
        float* out = logits + from * static_cast<int64_t>(network.order.size());
        if (network.exact)
            run_range<float>(network, some, to - from, out);
        else
            run_range<uint8_t>(network, some, to - from, out);
    };
    const int64_t work = network.products();
    const int64_t worth = std::min<int64_t>(count / 8, count * work / THREAD_WORK);
    const int64_t threads = std::clamp<int64_t>(worth, 1, network.threads);
    if (threads == 1) {
        part(0, count);
        return;
    }
    // Work that is worth threads takes far longer than starting them: no pool, nothing to wake,
    // nothing that a fork could lose.
    std::vector<std::exception_ptr> errors(as_size(threads));
    std::vector<std::thread> others;
    const auto from = [&](int64_t t) { return count * t / threads / 4 * 4; };
    const auto guarded = [&](int64_t t) {
        try {
            part(from(t), t + 1 == threads ? count : from(t + 1));
        } catch (...) {
            errors[as_size(t)] = std::current_exception();
        }
    };
    for (int64_t t = 1; t < threads; ++t) try {
            others.emplace_back(guarded, t);
        } catch (const std::system_error&) {  // no more threads to be had
            guarded(t);
        }
    guarded(0);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

}  // namespace

void run(const Network& network, const uint8_t* pixels, int64_t count, float* logits) {
    run_threads(network, pixels, count, logits);
}

void run(const Network& network, const float* images, int64_t count, float* logits) {
    run_threads(network, images, count, logits);
}

}  // namespace tritbench
