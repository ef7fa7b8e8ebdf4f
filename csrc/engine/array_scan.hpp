// How large arrays are, as gradients, and whether all of their elements are finite: one pass over
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.hpp"

namespace fusedopt {

class ArrayScan {
 public:
  // Elements that are summed in a row. The norm depends on it, and fusedopt.reference has it, too.
  static constexpr std::int64_t block = 4096;

  void reserve(std::size_t arrays);
  void add(const ArrayKernel& kernel, const void* data, std::int64_t size, std::int64_t item_size);
  // Makes room for the results: run() allocates nothing.
  void prepare();

  void run() noexcept;

  // In the order in which they were added: the root of the sum of all squares, the sum of one
  // array's, and how many of its elements are not finite.
  double norm() const { return norm_; }
  double sum(std::size_t array) const { return arrays_[array].sum; }
  std::int64_t nonfinite(std::size_t array) const { return arrays_[array].nonfinite; }
  std::int64_t nonfinite() const { return nonfinite_; }

 private:
  struct Array {
    const ArrayKernel* kernel;
    const char* data;
    std::int64_t size, item_size;
    std::size_t end;  // one past its last block
    double sum;
    std::int64_t nonfinite;
  };

  void sum_blocks(std::size_t first, std::size_t last) noexcept;

  std::vector<Array> arrays_;
  std::vector<double> sums_;  // of squares, of each block
  std::size_t blocks_ = 0;
  std::int64_t elements_ = 0;
  double norm_ = 0;
  std::int64_t nonfinite_ = 0;
};

}  // namespace fusedopt
