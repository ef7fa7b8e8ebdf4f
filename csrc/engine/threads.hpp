// Threads. The only place that knows OpenMP; without it everything runs on the calling thread.
#pragma once

#include <cstdint>

namespace fusedopt {

constexpr int max_threads = 1024;

// The date of the OpenMP standard that the compiler states, "201511" say, or nullptr where the
// build has no OpenMP.
const char* openmp_version();

// Starts as the OpenMP runtime's own default: OMP_NUM_THREADS, else the CPUs of the affinity mask.
int num_threads();
void set_num_threads(int count);  // 1 to max_threads

// How many times this process and its ancestors have forked since the library was loaded.
std::uint64_t fork_count();

// Splits 0..count into one contiguous range a thread and calls task(context, first, last) for each.
// Which thread gets what depends on the number of threads; tasks must not.
void parallel_ranges(std::int64_t count, int threads,
                     void (*task)(const void* context, std::int64_t first, std::int64_t last),
                     const void* context);

}  // namespace fusedopt
