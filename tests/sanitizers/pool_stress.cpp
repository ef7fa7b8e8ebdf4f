// The pool of threads on real ones, for ThreadSanitizer: several callers, workers that sleep and
// wake, jobs of all sizes, forks. It finds plain memory that two threads use without an order
// between them, however seldom they meet; tests/native/ has the orders themselves.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "engine/layers.hpp"
#include "engine/threads.hpp"

namespace {

struct Job {
  const std::int64_t* factor;
  std::vector<std::int64_t> done;
};

void run_range(const void* context, std::int64_t first, std::int64_t last) {
  Job& job = *static_cast<Job*>(const_cast<void*>(context));
  for (std::int64_t k = first; k < last; ++k) job.done[std::size_t(k)] += k * *job.factor;
}

bool call(int caller, int jobs) {
  for (std::int64_t n = 0; n < jobs; ++n) {
    const std::int64_t count = 2 + (n * 7 + caller) % 40;
    Job job{&n, std::vector<std::int64_t>(std::size_t(count))};
    fusedopt::parallel_ranges(count, 2 + int(n % 4), &run_range, &job);
    for (std::int64_t k = 0; k < count; ++k) {
      if (job.done[std::size_t(k)] != k * n) return false;
    }
    // Now and then workers fall asleep.
    if (n % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

bool callers(int count, int jobs) {
  std::vector<char> right(std::size_t(count), 0);
  std::vector<std::thread> threads;
  for (int k = 0; k < count; ++k) {
    threads.emplace_back([&right, k, jobs] { right[std::size_t(k)] = call(k, jobs); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const char r : right) {
    if (!r) return false;
  }
  return true;
}

#ifdef __SANITIZE_THREAD__
constexpr bool can_fork = false;  // its runtime lets a child make no threads
#else
constexpr bool can_fork = true;
#endif

bool forks(int count, int jobs) {
  std::thread beside([jobs] { call(9, jobs); });
  bool right = true;
  for (int k = 0; k < count; ++k) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const pid_t child = fork();
    if (child == 0) _exit(call(k, 50) ? 0 : 1);
    int status = 0;
    waitpid(child, &status, 0);
    right = right && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  beside.join();
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  const int jobs = argc > 1 ? std::atoi(argv[1]) : 2000;
  // Callers first, all of which want the pool made; then what chooses, by times.
  fusedopt::choose_layer(fusedopt::LayerName::pool);
  if (!callers(4, jobs)) return std::puts("a job that isn't done"), 1;
  fusedopt::choose_layer(fusedopt::LayerName::automatic);
  if (!callers(4, jobs)) return std::puts("a job that isn't done"), 1;
  if (can_fork && !forks(20, jobs)) return std::puts("a child that failed"), 1;
  std::printf("%d jobs\n", 9 * jobs);
}
