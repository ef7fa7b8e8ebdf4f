#include "bindings/state_memory.hpp"

#include <stdexcept>

#include "bindings/gil.hpp"
#include "engine/forks.hpp"

namespace fusedopt {

std::shared_ptr<Arena> StateMemory::allocate(std::size_t bytes, const char* purpose) const {
  if (!is_elsewhere()) return allocate_arena(bytes, purpose);
  if (!allocated_in_) allocated_in_ = fork_count();
  const py::object size = py::int_(bytes);
  const Reference array =
      result_of([&] { return PyObject_CallOneArg(allocate_.ptr(), size.ptr()); });
  if (!PyArray_Check(array.ptr()) || !PyArray_ISCARRAY(as_array(array)) ||
      static_cast<std::size_t>(PyArray_NBYTES(as_array(array))) < bytes) {
    throw std::runtime_error("state_dir: expected an array of bytes");
  }
  // The arena dies where the last array over it does, or the optimizer: with the GIL, which a
  // mapped file lets go of, to take it back, while it is closed.
  std::shared_ptr<char> block(PyArray_BYTES(as_array(array)), [owner = array](char*) {});
  return std::make_shared<Arena>(std::move(block), bytes);
}

void StateMemory::require_own() const {
  if (!allocated_in_ || *allocated_in_ == fork_count()) return;
  throw std::runtime_error(
      "state_dir: this process was forked, and the state in files is its parent's; make a new "
      "optimizer here");
}

}  // namespace fusedopt
