#include "bindings/parameters.hpp"

#include <algorithm>

namespace fusedopt {

Parameters::Parameters(const py::list& arrays, const py::object& names)
    : names_(names, arrays.size()) {
  const std::size_t count = arrays.size();
  if (names_.given() && names_.count() != count) {
    throw py::value_error("names: expected one for each parameter");
  }
  items_.reserve(count);
  bindings_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const py::object array = arrays[i];
    const DType dtype = require_parameter(array, names_.label("params", i));
    const Shape shape = shape_of(array);
    items_.push_back({.array = array,
                      .dtype = dtype,
                      .shape = {shape.begin(), shape.end()},
                      .size = PyArray_SIZE(as_array(array)),
                      .fresh = false});
    bindings_.emplace_back().bind(array, dtype, items_.back().shape);
  }
}

bool Parameters::has(DType dtype) const {
  return std::ranges::find(items_, dtype, &Parameter::dtype) != items_.end();
}

bool Parameters::is_unchanged(std::size_t i, bool updated) const {
  const Parameter& p = items_[i];
  return data_of(p.array) == bindings_[i].data &&
         is_usable(p.array, p.dtype, p.shape, updated ? Access::update : Access::read);
}

void Parameters::require_usable(std::size_t i, bool updated) const {
  const Parameter& p = items_[i];
  const Label label = names_.label("params", i);
  fusedopt::require_usable(p.array, label, {p.dtype, p.shape, label},
                           updated ? Access::update : Access::read);
}

bool Parameters::is_behind_previous(std::size_t i) const {
  const Parameter& previous = items_[i - 1];
  return items_[i].dtype == previous.dtype &&
         bindings_[i].data == bindings_[i - 1].data + previous.bytes();
}

}  // namespace fusedopt
