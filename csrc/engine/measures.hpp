// What a step did, in numbers that are found as it goes over memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/array_scan.hpp"
#include "kernels/table.hpp"

namespace fusedopt {

class Measures {
 public:
  // Sums of squares: of a gradient as it was given, of what the step added to the parameter, and of
  // what the parameter then is. And how many elements of the gradient aren't finite.
  struct Sums {
    double gradient = 0, update = 0, parameter = 0;
    std::int64_t nonfinite = 0;

    void add(const Sums& other) {
      gradient = gradient + other.gradient;
      update = update + other.update;
      parameter = parameter + other.parameter;
      nonfinite += other.nonfinite;
    }
  };

  // Elements that are measured in a row.
  static constexpr std::int64_t block = ArrayScan::block;

  // Makes room for pieces, in the order of their plan: measuring allocates nothing.
  void add(std::int64_t size);
  void prepare() { sums_.resize(blocks()); }

  std::size_t blocks() const { return ends_.empty() ? 0 : ends_.back(); }
  // The piece that a block belongs to, and where in it the block begins, in elements.
  std::size_t piece_of(std::size_t block) const;
  std::int64_t begin_of(std::size_t index, std::size_t piece) const;
  Sums& at(std::size_t index) { return sums_[index]; }

  // Of a whole piece, block by block.
  Sums of_piece(std::size_t piece) const;

 private:
  std::size_t first_of(std::size_t piece) const { return piece == 0 ? 0 : ends_[piece - 1]; }

  std::vector<std::size_t> ends_;  // of each piece, one past its last block
  std::vector<Sums> sums_;         // of each block
};

}  // namespace fusedopt
