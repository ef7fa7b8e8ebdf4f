// Threads: how many, and work split among them.
#pragma once

#include <cstdint>

namespace fusedopt {

constexpr int max_threads = 1024;

// Whether the build has any; without them everything runs on the calling thread.
bool has_threads();

// Starts as OMP_NUM_THREADS, where that is a list of positive numbers, else as the number of CPUs
// that the process may run on; as 1 in a build without threads.
int num_threads();
void set_num_threads(int count);  // 1 to max_threads

using RangeTask = void (*)(const void* context, std::int64_t first, std::int64_t last);

// Splits 0..count into ranges and calls task(context, first, last) for each, on several threads.
// Which thread gets what differs from call to call; tasks must not depend on it, nor throw. While
// it runs for one caller, the work of others stays on their own threads.
void parallel_ranges(std::int64_t count, int threads, RangeTask task, const void* context) noexcept;

}  // namespace fusedopt
