// Threads whose every order is chosen by a random number, for tests of code that has none of its
// own to spare: one real thread runs all of them in turn, and changes between them at each atomic
// operation, lock and look at the clock. The same seed is the same run. So an error that needs two
// threads to meet within a nanosecond is found in thousands of runs a second, each time.
//
// Memory is as weak as C++ lets it be, but for stores, which are in the order in which they ran: a
// load that isn't sequentially consistent, or whose store wasn't, may find an older value, as long
// as nothing that its thread has acquired says otherwise. What is found here is wrong in C++; what
// isn't may still be.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

namespace explore {

constexpr std::size_t max_threads = 8, max_places = 40, remembered = 8;

// What a thread knows: which value of each atomic it has seen, and how far other threads were.
struct View {
  std::array<std::uint32_t, max_places> seen{};
  std::array<std::uint32_t, max_threads> clock{};

  void join(const View& other) {
    for (std::size_t k = 0; k < max_places; ++k) seen[k] = std::max(seen[k], other.seen[k]);
    for (std::size_t k = 0; k < max_threads; ++k) clock[k] = std::max(clock[k], other.clock[k]);
  }
};

struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  std::function<void()> body;
  View view;
  const void* waits_for = nullptr;  // what it is blocked on
  bool ended = false, awaited = false;
  std::uint64_t stalled_until = 0;
};

class World {
 public:
  static World& get() {
    static World world;
    return world;
  }

  // Runs all `bodies` as threads to their ends, in the order that `seed` means.
  void run(std::uint64_t seed, std::vector<std::function<void()>> bodies) {
    random_ = seed * 0x9e3779b97f4a7c15u + 1;
    seed_ = seed;
    points_ = 0;
    time_ = std::chrono::nanoseconds(1);
    places_ = static_places_;
    switches_ = 1 + random(16);
    stalls_ = std::size_t(8) << random(6);
    stall_ = std::size_t(16) << random(8);
    ticks_ = std::chrono::nanoseconds(random(3) * 40'000 + 1000);
    few_threads_ = random(8) == 0;
    threads_.clear();
    for (const auto& reset : resets_) reset();
    for (auto& body : bodies) add(std::move(body))->awaited = true;
    inside_ = true;
    current_ = 0;
    swapcontext(&main_, &threads_[0]->context);
    inside_ = false;
    threads_.clear();
  }

  Thread* add(std::function<void()> body) {
    if (threads_.size() == max_threads) fail("more threads than max_threads");
    Thread& made = *threads_.emplace_back(std::make_unique<Thread>());
    made.stack.resize(64 * 1024);
    made.body = std::move(body);
    if (inside_) made.view = publish();
    made.view.clock[threads_.size() - 1] = 1;
    getcontext(&made.context);
    made.context.uc_stack.ss_sp = made.stack.data();
    made.context.uc_stack.ss_size = made.stack.size();
    makecontext(&made.context, [] { get().begin(); }, 0);
    return &made;
  }

  // Here another thread may come first.
  void point(bool yields = false) {
    if (!inside_) return;
    if (++points_ > 2'000'000) fail("no end");
    if (random(stalls_) == 0) self().stalled_until = points_ + random(stall_);
    if (yields || self().stalled_until > points_ || random(switches_) == 0) pass_on();
  }

  // The thread goes on once wake() was called for the same thing: as soon as it stands in line,
  // which may be before it stops.
  void stand_in_line(const void* thing) { self().waits_for = thing; }
  void stop() {
    if (self().waits_for) pass_on();
  }
  void wake(const void* thing, bool all) {
    const std::size_t first = random(threads_.size());
    for (std::size_t k = 0; k < threads_.size(); ++k) {
      Thread& thread = *threads_[(first + k) % threads_.size()];
      if (thread.waits_for != thing) continue;
      thread.waits_for = nullptr;
      if (!all) return;
    }
  }

  // As in the child of a fork: no other thread is left.
  void lose_others() {
    for (const auto& thread : threads_) {
      if (thread.get() != &self()) thread->ended = true;
    }
  }

  // What others find that read what this thread writes now, and acquire it.
  View publish() {
    const View published = self().view;
    ++self().view.clock[current_];
    return published;
  }

  [[noreturn]] void fail(const char* what) {
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed_), what);
    std::fflush(stdout);
    std::_Exit(1);
  }

  std::size_t random(std::size_t below) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return static_cast<std::size_t>(random_ >> 33) % below;
  }

  bool inside() const { return inside_; }
  bool has_few_threads() const { return few_threads_; }
  bool refuses_thread() { return few_threads_ && random(2) == 0; }
  Thread& self() { return *threads_[current_]; }
  std::size_t self_index() const { return current_; }
  std::chrono::nanoseconds now() { return time_ += ticks_; }

  // A number for an atomic. Those that live outside of runs start each of them anew.
  std::size_t add_place(std::function<void()> reset) {
    if (places_ == max_places) fail("more atomics than max_places");
    if (!inside_) {
      resets_.push_back(std::move(reset));
      ++static_places_;
    }
    return places_++;
  }

 private:
  void begin() {
    self().body();
    self().ended = true;
    const auto awaited = [](const auto& thread) { return thread->awaited && !thread->ended; };
    if (std::ranges::none_of(threads_, awaited)) setcontext(&main_);
    pass_on();
  }

  void pass_on() {
    std::array<std::size_t, max_threads> ready{}, willing{};
    std::size_t ready_count = 0, willing_count = 0;
    for (std::size_t k = 0; k < threads_.size(); ++k) {
      if (threads_[k]->ended || threads_[k]->waits_for) continue;
      ready[ready_count++] = k;
      if (threads_[k]->stalled_until <= points_) willing[willing_count++] = k;
    }
    if (ready_count == 0) fail("deadlock");
    const std::size_t next =
        willing_count ? willing[random(willing_count)] : ready[random(ready_count)];
    const std::size_t before = current_;
    if (next == before) return;
    current_ = next;
    swapcontext(&threads_[before]->context, &threads_[next]->context);
  }

  ucontext_t main_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::function<void()>> resets_;
  std::size_t current_ = 0, places_ = 0, static_places_ = 0;
  // One point in so many is a change, or the begin of a stall, of fewer points than the last.
  std::size_t switches_ = 1, stalls_ = 1, stall_ = 1;
  std::uint64_t random_ = 1, seed_ = 0, points_ = 0;
  std::chrono::nanoseconds time_{}, ticks_{};
  bool inside_ = false, few_threads_ = false;
};

inline World& world() { return World::get(); }

}  // namespace explore
