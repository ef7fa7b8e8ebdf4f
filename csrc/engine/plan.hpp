// The work of one step: arrays bound to kernels, cut into a fixed grid of chunks.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/table.hpp"

namespace fusedopt {

// How the total number of elements is cut. Chunks are the same whatever the number of threads;
// only tests and benchmarks change these.
struct Grid {
  std::atomic<std::int64_t> chunk{8192};          // elements
  std::atomic<std::int64_t> serial_below{32768};  // less than this stays on the calling thread
};
inline Grid grid;

class Plan {
 public:
  void clear();
  // The index of new coefficients, folded by the kernel for one step.
  std::size_t fold(const Kernel& kernel, const double* hyperparameters, const StepContext& when);
  // Folds those of this index anew.
  void fold_again(std::size_t index, const Kernel& kernel, const double* hyperparameters,
                  const StepContext& when);
  // A piece of work whose streams the caller fills in.
  Piece& add(const Kernel& kernel, std::size_t coefficients, std::int64_t size);
  // Makes the last piece longer by what follows it in memory, in all of its streams.
  void extend_last(std::int64_t size);

  std::int64_t elements() const { return elements_; }
  Piece* pieces() { return pieces_.data(); }

  // So that fold(), once for each of so many, allocates nothing.
  void reserve_coefficients(std::size_t count) { coefficients_.reserve(count); }

  // Runs one loop of every kernel over all of its elements.
  void run(Loop Kernel::* loop) const noexcept;

 private:
  // Consecutive pieces for one kernel with one set of coefficients.
  struct Batch {
    const Kernel* kernel;
    std::size_t coefficients;
    std::size_t end;  // one past its last piece
  };

  void run_range(Loop Kernel::* loop, std::int64_t at, std::int64_t end) const;
  void run_pieces(Loop Kernel::* loop, const Batch& batch, const Piece* first,
                  std::size_t count) const {
    (batch.kernel->*loop)(coefficients_[batch.coefficients], first,
                          static_cast<std::int64_t>(count));
  }

  std::vector<Piece> pieces_;
  std::vector<std::int64_t> ends_;  // running total of the pieces' elements
  std::vector<Batch> batches_;
  std::vector<Coefficients> coefficients_;
  std::int64_t elements_ = 0;
};

}  // namespace fusedopt
