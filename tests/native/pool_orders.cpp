// The pool of threads, run in thousands of orders of its every atomic operation: see explore.hpp.
// Prints how many runs were right; ends with 1 at the first that isn't, and says which.
#include "explored_std.hpp"

// All that the pool and the layers include, as itself.
#include <bit>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <thread>

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>

namespace {

std::vector<void (*)()> after_fork_in_child;

int explored_atfork(void (*)(), void (*)(), void (*child)()) {
  after_fork_in_child.push_back(child);
  return 0;
}

}  // namespace

#define std explored_std
#define pthread_atfork explored_atfork
#define FUSEDOPT_POOL
#define FUSEDOPT_HAS_THREADS
#include "engine/forks.cpp"
#include "engine/layers.cpp"
#include "engine/openmp.cpp"
#include "engine/pool.cpp"
#include "engine/threads.cpp"
#undef pthread_atfork
#undef std

namespace {

using explore::world;
using fusedopt::LayerName;

// What a caller writes, others read; each chunk is done once, and no chunk before the job or after
// it.
class Work {
 public:
  Work(std::size_t count, int threads, std::size_t slow, std::size_t needed,
       explore::Plain* exclusive)
      : done_(count),
        threads_(threads),
        slow_(world().random(2) ? slow : 0),
        needed_(needed),
        exclusive_(exclusive) {
    input_.write(1);
    open_ = true;
  }

  void run() {
    fusedopt::parallel_ranges(std::int64_t(done_.size()), threads_, &run_range, this);
    end();
  }

 private:
  static void run_range(const void* context, std::int64_t first, std::int64_t last) {
    Work& work = *static_cast<Work*>(const_cast<void*>(context));
    for (std::int64_t k = first; k < last; ++k) work.run_chunk(std::size_t(k));
  }

  void end() {
    open_ = false;
    for (explore::Plain& chunk : done_) {
      if (chunk.read() != 1) world().fail("a chunk that nobody has done");
    }
  }

  void run_chunk(std::size_t k) {
    if (!open_) world().fail("a task outside of its job");
    if (input_.read() != 1) world().fail("a job that isn't there yet");
    done_.at(k).write(done_[k].read() + 1);
    come();
    // So that the caller falls asleep, or a worker misses the end.
    for (std::size_t n = world().random(4) ? 0 : slow_; n > 0; --n) world().point();
    if (!open_) world().fail("a task outside of its job");
  }

  // Nobody goes on before as many threads as are needed have come.
  void come() {
    const unsigned self = 1u << world().self_index();
    if (!(came_ & self)) {
      world().wake(this, true);
      came_ |= self;
      if (std::popcount(came_) > threads_) world().fail("more threads than were asked for");
      // No two jobs are shared at the same time.
      if (std::popcount(came_) == 2 && exclusive_) exclusive_->write(exclusive_->read() + 1);
    }
    while (std::size_t(std::popcount(came_)) < needed_) {
      world().stand_in_line(this);
      world().stop();
    }
  }

  explore::Plain input_;
  std::vector<explore::Plain> done_;
  int threads_;
  std::size_t slow_, needed_;
  explore::Plain* exclusive_;
  unsigned came_ = 0;
  bool open_ = false;
};

void idle() {
  // Some 2 turns of a waiting worker, which fall asleep; now and then.
  for (std::size_t n = world().random(3) ? 0 : 400; n > 0; --n) world().point(true);
}

void begin(LayerName layer) {
  fusedopt::the_layers.store(nullptr);
  fusedopt::choose_layer(layer);
}

// Several callers, each of which finds the layers taken by another or takes them.
void callers(std::uint64_t seed) {
  begin(seed % 2 ? LayerName::pool : LayerName::automatic);
  explore::Plain exclusive;
  const auto call = [&] {
    for (int k = 0; k < 6; ++k) {
      Work(2 + world().random(17), 2 + int(world().random(2)), 300, 0, &exclusive).run();
      idle();
    }
  };
  world().run(seed, {call, call, call});
}

// A caller who can't do without the workers: none may sleep through a job.
void all_are_needed(std::uint64_t seed) {
  begin(LayerName::pool);
  explore::Plain exclusive;
  world().run(seed, {[&] {
                for (int k = 0; k < 4; ++k) {
                  const int threads = 2 + int(world().random(3));
                  // Where the system refuses some threads, one has to do.
                  const std::size_t needed = world().has_few_threads() ? 1 : std::size_t(threads);
                  Work(16, threads, 0, needed, &exclusive).run();
                  idle();
                }
              }});
}

// Two threads that make the layers; then one of them forks, while the other is anywhere.
void a_fork(std::uint64_t seed) {
  begin(LayerName::pool);
  int forked = 0;
  const auto call = [&] {
    for (int k = 0; k < 3; ++k) {
      Work(16, 3, 100, 0, nullptr).run();
      idle();
      if (k == 1 && forked++ == 0) {
        world().lose_others();
        for (const auto handler : after_fork_in_child) handler();
        // With workers of its own, as the parent's aren't there.
        const bool refused = world().has_few_threads();
        Work(16, 3, 0, refused ? 1 : 3, nullptr).run();
      }
    }
  };
  world().run(seed, {call, call});
}

}  // namespace

int main(int argc, char** argv) {
  const auto runs = static_cast<std::uint64_t>(argc > 1 ? std::atoll(argv[1]) : 1000);
  const std::pair<const char*, void (*)(std::uint64_t)> scenarios[] = {
      {"callers", &callers}, {"all are needed", &all_are_needed}, {"a fork", &a_fork}};
  for (const auto& [name, scenario] : scenarios) {
    std::printf("%s: ", name);
    for (std::uint64_t seed = 1; seed <= runs; ++seed) scenario(seed);
    std::printf("%llu runs\n", static_cast<unsigned long long>(runs));
  }
}
