#include "bindings/parameters.hpp"

#include <algorithm>
#include <stdexcept>

namespace fusedopt {

namespace {

Parameter parameter_of(py::handle object, const Label& label) {
  Parameter p;
  if (is_foreign(object)) {
    p.foreign = reference_to(object);
    p.array = numpy_array_over(object, label);
  } else {
    p.array = reference_to(object);
  }
  p.dtype = require_parameter(p.array, label);
  const Shape shape = shape_of(p.array);
  p.shape = {shape.begin(), shape.end()};
  p.size = PyArray_SIZE(as_array(p.array));
  if (!p.foreign) return p;
  p.stand_in = StandIn(p.dtype, p.shape);
  // What is over its memory holds on to it, unseen by the garbage collector.
  const dlpack::ExchangeApi* const api = exchange_api_of(object);
  if (api && p.stand_in.follow(object, *api)) p.array = p.stand_in.array();
  return p;
}

}  // namespace

void Parameters::add(const py::list& arrays, const py::object& names) {
  const std::size_t first = count(), added = arrays.size();
  if ((!names.is_none() && py::len(names) != added) ||
      (first > 0 && names.is_none() == names_.given())) {
    throw py::value_error("names: expected one for each parameter, or none at all");
  }
  const ParameterNames all = names_.followed_by(names, added);
  std::vector<Parameter> items;
  for (std::size_t i = 0; i < added; ++i) {
    items.push_back(parameter_of(arrays[i], all.label("params", first + i)));
  }
  items_.reserve(first + added);
  bindings_.reserve(first + added);
  names_ = all;
  for (Parameter& item : items) {
    const Parameter& p = items_.emplace_back(std::move(item));
    bindings_.emplace_back().bind(p.array, p.dtype, p.shape);
    has_foreign_ |= static_cast<bool>(p.foreign);
    elements_ += p.size;
  }
}

Parameter Parameters::replacement(std::size_t i, py::handle array) const {
  const Label label = names_.label("params", i);
  Parameter p = parameter_of(array, label);
  // Says how it differs, if it does.
  fusedopt::require_usable(p.array, label, {items_[i].dtype, items_[i].shape, label},
                           Access::update);
  p.fresh = items_[i].fresh;
  return p;
}

void Parameters::exchange(std::size_t i, Parameter& other) noexcept {
  std::swap(items_[i], other);
  const Parameter& p = items_[i];
  bindings_[i].bind(p.array, p.dtype, p.shape);
  has_foreign_ |= static_cast<bool>(p.foreign);
}

bool Parameters::follow_all() {
  bool is_quiet = true;
  for (std::size_t i = 0; i < count(); ++i) {
    if (follow_known(i)) continue;
    is_quiet = false;
    follow(i);
  }
  if (!is_quiet) follow_again();
  return is_quiet;
}

void Parameters::follow(std::size_t i) {
  Parameter& p = items_[i];
  const dlpack::ExchangeApi* const api = exchange_api_of(p.foreign);
  if (!api || !p.stand_in.follow(p.foreign, *api)) {
    p.array = numpy_array_over(p.foreign, names_.label("params", i));
  } else if (p.array.is(p.stand_in.array())) {
    return;  // nearly always
  } else {
    p.array = p.stand_in.array();
  }
  bindings_[i].array = as_array(p.array);
}

void Parameters::follow_again() {
  for (std::size_t i = 0; i < count(); ++i) {
    if (!items_[i].foreign || !known_exchange_api_of(items_[i].foreign)) continue;
    if (!items_[i].array.is(items_[i].stand_in.array()) || follow_known(i)) continue;
    throw std::runtime_error(names_.label("params", i).text() +
                             ": another thread has changed it just now; nothing was updated");
  }
}

bool Parameters::try_follow(std::size_t i) noexcept {
  if (!items_[i].foreign) return true;
  try {
    follow(i);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::vector<PyObject*> Parameters::arrays() const {
  std::vector<PyObject*> arrays;
  for (const Parameter& p : items_) arrays.push_back(p.array.ptr());
  return arrays;
}

void Parameters::truncate(std::size_t count) {
  for (std::size_t i = count; i < items_.size(); ++i) elements_ -= items_[i].size;
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
