#include "bindings/parameters.hpp"

#include <algorithm>

namespace fusedopt {

void Parameters::add(const py::list& arrays, const py::object& names) {
  const std::size_t first = count(), added = arrays.size();
  if ((!names.is_none() && py::len(names) != added) ||
      (first > 0 && names.is_none() == names_.given())) {
    throw py::value_error("names: expected one for each parameter, or none at all");
  }
  const ParameterNames all = names_.followed_by(names, added);
  std::vector<Parameter> items;
  for (std::size_t i = 0; i < added; ++i) {
    const Reference array = reference_to(arrays[i]);
    const DType dtype = require_parameter(array, all.label("params", first + i));
    const Shape shape = shape_of(array);
    items.push_back({.array = array,
                     .dtype = dtype,
                     .shape = {shape.begin(), shape.end()},
                     .size = PyArray_SIZE(as_array(array))});
  }
  items_.reserve(first + added);
  bindings_.reserve(first + added);
  names_ = all;
  for (Parameter& item : items) {
    const Parameter& p = items_.emplace_back(std::move(item));
    bindings_.emplace_back().bind(p.array, p.dtype, p.shape);
  }
}

std::vector<PyObject*> Parameters::arrays() const {
  std::vector<PyObject*> arrays;
  for (const Parameter& p : items_) arrays.push_back(p.array.ptr());
  return arrays;
}

void Parameters::truncate(std::size_t count) {
  items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(count), items_.end());
  bindings_.erase(bindings_.begin() + static_cast<std::ptrdiff_t>(count), bindings_.end());
  names_ = names_.first(count);
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
