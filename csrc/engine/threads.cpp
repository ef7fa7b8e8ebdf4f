#include "engine/threads.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#ifdef __linux__
#include <sched.h>

#include <cerrno>
#include <memory>
#endif

namespace fusedopt {
namespace {

#ifdef FUSEDOPT_HAS_THREADS

// The first of a list of positive numbers, or nothing where the text is no such list.
std::optional<int> first_of_list(const char* text) {
  const char* const end = text + std::strlen(text);
  const auto skip_spaces = [&] { text += std::strspn(text, " \t\n\v\f\r"); };
  std::optional<int> first;
  while (true) {
    int number = 0;
    skip_spaces();
    text = std::from_chars(text, end, number).ptr;
    if (number < 1) return std::nullopt;  // nor is it changed by what isn't one, or is too large
    if (!first) first = number;
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

#else

int default_threads() { return 1; }

#endif

std::atomic<int> thread_setting{default_threads()};

}  // namespace

bool has_threads() {
#ifdef FUSEDOPT_HAS_THREADS
  return true;
#else
  return false;
#endif
}

int num_threads() { return thread_setting.load(std::memory_order_relaxed); }

void set_num_threads(int count) { thread_setting.store(count, std::memory_order_relaxed); }

}  // namespace fusedopt
