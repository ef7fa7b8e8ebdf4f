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
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
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

constexpr bool acquires(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
constexpr bool releases(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_acquire;
}

template <typename T>
class Atomic {
 public:
  Atomic(T value = {}) : place_(world().add_place([this] { reset(); })) {
    values_[0].value = value;
  }
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(std::memory_order order = std::memory_order_seq_cst) const {
    world().point();
    if (!world().inside()) return latest().value;
    View& view = world().self().view;
    const bool in_order = order == std::memory_order_seq_cst;
    std::uint32_t oldest = std::max(view.seen[place_], in_order ? last_in_order_ : 0);
    oldest = std::max(oldest, count_ < remembered ? 0 : std::uint32_t(count_ - remembered + 1));
    const std::size_t choices = count_ - oldest + 1;
    const std::uint32_t index =
        world().random(2) ? count_ : oldest + std::uint32_t(world().random(choices));
    const Value& found = values_[index % remembered];
    see(found, index, order);
    return found.value;
  }

  void store(T value, std::memory_order order = std::memory_order_seq_cst) {
    world().point();
    add(value, order, nullptr);
  }

  T exchange(T value, std::memory_order order = std::memory_order_seq_cst) {
    return modify([&](T) { return value; }, order);
  }
  T fetch_add(T by, std::memory_order order = std::memory_order_seq_cst) {
    return modify([&](T value) { return T(value + by); }, order);
  }
  T fetch_sub(T by, std::memory_order order = std::memory_order_seq_cst) {
    return modify([&](T value) { return T(value - by); }, order);
  }
  bool compare_exchange_strong(T& expected, T value,
                               std::memory_order order = std::memory_order_seq_cst) {
    world().point();
    if (latest().value == expected) {
      exchange_now(value, order);
      return true;
    }
    see(latest(), count_, order);
    expected = latest().value;
    return false;
  }

  operator T() const { return load(); }
  T operator=(T value) { return store(value), value; }
  T operator&=(T mask) {
    return modify([&](T value) { return T(value & mask); }, std::memory_order_seq_cst) & mask;
  }

 private:
  struct Value {
    T value{};
    View view;
  };

  const Value& latest() const { return values_[count_ % remembered]; }

  void reset() {
    const T value = latest().value;
    count_ = last_in_order_ = 0;
    values_[0] = {value, {}};
  }

  void see(const Value& found, std::uint32_t index, std::memory_order order) const {
    if (!world().inside()) return;
    View& view = world().self().view;
    view.seen[place_] = std::max(view.seen[place_], index);
    if (acquires(order)) view.join(found.view);
    if (order == std::memory_order_seq_cst) last_in_order_ = std::max(last_in_order_, index);
  }

  // `before`: what was there, of which others may have been told, where this goes on with it.
  void add(T value, std::memory_order order, const View* before) {
    ++count_;
    View published;
    if (world().inside()) {
      world().self().view.seen[place_] = count_;
      if (releases(order)) published = world().publish();
      if (before) published.join(*before);
      published.seen[place_] = count_;
    }
    values_[count_ % remembered] = {value, published};
    if (order == std::memory_order_seq_cst) last_in_order_ = count_;
  }

  T exchange_now(T value, std::memory_order order) {
    const Value before = latest();
    see(before, count_, order);
    add(value, order, &before.view);
    return before.value;
  }

  template <typename Change>
  T modify(const Change& change, std::memory_order order) {
    world().point();
    return exchange_now(change(latest().value), order);
  }

  std::size_t place_;
  std::array<Value, remembered> values_;
  std::uint32_t count_ = 0;                  // of values that came after the first
  mutable std::uint32_t last_in_order_ = 0;  // seen or stored with sequential consistency
};

class Mutex {
 public:
  void lock() {
    world().point();
    while (locked_) {
      world().stand_in_line(this);
      world().stop();
    }
    locked_ = true;
    world().self().view.join(view_);
  }
  void unlock() {
    view_ = world().publish();
    locked_ = false;
    world().wake(this, true);
    world().point();
  }

 private:
  View view_;
  bool locked_ = false;
};

class Condition {
 public:
  template <typename Ready>
  void wait(std::unique_lock<Mutex>& lock, const Ready& ready) {
    while (!ready()) {
      world().stand_in_line(this);
      lock.unlock();
      world().stop();
      lock.lock();
    }
  }
  void notify_one() {
    world().point();
    world().wake(this, false);
  }
};

// std::thread, but that the system now and then refuses one.
class ThreadHandle {
 public:
  explicit ThreadHandle(std::function<void()> body) {
    if (world().refuses_thread()) {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    }
    world().add(std::move(body));
    world().point();
  }
  void detach() {}
  static unsigned hardware_concurrency() { return 4; }
};

struct Clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<Clock>;
  static constexpr bool is_steady = true;
  static time_point now() {
    world().point();
    return time_point(world().now());
  }
};

// A number without a lock, which one thread writes while no other may look at it.
class Plain {
 public:
  int read() {
    world().point();
    require_seen(written_);
    read_[world().self_index()] = world().self().view.clock[world().self_index()];
    return value_;
  }
  void write(int value) {
    world().point();
    require_seen(written_);
    require_seen(read_);
    written_[world().self_index()] = world().self().view.clock[world().self_index()];
    value_ = value;
  }

 private:
  using Times = std::array<std::uint32_t, max_threads>;
  static void require_seen(const Times& times) {
    for (std::size_t k = 0; k < max_threads; ++k) {
      if (times[k] > world().self().view.clock[k]) world().fail("data race");
    }
  }

  int value_ = 0;
  Times written_{}, read_{};  // when each thread did so last
};

}  // namespace explore

// In the place of std, for code that is included after `#define std explored_std`: all the same,
// but for what threads are made of.
namespace explored_std {

using namespace std;

template <typename T>
using atomic = explore::Atomic<T>;
using mutex = explore::Mutex;
using condition_variable = explore::Condition;
using thread = explore::ThreadHandle;

namespace chrono {
using namespace std::chrono;
using steady_clock = explore::Clock;
}  // namespace chrono

namespace this_thread {
inline void yield() { explore::world().point(true); }
}  // namespace this_thread

}  // namespace explored_std
