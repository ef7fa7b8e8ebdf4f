// One step at a time for one optimizer.
#pragma once

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "bindings/gil.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

class StepMutex {
 public:
  // Taken and given back with the GIL held. Whoever has to wait does so without the GIL: the
  // thread that holds the mutex may need the GIL before it can give the mutex back.
  void lock() { lock(false); }
  // The same; until it is given back this thread may take it again and again.
  void lock_reentrant() { lock(true); }

  void unlock() {
    if (--depth_ > 0) return;
    owner_ = {};
    mutex_.unlock();
  }

 private:
  void lock(bool reentrant) {
    const auto self = std::this_thread::get_id();
    if (owner_ != std::thread::id() && locked_in_ != fork_count()) {
      // The thread that took it stayed behind in the parent process and will never give it back.
      throw std::runtime_error(
          "this process was forked while another thread was inside step(): the optimizer's "
          "parameters and state are half updated here; make a new one");
    }
    if (owner_ == self && reentrant_) {
      ++depth_;
      return;
    }
    // Only a finalizer that runs while a step raises an error could get here.
    if (owner_ == self) throw std::runtime_error("step() was called from within step()");
    if (!mutex_.try_lock()) without_gil([this] { mutex_.lock(); });
    owner_ = self;
    locked_in_ = fork_count();
    reentrant_ = reentrant;
    depth_ = 1;
  }

  std::mutex mutex_;
  // Read and written with the GIL held.
  std::thread::id owner_;
  std::uint64_t locked_in_ = 0;
  bool reentrant_ = false;
  int depth_ = 0;  // how often the owner has taken it
};

}  // namespace fusedopt
