#include "engine/measures.hpp"

#include <algorithm>

namespace fusedopt {

void Measures::add(std::int64_t size) {
  ends_.push_back(blocks() + static_cast<std::size_t>((size + block - 1) / block));
}

std::size_t Measures::piece_of(std::size_t index) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
}

std::int64_t Measures::begin_of(std::size_t index, std::size_t piece) const {
  return static_cast<std::int64_t>(index - first_of(piece)) * block;
}

Measures::Sums Measures::of_piece(std::size_t piece) const {
  Sums total;
  for (std::size_t k = first_of(piece); k < ends_[piece]; ++k) total.add(sums_[k]);
  return total;
}

}  // namespace fusedopt
