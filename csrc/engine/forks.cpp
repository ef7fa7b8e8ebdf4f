#include "engine/forks.hpp"

#include <atomic>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FUSEDOPT_FORKS 1
#endif

namespace fusedopt {
namespace {

std::atomic<std::uint64_t> forks{0};

[[maybe_unused]] const bool count_forks =
    in_each_child([] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

#ifdef FUSEDOPT_FORKS
bool around_forks(void (*before)(), void (*after)(), void (*in_child)()) {
  return pthread_atfork(before, after, in_child) == 0;
}
#else
bool around_forks(void (*)(), void (*)(), void (*)()) { return false; }
#endif

std::uint64_t fork_count() { return forks.load(std::memory_order_relaxed); }

}  // namespace fusedopt
