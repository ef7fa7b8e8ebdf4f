// How many steps each parameter has taken, in an array that anyone can look at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "bindings/arrays.hpp"
#include "engine/arena.hpp"

namespace fusedopt {

class StepCounts {
 public:
  StepCounts() = default;
  // Those of before, and zeros behind them, in memory of their own.
  StepCounts(const StepCounts& before, std::size_t count) : count_(count) {
    const std::size_t bytes = count * sizeof(std::int64_t);
    arena_ = allocate_arena(bytes, "step counts");
    counts_ = static_cast<std::int64_t*>(arena_->take_next(bytes));
    std::copy_n(before.counts_, before.count_, counts_);
  }

  std::int64_t& operator[](std::size_t i) { return counts_[i]; }
  std::int64_t operator[](std::size_t i) const { return counts_[i]; }

  // Their memory; null where there are none.
  const std::shared_ptr<Arena>& arena() const { return arena_; }
  // A read-only array over them.
  py::object array() const { return counts_over(arena_, counts_, static_cast<npy_intp>(count_)); }

 private:
  std::shared_ptr<Arena> arena_;
  std::int64_t* counts_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace fusedopt
