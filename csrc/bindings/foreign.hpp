// Arrays of other libraries, as torch's tensors, read where they lie.
#pragma once

#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/gil.hpp"

namespace fusedopt {

// Whether it is an array of another library that can be looked at: neither None nor of NumPy's own
// type. May run Python code, but never twice for a type that has an exchange API.
bool is_foreign(py::handle object);

// The functions of an object's type, where it has some of a version that is read here; else null.
// May run Python code the first time that it meets a type.
const dlpack::ExchangeApi* exchange_api_of(py::handle object);
// The same, but null of a type that it hasn't met. Runs no Python code.
const dlpack::ExchangeApi* known_exchange_api_of(py::handle object);

// A NumPy array over its memory, which it keeps alive. Throws TypeError where there can be none, as
// for one on a GPU. May run Python code.
Reference numpy_array_over(py::handle object, const Label& label);

// The same of any floating dtype; of bfloat16 it is the uint16 that numbers lie in.
struct FloatingArray {
  Reference array;
  bool is_bfloat16 = false;
};
FloatingArray floating_array_over(py::handle object, const Label& label);

// A NumPy array that stands for a foreign one, wherever that lies from one look to the next: to
// make a new one each time takes longer than a small step. Nobody else may see it.
class StandIn {
 public:
  StandIn() = default;
  StandIn(DType dtype, Shape shape);

  explicit operator bool() const { return static_cast<bool>(array_); }
  const Reference& array() const { return array_; }

  // Lies where the foreign array does now. False, and stays where it is, unless that is in main
  // memory, C-contiguous, aligned, and of the same dtype and shape. Runs no Python code.
  bool follow(py::handle object, const dlpack::ExchangeApi& api);

 private:
  Reference array_;
  DType dtype_ = DType::float32;
};

// Memory of foreign arrays that stays where it is meanwhile, whatever other threads do with them.
class OwnedMemory {
 public:
  OwnedMemory() = default;
  OwnedMemory(OwnedMemory&&) = default;
  OwnedMemory& operator=(OwnedMemory&&) = default;
  ~OwnedMemory();

  // Where an object is foreign and has an exchange API; else null. Other threads may run.
  const void* own(py::handle object);

 private:
  std::vector<dlpack::ManagedTensor*> tensors_;
};

}  // namespace fusedopt
