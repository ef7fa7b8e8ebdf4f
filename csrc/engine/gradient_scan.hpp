// How large gradients are, and whether all of their elements are finite: one pass over them, before
// a step begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.hpp"

namespace fusedopt {

class GradientScan {
 public:
  void reserve(std::size_t gradients);
  void add(const GradientKernel& kernel, const void* data, std::int64_t size,
           std::int64_t item_size);
  // Makes room for the results: run() allocates nothing.
  void prepare();

  void run() noexcept;

  // In the order in which they were added: the root of the sum of all squares, and how many
  // elements of one gradient are not finite.
  double norm() const { return norm_; }
  std::int64_t nonfinite(std::size_t gradient) const { return gradients_[gradient].nonfinite; }
  std::int64_t nonfinite() const { return nonfinite_; }

 private:
  // Elements that are summed in a row. The norm depends on it, and fusedopt.reference has it, too.
  static constexpr std::int64_t block = 8192;

  struct Gradient {
    const GradientKernel* kernel;
    const char* data;
    std::int64_t size, item_size;
    std::size_t end;  // one past its last block
    std::int64_t nonfinite;
  };

  void sum_blocks(std::size_t first, std::size_t last) noexcept;

  std::vector<Gradient> gradients_;
  std::vector<double> sums_;  // of squares, of each block
  std::size_t blocks_ = 0;
  std::int64_t elements_ = 0;
  double norm_ = 0;
  std::int64_t nonfinite_ = 0;
};

}  // namespace fusedopt
