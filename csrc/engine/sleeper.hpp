// Waiting, awake or asleep.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#elif defined(_M_ARM64)
#include <intrin.h>
#endif

namespace fusedopt {

// Tells the processor that this thread only waits.
inline void pause() {
#if defined(__SSE2__) || defined(_M_X64)
  _mm_pause();
#elif defined(_M_ARM64)
  __yield();
#elif defined(__aarch64__)
  // Waits for some 10 ns; "yield" doesn't wait at all on most cores.
  __asm__ volatile("isb");
#endif
}

// For how long a thread that waits keeps its core. In a loop of steps the next one comes sooner;
// longer, and it would be in the way of other libraries' threads.
constexpr std::chrono::microseconds spin_time{50};

// Whether done() came true within spin_time. Yields in between, as what is waited for may need this
// very core: with another library's threads on the others, the system may put two of ours on one.
template <typename Done>
bool spin_until(const Done& done) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + spin_time;
  do {
    for (int k = 0; k < 16; ++k) {
      if (done()) return true;
      pause();
    }
    std::this_thread::yield();
  } while (Clock::now() < end);
  return false;
}

// Where one thread sleeps and others wake it.
//
// None sleeps through what it waits for, provided that whoever brings it about does so with a
// sequentially consistent write before wake(), and ready() reads that: then either wake() sees
// asleep_, or ready() is true.
class Sleeper {
 public:
  // Returns at once where ready(), else when woken, which may be for no reason any more.
  template <typename Ready>
  void sleep_unless(const Ready& ready) {
    std::unique_lock lock(mutex_);
    asleep_ = true;
    if (!ready()) woken_.wait_for(lock, at_most, [this] { return !asleep_; });
    asleep_ = false;
  }

  // Whether it slept. If not, this is one read.
  bool wake() {
    if (!asleep_) return false;
    {
      const std::lock_guard lock(mutex_);
      if (!asleep_.exchange(false)) return false;
    }
    woken_.notify_one();
    return true;
  }

 private:
  // Any time serves that is long. To wait without one needs the libstdc++ of GCC 12, and with it a
  // wheel that is built by that needs a newer system.
  static constexpr std::chrono::hours at_most{1};

  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable woken_;
};

}  // namespace fusedopt
