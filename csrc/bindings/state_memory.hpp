// Where an optimizer's own arrays lie: in memory, or where a function of the user's says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/gil.hpp"
#include "bindings/native_type.hpp"
#include "engine/arena.hpp"

namespace fusedopt {

class StateMemory {
 public:
  // allocate: None, or a function from a number of bytes to a writeable array of them, which is
  // zero and aligned to a cache line.
  explicit StateMemory(py::object allocate) : allocate_(std::move(allocate)) {}

  // Throws MemoryError, which says what the memory was wanted for, or what the function raises.
  std::shared_ptr<Arena> allocate(std::size_t bytes, const char* purpose) const;

  void visit(Visitor& visitor) const { visitor(allocate_); }

  // Whether allocating runs Python code.
  bool is_elsewhere() const { return !allocate_.is_none(); }

  // Throws in a process that was forked since the function was called: what it gives may be memory
  // that processes share, and two optimizers would write into it.
  void require_own() const;

 private:
  Reference allocate_;
  mutable std::optional<std::uint64_t> allocated_in_;  // forks until the function was called first
};

}  // namespace fusedopt
