#include "bindings/float_counts.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

#include "bindings/arrays.hpp"

namespace fusedopt {
namespace {

void require(bool is_right) {
  if (!is_right) throw py::type_error("floats, counts: expected arrays as Bound makes them");
}

template <typename Visit>
auto visit_both(py::handle floats, py::handle counts, Visit visit) {
  require(PyArray_Check(floats.ptr()) && PyArray_Check(counts.ptr()));
  require(PyArray_NDIM(as_array(floats)) == 1 && has_type(as_array(counts), NPY_INT64) &&
          has_flags(as_array(floats), Access::update) && has_flags(as_array(counts), Access::read));
  require(is_same(shape_of(floats), shape_of(counts)));
  const auto size = static_cast<std::size_t>(shape_of(floats)[0]);
  const std::span numbers{static_cast<const std::int64_t*>(data_of(counts)), size};
  if (has_type(as_array(floats), NPY_FLOAT)) {
    return visit(std::span{static_cast<float*>(data_of(floats)), size}, numbers);
  }
  require(has_type(as_array(floats), NPY_DOUBLE));
  return visit(std::span{static_cast<double*>(data_of(floats)), size}, numbers);
}

}  // namespace

bool are_counts(py::handle floats, py::handle counts) {
  return visit_both(floats, counts, []<typename T>(std::span<T> values, auto numbers) {
    return std::ranges::equal(values, numbers,
                              [](T value, std::int64_t n) { return value == static_cast<T>(n); });
  });
}

void write_counts(py::handle floats, py::handle counts) {
  visit_both(floats, counts, []<typename T>(std::span<T> values, auto numbers) {
    std::ranges::transform(numbers, values.begin(),
                           [](std::int64_t n) { return static_cast<T>(n); });
  });
}

}  // namespace fusedopt
