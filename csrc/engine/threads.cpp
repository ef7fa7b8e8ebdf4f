#include "engine/threads.hpp"

#include <algorithm>
#include <atomic>

#ifdef FUSEDOPT_OPENMP
#include <omp.h>
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FUSEDOPT_POSIX 1
#endif

namespace fusedopt {
namespace {

int default_threads() {
#ifdef FUSEDOPT_OPENMP
  return std::clamp(omp_get_max_threads(), 1, max_threads);
#else
  return 1;
#endif
}

// Set while the library is loaded: see python/fusedopt/_startup.py.
std::atomic<int> thread_setting{default_threads()};

std::atomic<std::uint64_t> forks{0};

#ifdef FUSEDOPT_POSIX
// libgomp's worker threads don't survive fork(), but its record of them does: the child's next
// parallel region would wait for them for ever. So the forking thread's pool is wound up first; the
// next region makes a new one, in the parent and in the child. LLVM's libomp (whose header defines
// KMP_VERSION_MAJOR) sees to forks itself, and its pause would end the regions of other threads.
[[maybe_unused]] const int fork_handlers = pthread_atfork(
#if defined(FUSEDOPT_OPENMP) && !defined(KMP_VERSION_MAJOR)
    [] { omp_pause_resource_all(omp_pause_hard); },
#else
    nullptr,
#endif
    nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
#endif

}  // namespace

int num_threads() { return thread_setting.load(std::memory_order_relaxed); }

void set_num_threads(int count) { thread_setting.store(count, std::memory_order_relaxed); }

std::uint64_t fork_count() { return forks.load(std::memory_order_relaxed); }

const char* openmp_version() {
#ifdef FUSEDOPT_OPENMP
#define FUSEDOPT_TEXT_OF(number) #number
#define FUSEDOPT_TEXT(number) FUSEDOPT_TEXT_OF(number)
  return FUSEDOPT_TEXT(_OPENMP);
#else
  return nullptr;
#endif
}

void parallel_ranges(std::int64_t count, [[maybe_unused]] int threads,
                     void (*task)(const void*, std::int64_t, std::int64_t), const void* context) {
#ifdef FUSEDOPT_OPENMP
  const int team = static_cast<int>(std::min<std::int64_t>(threads, count));
  if (team > 1) {
#pragma omp parallel num_threads(team)
    {
      // The runtime may give fewer threads than it was asked for.
      const std::int64_t size = omp_get_num_threads(), mine = omp_get_thread_num();
      const std::int64_t first = count * mine / size, last = count * (mine + 1) / size;
      if (first < last) task(context, first, last);
    }
    return;
  }
#endif
  task(context, 0, count);
}

}  // namespace fusedopt
