#include "bindings/state_memory.hpp"

#include <stdexcept>

namespace fusedopt {

std::shared_ptr<Arena> StateMemory::allocate(std::size_t bytes, const char* purpose) const {
  if (!is_elsewhere()) return allocate_arena(bytes, purpose);
  const py::object array = allocate_(bytes);
  if (!PyArray_Check(array.ptr()) || !PyArray_ISCARRAY(as_array(array)) ||
      static_cast<std::size_t>(PyArray_NBYTES(as_array(array))) < bytes) {
    throw std::runtime_error("state_dir: expected an array of bytes");
  }
  // The arena dies where the last array over it does, or the optimizer: with the GIL.
  std::shared_ptr<char> block(PyArray_BYTES(as_array(array)), [array](char*) {});
  return std::make_shared<Arena>(std::move(block), bytes);
}

}  // namespace fusedopt
