#include "engine/threads.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <thread>

#ifdef FUSEDOPT_THREADS
#include "engine/pool.hpp"
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FUSEDOPT_POSIX 1
#endif

#ifdef __linux__
#include <sched.h>

#include <cerrno>
#include <memory>
#endif

namespace fusedopt {
namespace {

#ifdef FUSEDOPT_THREADS

// The first of a list of positive numbers, or nothing where the text is no such list.
std::optional<int> first_of_list(const char* text) {
  const char* const end = text + std::strlen(text);
  const auto skip_spaces = [&] { text += std::strspn(text, " \t\n\v\f\r"); };
  std::optional<int> first;
  while (true) {
    int number = 0;
    skip_spaces();
    const auto [rest, error] = std::from_chars(text, end, number);
    if (error != std::errc() || number < 1) return std::nullopt;
    if (!first) first = number;
    text = rest;
    skip_spaces();
    if (text == end) return first;
    if (*text++ != ',') return std::nullopt;
  }
}

// How many CPUs this process may run on.
int available_cpus() {
#ifdef __linux__
  // The kernel refuses a set that is smaller than its own, and doesn't say how large that is.
  for (std::size_t cpus = CPU_SETSIZE; cpus <= (1 << 20); cpus *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(
        CPU_ALLOC(cpus), [](cpu_set_t* allocated) { CPU_FREE(allocated); });
    if (!set) break;
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set.get()) == 0) {
      return CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set.get());
    }
    if (errno != EINVAL) break;
  }
#endif
  return static_cast<int>(std::min<unsigned>(std::thread::hardware_concurrency(), max_threads));
}

int default_threads() {
  const char* setting = std::getenv("OMP_NUM_THREADS");
  const std::optional<int> wanted = setting ? first_of_list(setting) : std::nullopt;
  return std::clamp(wanted ? *wanted : available_cpus(), 1, max_threads);
}

// Made when first needed, and never destroyed.
std::atomic<Pool*> the_pool{nullptr};

// nullptr where there is no memory for one.
Pool* pool() {
  Pool* existing = the_pool.load(std::memory_order_acquire);
  if (existing) return existing;
  Pool* const made = new (std::nothrow) Pool;
  if (the_pool.compare_exchange_strong(existing, made)) return made;
  delete made;  // another thread was faster
  return existing;
}

#else

int default_threads() { return 1; }

#endif

std::atomic<int> thread_setting{default_threads()};

std::atomic<std::uint64_t> forks{0};

#ifdef FUSEDOPT_POSIX
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  forks.fetch_add(1, std::memory_order_relaxed);
#ifdef FUSEDOPT_THREADS
  // The workers stayed behind in the parent, and what they were doing is half done for ever: the
  // child leaves the pool alone and makes its own.
  the_pool.store(nullptr, std::memory_order_relaxed);
#endif
});
#endif

}  // namespace

bool has_threads() {
#ifdef FUSEDOPT_THREADS
  return true;
#else
  return false;
#endif
}

int num_threads() { return thread_setting.load(std::memory_order_relaxed); }

void set_num_threads(int count) { thread_setting.store(count, std::memory_order_relaxed); }

std::uint64_t fork_count() { return forks.load(std::memory_order_relaxed); }

void parallel_ranges(std::int64_t count, [[maybe_unused]] int threads, RangeTask task,
                     const void* context) noexcept {
#ifdef FUSEDOPT_THREADS
  if (threads > 1 && count > 1) {
    Pool* const shared = pool();
    if (shared && shared->run(count, threads, task, context)) return;
  }
#endif
  task(context, 0, count);
}

}  // namespace fusedopt
