#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace tritbench {
namespace {

constexpr int SPINS = 4000;  // some 20 µs
constexpr int MOST_THREADS = 256;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

struct Pool {
    std::mutex use;  // of the pool, by one call at a time
    std::mutex sleep;
    std::condition_variable wake;
    std::atomic<uint64_t> job{0};
    std::atomic<int64_t> pending{0};
    std::atomic<int> sleeping{0};
    int64_t parts = 0;
    void (*body)(void*, int64_t) = nullptr;
    void* context = nullptr;
    std::atomic<int> workers{0};

    void work(int64_t index) {
        uint64_t seen = 0;
        while (true) {
            uint64_t now = job.load(std::memory_order_acquire);
            for (int spin = 0; now == seen && spin < SPINS; ++spin) {
                pause();
                now = job.load(std::memory_order_acquire);
            }
            if (now == seen) {
                std::unique_lock<std::mutex> lock(sleep);
                ++sleeping;
                wake.wait(lock, [&] { return job.load() != seen; });
                --sleeping;
                now = job.load();
            }
            seen = now;
            // All workers take part in the count, so that none is late for the next work.
            if (index < parts) body(context, index);
            pending.fetch_sub(1, std::memory_order_release);
        }
    }
};

// Never destroyed: its threads run until the process ends. A child of a fork has none of them.
Pool* pool = new Pool;

void forget_pool() { pool = new Pool; }

}  // namespace

int start_threads(int count) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    (void)registered;
    Pool* const own = pool;
    if (own->workers + 1 >= count) return own->workers + 1;
    const std::lock_guard<std::mutex> lock(own->use);
    count = count < MOST_THREADS ? count : MOST_THREADS;
    while (own->workers + 1 < count) try {
            const int64_t index = own->workers + 1;
            std::thread([own, index] { own->work(index); }).detach();
            ++own->workers;
        } catch (const std::system_error&) {  // no more threads to be had
            break;
        }
    return own->workers + 1;
}

void run_in_pool(int64_t parts, void (*body)(void* context, int64_t part), void* context) {
    Pool* const own = pool;
    const std::unique_lock<std::mutex> lock(own->use, std::try_to_lock);
    const int64_t shared = lock.owns_lock() ? own->workers + 1 : 1;
    if (shared > 1) {
        own->parts = parts < shared ? parts : shared;
        own->body = body;
        own->context = context;
        own->pending.store(own->workers, std::memory_order_relaxed);
        own->job.fetch_add(1);
        if (own->sleeping.load() > 0) {
            const std::lock_guard<std::mutex> guard(own->sleep);
            own->wake.notify_all();
        }
    }
    body(context, 0);
    for (int64_t i = shared > 1 ? own->parts : 1; i < parts; ++i) body(context, i);
    if (shared == 1) return;
    for (int spin = 0; own->pending.load(std::memory_order_acquire) > 0; ++spin) {
        if (spin < SPINS)
            pause();
        else
            std::this_thread::yield();
    }
}

}  // namespace tritbench
