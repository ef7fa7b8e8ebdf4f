// What threads are made of, in a world whose orders are chosen: see explore.hpp.
#pragma once

#include <atomic>
#include <mutex>
#include <system_error>

#include "explore.hpp"

namespace explore {

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
  // The time never comes: who isn't woken sleeps for ever.
  template <typename Time, typename Ready>
  void wait_for(std::unique_lock<Mutex>& lock, const Time&, const Ready& ready) {
    while (!ready()) {
      world().point();  // a notify_one() without the lock may come here, and is lost
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
