// The work of one step: arrays bound to kernels, cut into a fixed grid of chunks.
#pragma once

#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/measures.hpp"
#include "engine/threads.hpp"
#include "kernels/cpu.hpp"
#include "kernels/table.hpp"

namespace fusedopt {

// How the total number of elements is cut, and gone over. Chunks are the same whatever the number
// of threads; only tests and benchmarks change these.
struct Grid {
  std::atomic<std::int64_t> chunk{8192};          // elements
  std::atomic<std::int64_t> serial_below{32768};  // less than this stays on the calling thread
  std::atomic<bool> asks_ahead{cpu_gains_by_asking_ahead()};  // for the memory of long pieces
};
inline Grid grid;

// How many threads work on so many elements.
inline int threads_for(std::int64_t elements) {
  return elements < grid.serial_below.load(std::memory_order_relaxed) ? 1 : num_threads();
}

// What a run does with gradients besides: cuts off scale times each at a magnitude, before a kernel
// reads it; and fills them with zeros behind it.
struct GradientWork {
  double scale = 1;
  double magnitude = HUGE_VAL;
  bool zero = false;

  bool clips() const { return magnitude != HUGE_VAL; }
  bool is_none() const { return !zero && !clips(); }
};

// An average of what a kernel updates, which follows behind it.
struct FollowingAverage {
  const Kernel* kernel = nullptr;  // null: there is none
  const double* hyperparameters = nullptr;
};

class Plan {
 public:
  void clear();
  // The index of new coefficients, of a kernel with these hyperparameters for a parameter's so
  // manyth step; fold() computes them, and reads the hyperparameters then.
  std::size_t add_coefficients(const Kernel& kernel, const double* hyperparameters,
                               std::int64_t step, bool fresh, const FollowingAverage& average = {});
  // Such of a rule for every dtype, and without an average.
  std::array<std::size_t, dtype_count> add_coefficients(const RuleInfo& rule,
                                                        const double* hyperparameters,
                                                        std::int64_t step, bool fresh);
  // Those of this index are for another step, without fresh state.
  void set_step(std::size_t index, std::int64_t step) {
    coefficients_[index].step = step;
    coefficients_[index].fresh = false;
  }

  // A piece of work whose streams the caller fills in.
  Piece& add(const Kernel& kernel, std::size_t coefficients, std::int64_t size);
  // Makes the last piece longer by what follows it in memory, in all of its streams.
  void extend_last(std::int64_t size);

  std::int64_t elements() const { return elements_; }
  std::vector<Piece>& pieces() { return pieces_; }

  // So that add_coefficients(), once for each of so many, allocates nothing.
  void reserve_coefficients(std::size_t count) { coefficients_.reserve(count); }

  // Gradients that go with those of this index are multiplied by a number of their own, too.
  void scale_gradients(std::size_t index, double scale) {
    coefficients_[index].gradient_scale = scale;
  }

  // Computes all coefficients: before each run, for what that does with gradients.
  void fold(const GradientWork& gradients = {}) noexcept;

  // Runs one loop of every kernel over all of its elements; none where it is null.
  void run(Loop Kernel::* loop, const GradientWork& gradients = {}) const noexcept;
  // The same, piece by piece in blocks of them, and measures what happens.
  void run_measured(Loop Kernel::* loop, const GradientWork& gradients,
                    Measures& measures) const noexcept;
  // Only fills gradients with zeros.
  void zero_gradients() const noexcept {
    GradientWork only;
    only.zero = true;
    run(nullptr, only);
  }

 private:
  // Consecutive pieces for one kernel with one set of coefficients.
  struct Batch {
    const Kernel* kernel;
    std::size_t coefficients;
    std::size_t end;  // one past its last piece
  };

  // The coefficients of a kernel, and what they are computed from.
  struct Folded {
    const Kernel* kernel;
    const double* hyperparameters;
    std::int64_t step;
    bool fresh;
    Coefficients coefficients;
    FollowingAverage average;
    Coefficients average_coefficients;
    double gradient_scale;
  };
  // What a run does to each stretch of work.
  struct Work {
    Loop Kernel::* loop;
    GradientWork gradients;
    bool asks_ahead = grid.asks_ahead.load(std::memory_order_relaxed);
  };

  // Elements that are clipped into a buffer at a time.
  static constexpr std::int64_t clipped_at_once = 2048;

  void run_range(const Work& work, std::int64_t at, std::int64_t end) const;
  static void zero(const Kernel& kernel, const Piece& piece);
  [[gnu::noinline]] void run_measured(const Work& work, const Batch& batch, const Piece& part,
                                      Measures::Sums& sums) const;
  void run_averages(const Work& work, const Folded& folded, const Piece* first,
                    std::size_t count) const;
  void run_pieces(const Work& work, const Batch& batch, const Piece* first,
                  std::size_t count) const;
  // Not inlined: its buffer would be in the frame of every step.
  [[gnu::noinline]] void run_clipped(const Work& work, const Batch& batch,
                                     const Piece& piece) const;

  std::vector<Piece> pieces_;
  std::vector<std::int64_t> ends_;  // running total of the pieces' elements
  std::vector<Batch> batches_;
  std::vector<Folded> coefficients_;
  std::int64_t elements_ = 0;
  bool averages_ = false;  // something follows
};

}  // namespace fusedopt
