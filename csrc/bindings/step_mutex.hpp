// One step at a time for one optimizer.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "bindings/gil.hpp"
#include "engine/forks.hpp"

namespace fusedopt {

// Threads take it in the order in which they came, each by a ticket.
//
// Taken and given back with the GIL held, and whoever waits does so without: the thread that has it
// may need the GIL before it can give it back. Only `serving_` is looked at without the GIL, and
// all else changes together with it: whenever a process is forked, which Python does with the GIL,
// the mutex is free or somebody's, and never in between.
class StepMutex {
 public:
  // Not from within what this thread is doing under it, unless that holds the mutex for others.
  void lock() { lock(false); }

  // For functions that are called meanwhile: until it is given back this thread may take it again
  // and again.
  void lock_reentrant() { lock(true); }

  void unlock() {
    if (--depth_ > 0) return;
    owner_ = 0;
    ++serving_;
    if (serving_ != next_ticket_) serving_.notify_all();
  }

  // While there is one, the thread that has the mutex may take it again and again.
  class Reentry {
   public:
    explicit Reentry(StepMutex& mutex) : mutex_(mutex), before_(mutex.reentrant_) {
      mutex.reentrant_ = true;
    }
    ~Reentry() { mutex_.reentrant_ = before_; }
    Reentry(const Reentry&) = delete;
    Reentry& operator=(const Reentry&) = delete;

   private:
    StepMutex& mutex_;
    bool before_;
  };

  // Throws where this thread has it already, in the name of what it is about to do: a schedule, a
  // signal's handler or a finalizer may not change what it is called from.
  void require_outside(const char* action) const {
    if (owner_ == 0 || owner_ != this_thread()) return;
    throw std::runtime_error(std::string(action) +
                             ": called from within the same optimizer's work, as by a schedule; "
                             "nothing was changed");
  }

 private:
  // A number that no other thread has or had, unlike the system's: a child process makes new
  // threads where those were that stayed behind in its parent.
  static std::uint64_t this_thread() {
    static std::atomic<std::uint64_t> threads{0};
    thread_local const std::uint64_t number = ++threads;
    return number;
  }

  void lock(bool reentrant) {
    const std::uint64_t self = this_thread();
    if (forks_ != fork_count()) find_itself_in_child(self);
    if (owner_ == self && reentrant_) {
      ++depth_;
      return;
    }
    if (owner_ == self) require_outside("step()");
    if (serving_ != next_ticket_ && is_finalizing()) {
      throw std::runtime_error(
          "the interpreter is ending while another thread is inside step(), which will never end");
    }
    const std::uint32_t ticket = next_ticket_++;
    if (serving_ != ticket) {
      without_gil([this, ticket] {
        for (auto served = serving_.load(); served != ticket; served = serving_.load()) {
          serving_.wait(served);
        }
      });
    }
    owner_ = self;
    reentrant_ = reentrant;
    depth_ = 1;
  }

  // Threads that waited stayed behind in the parent process, and so did one that was inside.
  void find_itself_in_child(std::uint64_t self) {
    if (owner_ != 0 && owner_ != self) {
      throw std::runtime_error(
          "this process was forked while another thread was inside step(): the optimizer's "
          "parameters and state are half updated here; make a new one");
    }
    next_ticket_ = serving_ + (owner_ == self ? 1 : 0);
    forks_ = fork_count();
  }

  std::atomic<std::uint32_t> serving_{0};  // the ticket of whoever may have it
  std::uint32_t next_ticket_ = 0;          // the same: it is free
  std::uint64_t owner_ = 0;                // a thread; 0: nobody has taken it, or not yet
  std::uint64_t forks_ = fork_count();     // when it was taken last
  bool reentrant_ = false;
  int depth_ = 0;  // how often the owner has taken it
};

}  // namespace fusedopt
