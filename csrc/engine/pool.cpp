#include "engine/pool.hpp"

#include <algorithm>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

namespace fusedopt {
namespace {

constexpr std::uint64_t one_job = std::uint64_t(1) << 32;
constexpr std::uint64_t team_mask = 0xffff0000, inside_mask = 0xffff;
static_assert(max_threads <= 0xffff);

constexpr std::uint64_t job_number(std::uint64_t state) { return state / one_job; }
constexpr int team_of(std::uint64_t state) { return static_cast<int>((state & team_mask) >> 16); }
constexpr bool nobody_inside(std::uint64_t state) { return (state & inside_mask) == 0; }

// To wake a thread costs the caller some microseconds, and it comes some microseconds later. For
// fewer chunks than this that doesn't pay, unless jobs follow one another so fast that it then
// stays awake.
constexpr std::int64_t worth_waking = 16;

// Threads that are made during its lifetime get no signals but those for what a thread does itself,
// as to write to memory that isn't there: the others are for Python's threads.
class ScopedNoSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  ScopedNoSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int own : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) sigdelset(&all, own);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~ScopedNoSignals() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
#else
  ScopedNoSignals() {}
  ~ScopedNoSignals() {}
#endif

 public:
  ScopedNoSignals(const ScopedNoSignals&) = delete;
  ScopedNoSignals& operator=(const ScopedNoSignals&) = delete;
};

}  // namespace

bool Pool::run(const Job& job, int threads, Pace& pace) noexcept {
  const bool pays = job.follows || job.count >= worth_waking;
  const int team = pays ? grow(static_cast<int>(std::min<std::int64_t>(threads, job.count))) : 1;
  if (team < 2) return job.run(0, job.count), false;  // or no worker could be made
  share(job, team, pace);
  return true;
}

void Pool::share(const Job& job, int team, Pace& pace) {
  job_ = job;
  pace.expect(job.count / team);
  ranges_.share(job.count, team);
  next_to_wake_.store(1, std::memory_order_relaxed);

  const std::uint64_t number = job_number(state_.load(std::memory_order_relaxed)) + 1;
  state_ = number * one_job | std::uint64_t(team) << 16;
  // Everyone wakes one more before each chunk: many are soon awake, and few for little work.
  ranges_.take(
      0, team, [this, team] { wake_workers(team); },
      [&](std::int64_t chunk) { pace.run(job, chunk); });
  state_ &= ~team_mask;

  const auto finished = [this] { return nobody_inside(state_); };
  // A worker that is inside may have lost its core; asleep, the caller gives it this one.
  while (!spin_until(finished)) sleepers_[0]->sleep_unless(finished);
}

// Makes workers for a team of this size. Returns how large a team there can be.
int Pool::grow(int team) {
  team = ranges_.grow(team);
  if (size_ >= team) return team;
  try {
    const ScopedNoSignals no_signals;
    while (size_ < team) {
      auto& sleeper = sleepers_[std::size_t(size_)];
      if (!sleeper) sleeper = std::make_unique<OwnSleeper>();
      if (size_ > 0) std::thread([this, self = size_] { work(self); }).detach();
      ++size_;
    }
  } catch (...) {  // no memory, or as many threads as the system allows: fewer will do
  }
  return std::min(size_, team);
}

void Pool::wake_workers(int team) {
  while (next_to_wake_.load(std::memory_order_relaxed) < team) {
    const int k = next_to_wake_.fetch_add(1, std::memory_order_relaxed);
    if (k < team && sleepers_[std::size_t(k)]->wake()) return;
  }
}

void Pool::work(int self) {
  Sleeper& sleeper = *sleepers_[std::size_t(self)];
  std::uint64_t done = 0;  // the last job seen
  std::uint64_t state = 0;
  const auto wanted = [&] {
    state = state_;
    return self < team_of(state) && job_number(state) != done;
  };
  while (true) {
    if (!spin_until(wanted)) {
      sleeper.sleep_unless(wanted);
      continue;
    }
    if (!state_.compare_exchange_strong(state, state + 1)) continue;
    done = job_number(state);
    const int team = team_of(state);
    ranges_.take(
        self, team, [this, team] { wake_workers(team); },
        [this](std::int64_t chunk) { job_.run(chunk, chunk + 1); });
    const std::uint64_t left = state_.fetch_sub(1) - 1;
    if (team_of(left) == 0 && nobody_inside(left)) sleepers_[0]->wake();
  }
}

}  // namespace fusedopt
