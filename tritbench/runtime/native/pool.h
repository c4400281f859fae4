// Threads that are kept. They spin for a moment after some work, then sleep.

#pragma once

#include <cstdint>

namespace tritbench {

// body(context, i) for each i below `parts`, one of them on this thread. Where another call has the
// pool, all on this thread.
void run_in_pool(int64_t parts, void (*body)(void* context, int64_t part), void* context);

// Sees that so many threads are there, this one among them; returns how many are.
int start_threads(int count);

}  // namespace tritbench
