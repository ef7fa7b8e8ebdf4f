// All memory that a step writes, and whether a gradient shares any of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/parameters.hpp"
#include "engine/arena.hpp"
#include "engine/overlap.hpp"
#include "engine/pointer_filter.hpp"

namespace fusedopt {

class WritableMemory {
 public:
  // Looks where the parameters are now. Throws where two of them share memory, and leaves
  // everything as it was.
  void find(Parameters& parameters);
  // Memory of state, too.
  void add(std::shared_ptr<Arena> arena, Parameters& parameters);
  // Only that of these from now on.
  void replace(std::vector<std::shared_ptr<Arena>> arenas, Parameters& parameters);
  void remove(const std::shared_ptr<Arena>& arena, Parameters& parameters);
  // One in the place of another; either may be none.
  void exchange(const std::shared_ptr<Arena>& old, std::shared_ptr<Arena> other,
                Parameters& parameters);
  // Forgets arenas of which is_used(arena) isn't true.
  template <typename IsUsed>
  void keep_only(const IsUsed& is_used, Parameters& parameters) {
    if (std::erase_if(arenas_, [&](const auto& a) { return !is_used(a.get()); }) > 0) {
      find(parameters);
    }
  }

  // The owner of what a gradient of a parameter shares memory with: a parameter, by index, or a
  // larger number for state. If there is none, remembers the free stretch around it in the binding,
  // where the gradient of the next step most likely lies too.
  std::optional<std::size_t> find_overlap(const Parameter& parameter, Binding& binding,
                                          const void* gradient) const;

  // Whether an array shares any of it.
  bool overlaps(PyArrayObject* array) const {
    const auto bytes = static_cast<std::size_t>(PyArray_NBYTES(array));
    return intervals_.find_overlap(interval_of(PyArray_DATA(array), bytes, 0)).has_value();
  }

  // Whether a gradient surely shares no memory with what a step writes, wherever it lies: quicker
  // than a search where gradients move from step to step.
  bool is_apart(PyArrayObject* gradient) const {
    const PyArrayObject* owner = owner_of(gradient);
    return owner && owners_are_known_ && !parameter_owners_.may_contain(owner);
  }

 private:
  std::vector<std::shared_ptr<Arena>> arenas_;
  DisjointIntervals intervals_;    // of parameters, by index, then of arenas
  bool owners_are_known_ = false;  // of all parameters; and state is in memory of ours
  PointerFilter parameter_owners_;
};

}  // namespace fusedopt
