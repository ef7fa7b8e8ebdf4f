// Which pointers are surely not in a set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fusedopt {

// A hash table that keeps one bit where a pointer would stand, sixteen places for each: of others,
// one in 16 is taken for one of them. A thousand take no more than 2 KiB of cache.
class PointerFilter {
 public:
  // Empty, for so many pointers.
  explicit PointerFilter(std::size_t pointers = 0) {
    while (64 * bits_.size() < 16 * pointers) {
      bits_.resize(2 * bits_.size());
      --shift_;
    }
  }

  void insert(const void* pointer) { bits_[place(pointer) / 64] |= bit(pointer); }

  // False is certain.
  bool may_contain(const void* pointer) const {
    return (bits_[place(pointer) / 64] & bit(pointer)) != 0;
  }

 private:
  // Fibonacci hashing: the upper bits of a product depend on all bits of the pointer.
  std::size_t place(const void* pointer) const {
    const auto number = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
    return static_cast<std::size_t>(number * 0x9e3779b97f4a7c15 >> shift_);
  }
  std::uint64_t bit(const void* pointer) const { return std::uint64_t(1) << place(pointer) % 64; }

  int shift_ = 64 - 6;  // for 2 to the power of 6 places
  std::vector<std::uint64_t> bits_{0};
};

}  // namespace fusedopt
