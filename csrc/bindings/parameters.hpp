// The parameters of an optimizer: the user's arrays, as they were bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/binding.hpp"
#include "bindings/gradients.hpp"

namespace fusedopt {

struct Parameter {
  Reference array;
  DType dtype;
  std::vector<npy_intp> shape;  // may not change
  std::int64_t size;
  bool fresh = false;  // has state that was made for the step under way

  std::size_t bytes() const { return static_cast<std::size_t>(size) * item_size(dtype); }
};

class Parameters {
 public:
  // More of them. names: a tuple of str, or None where none of all parameters has a name. Throws
  // where an array can't be updated in place, and adds none then.
  void add(const py::list& arrays, const py::object& names);
  // Only the first so many.
  void truncate(std::size_t count);

  std::size_t count() const { return items_.size(); }
  Parameter& operator[](std::size_t i) { return items_[i]; }
  const Parameter& operator[](std::size_t i) const { return items_[i]; }
  const ParameterNames& names() const { return names_; }

  // The arrays, borrowed.
  std::vector<PyObject*> arrays() const;

  // What a step looks at again, close together.
  std::vector<Binding>& bindings() { return bindings_; }
  const std::vector<Binding>& bindings() const { return bindings_; }

  // Whether one is where and what it was. One that is not updated may be read-only.
  bool is_unchanged(std::size_t i, bool updated) const;
  // Throws where a kernel can't go along with what the user made of one.
  void require_usable(std::size_t i, bool updated) const;

  // Whether one lies right behind the one before, and is of its dtype.
  bool is_behind_previous(std::size_t i) const;

 private:
  std::vector<Parameter> items_;
  std::vector<Binding> bindings_;
  ParameterNames names_;
};

}  // namespace fusedopt
