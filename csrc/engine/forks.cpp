#include "engine/forks.hpp"

#include <atomic>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FUSEDOPT_FORKS 1
#endif

namespace fusedopt {
namespace {

std::atomic<std::uint64_t> forks{0};

const InEachChild count_forks([] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

#ifdef FUSEDOPT_FORKS
AroundForks::AroundForks(void (*before)(), void (*after)(), void (*in_child)()) {
  pthread_atfork(before, after, in_child);
}
#else
AroundForks::AroundForks(void (*)(), void (*)(), void (*)()) {}
#endif

std::uint64_t fork_count() { return forks.load(std::memory_order_relaxed); }

}  // namespace fusedopt
