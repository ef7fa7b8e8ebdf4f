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

// Threads that are made during its lifetime get no signals: those are for Python's threads.
class ScopedNoSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  ScopedNoSignals() {
    sigset_t all;
    sigfillset(&all);
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

bool Pool::run(std::int64_t count, int threads, RangeTask task, const void* context) noexcept {
  if (busy_.exchange(true)) return false;
  using Clock = std::chrono::steady_clock;
  if (count >= worth_waking || Clock::now() - last_end_ < spin_time) {
    share(count, grow(static_cast<int>(std::min<std::int64_t>(threads, count))), task, context);
  } else {
    task(context, 0, count);
  }
  last_end_ = Clock::now();
  busy_.store(false, std::memory_order_release);
  return true;
}

void Pool::share(std::int64_t count, int team, RangeTask task, const void* context) {
  if (team < 2) return task(context, 0, count);  // no worker could be made
  task_ = task;
  context_ = context;
  for (int k = 0; k < team; ++k) {
    Participant& participant = *participants_[std::size_t(k)];
    participant.next.store(count * k / team, std::memory_order_relaxed);
    participant.end = count * (k + 1) / team;
  }
  next_to_wake_.store(1, std::memory_order_relaxed);

  const std::uint64_t number = job_number(state_.load(std::memory_order_relaxed)) + 1;
  state_ = number * one_job | std::uint64_t(team) << 16;
  take_chunks(0, team);
  state_ &= ~team_mask;

  const auto finished = [this] { return nobody_inside(state_); };
  // A worker that is inside may have lost its core; asleep, the caller gives it this one.
  while (!spin_until(finished)) participants_[0]->sleeper.sleep_unless(finished);
}

// Makes workers for a team of this size. Returns how large a team there can be.
int Pool::grow(int team) {
  try {
    const ScopedNoSignals no_signals;
    while (size_ < team) {
      auto& participant = participants_[std::size_t(size_)];
      if (!participant) participant = std::make_unique<Participant>();
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
    if (k < team && participants_[std::size_t(k)]->sleeper.wake()) return;
  }
}

void Pool::take_chunks(int self, int team) {
  for (int k = 0; k < team; ++k) {
    const int owner = self + k < team ? self + k : self + k - team;
    Participant& range = *participants_[std::size_t(owner)];
    while (range.next.load(std::memory_order_relaxed) < range.end) {
      // Everyone wakes one more before each chunk: many are soon awake, and few for little work.
      wake_workers(team);
      const std::int64_t chunk = range.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk < range.end) task_(context_, chunk, chunk + 1);
    }
  }
}

void Pool::work(int self) {
  Sleeper& sleeper = participants_[std::size_t(self)]->sleeper;
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
    take_chunks(self, team_of(state));
    const std::uint64_t left = state_.fetch_sub(1) - 1;
    if (team_of(left) == 0 && nobody_inside(left)) participants_[0]->sleeper.wake();
  }
}

}  // namespace fusedopt
