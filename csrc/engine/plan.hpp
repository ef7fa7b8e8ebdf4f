// The work of one step: arrays bound to kernels, cut into a fixed grid of chunks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/table.hpp"

namespace fusedopt {

// How the total number of elements is cut. Chunks are the same whatever the number of threads;
// only tests and benchmarks change these.
struct Grid {
  std::atomic<std::int64_t> chunk{8192};           // elements
  std::atomic<std::int64_t> serial_below{131072};  // less than this stays on the calling thread
};
inline Grid grid;

// Arrays that one kernel goes over: a parameter's, or those of several that lie side by side. One
// cache line, as a step with many small parameters reads thousands of them.
struct alignas(64) Segment {
  const Kernel* kernel;
  std::int64_t size;
  std::size_t coefficients;  // index into the plan's
  std::array<void*, max_streams> streams;
};

class Plan {
 public:
  void clear();
  // The index of new coefficients, folded by the kernel for one step.
  std::size_t fold(const Kernel& kernel, const double* hyperparameters, const StepContext& when);
  // Folds those of this index anew.
  void fold_again(std::size_t index, const Kernel& kernel, const double* hyperparameters,
                  const StepContext& when);
  // A segment whose streams the caller fills in, in place: put together elsewhere and copied, they
  // would stall the processor, which can't forward eight-byte stores to wider loads.
  Segment& add(const Kernel& kernel, std::size_t coefficients, std::int64_t size) {
    elements_ += size;
    ends_.push_back(elements_);
    Segment& segment = segments_.emplace_back();
    segment.kernel = &kernel;
    segment.size = size;
    segment.coefficients = coefficients;
    return segment;
  }
  // Makes the last segment longer by what follows it in memory, in all of its streams.
  void extend_last(std::int64_t size) {
    elements_ += size;
    ends_.back() = elements_;
    segments_.back().size += size;
  }

  std::int64_t elements() const { return elements_; }
  Segment* segments() { return segments_.data(); }

  // So that fold(), once for each of so many, allocates nothing.
  void reserve_coefficients(std::size_t count) { coefficients_.reserve(count); }

  // Runs one loop of every kernel over all of its elements.
  void run(Loop Kernel::* loop) const noexcept;

 private:
  void run_chunks(Loop Kernel::* loop, std::int64_t first, std::int64_t last,
                  std::int64_t chunk) const;

  std::vector<Segment> segments_;
  std::vector<Coefficients> coefficients_;
  std::vector<std::int64_t> ends_;  // running total of the segments' elements
  std::int64_t elements_ = 0;
};

}  // namespace fusedopt
