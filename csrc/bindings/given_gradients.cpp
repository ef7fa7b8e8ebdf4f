#include "bindings/given_gradients.hpp"

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

#include "engine/float_mode.hpp"

namespace fusedopt {

// Where all are NumPy arrays, None, or such as translate() has stood in for. Runs no Python code.
bool Translator::stand_in_for_all(GivenGradients& gradients, const Parameters& parameters) {
  const std::size_t count = parameters.count();
  in_numpy_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* item = gradients.items[i];
    if (item != Py_None && !stand_in_for(item, i, parameters)) return false;
    in_numpy_[i] = item;
  }
  gradients.items = in_numpy_.data();
  return true;
}

namespace {

// As by astype, but whatever the caller thinks of numbers that become infinite.
Reference cast_to(py::handle array, DType dtype) {
  const ScopedFloatMode mode(false);  // rounded whatever the caller's mode
  const py::object quiet = py::module_::import("numpy").attr("errstate")(py::arg("all") = "ignore");
  quiet.attr("__enter__")();
  // Takes over the reference to the dtype.
  PyObject* const cast =
      PyArray_CastToType(as_array(array), PyArray_DescrFromType(numpy_type(dtype)), 0);
  Reference result = py::reinterpret_steal<py::object>(cast);
  std::optional<py::error_already_set> error;
  if (!cast) error.emplace();  // for want of memory
  quiet.attr("__exit__")(py::none(), py::none(), py::none());
  if (error) throw *error;
  return result;
}

// Of the upper halves of float32 numbers, as bfloat16 is.
Reference from_bfloat16(py::handle words, DType dtype) {
  const py::object wide = words.attr("astype")("uint32");
  py::module_::import("numpy").attr("left_shift")(wide, 16, py::arg("out") = wide);
  return cast_to(wide.attr("view")("float32"), dtype);
}

template <typename Visit>
void visit_cast(const GivenGradients& gradients, const Visit& visit) {
  if (!gradients.cast) return;
  for (const py::handle pair : py::reinterpret_borrow<py::list>(gradients.cast)) {
    visit(PyTuple_GET_ITEM(pair.ptr(), 0), PyTuple_GET_ITEM(pair.ptr(), 1));
  }
}

}  // namespace

std::vector<Stepped> stepped_in(const GivenGradients& gradients, const Parameters& parameters) {
  std::vector<Stepped> stepped;
  stepped.reserve(parameters.count());
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (gradients.items[i] != Py_None) stepped.push_back({i, gradients.items[i]});
  }
  return stepped;
}

void require_writeable(const std::vector<Stepped>& stepped, const Parameters& parameters) {
  const ParameterNames& names = parameters.names();
  for (const auto& [i, grad] : stepped) {
    const Parameter& p = parameters[i];
    if (is_usable(grad, p.dtype, p.shape, Access::update)) continue;
    require_usable(grad, names.label("grads", i), {p.dtype, p.shape, names.label("params", i)},
                   Access::update);
  }
}

void require_apart(const std::vector<Stepped>& stepped, const Parameters& parameters) {
  const ParameterNames& names = parameters.names();
  std::vector<Interval> intervals;
  for (const auto& [i, grad] : stepped) {
    intervals.push_back(interval_of(data_of(grad), parameters[i].bytes(), i));
  }
  DisjointIntervals written;
  if (const auto clash = written.assign(std::move(intervals))) {
    throw_overlap(names.label("grads", clash->second).text(),
                  names.label("grads", clash->first).text());
  }
}

void require_writeable_cast(const GivenGradients& gradients, const WritableMemory& writable) {
  visit_cast(gradients, [&](py::handle label, py::handle array) {
    const auto text = py::cast<std::string>(label);
    if (!has_flags(as_array(array), Access::update)) {
      throw py::value_error(text + ": expected a C-contiguous, aligned and writeable array");
    }
    if (writable.overlaps(as_array(array))) throw_overlap(text, "what the optimizer updates");
  });
}

void zero_cast(const GivenGradients& gradients) {
  visit_cast(gradients, [](py::handle, py::handle array) {
    std::memset(data_of(array), 0, static_cast<std::size_t>(PyArray_NBYTES(as_array(array))));
  });
}

// Whether an array isn't of a dtype but of another floating one.
bool Translator::is_to_be_cast(py::handle array, DType dtype) const {
  PyArrayObject* const a = as_array(array);
  return casts_ && !has_type(a, numpy_type(dtype)) && PyArray_ISFLOAT(a);
}

void Translator::follow_again(const GivenGradients& gradients, const Parameters& parameters) {
  if (!has_translated(gradients)) return;
  PyObject* const* const given = PySequence_Fast_ITEMS(gradients.given.ptr());
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (!stands_in(gradients, i)) continue;
    const dlpack::ExchangeApi* const api = known_exchange_api_of(given[i]);
    if (api && stand_ins_[i].follow(given[i], *api)) continue;
    throw std::runtime_error(parameters.names().label("grads", i).text() +
                             ": another thread has changed it just now; nothing was updated");
  }
}

bool Translator::translate(GivenGradients& gradients, const Parameters& parameters) {
  const std::size_t count = parameters.count();
  PyObject* const* const own = PySequence_Fast_ITEMS(gradients.given.ptr());
  const auto stays = [&](PyObject* object, std::size_t i) {
    return object == Py_None ||
           (PyArray_Check(object) && !is_to_be_cast(object, parameters[i].dtype));
  };
  std::size_t same = 0;
  while (same < count && stays(own[same], same)) ++same;
  if (same == count) {
    gradients.items = own;
    return false;
  }
  gradients.given = py::tuple(gradients.given);  // what runs below may change a list
  PyObject* const* const items = PySequence_Fast_ITEMS(gradients.given.ptr());
  in_numpy_.assign(items, items + count);
  py::list made, cast;
  stand_ins_.resize(count);
  bool any = false;
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* const item = items[i];
    const Parameter& p = parameters[i];
    const bool foreign = is_foreign(item);
    if (stays(item, i) || (!foreign && !PyArray_Check(item))) continue;
    any = true;
    const Label label = parameters.names().label("grads", i);
    StandIn& stand_in = stand_ins_[i];
    if (const dlpack::ExchangeApi* api = foreign ? exchange_api_of(item) : nullptr) {
      if (!stand_in) stand_in = StandIn(p.dtype, p.shape);
      if (stand_in.follow(item, *api)) {
        in_numpy_[i] = stand_in.array().ptr();
        continue;
      }
    }
    FloatingArray read;
    if (foreign && casts_) {
      read = floating_array_over(item, label);
    } else {
      read.array = foreign ? numpy_array_over(item, label) : reference_to(item);
    }
    auto& [array, is_bfloat16] = read;
    if (is_bfloat16 || is_to_be_cast(array, p.dtype)) {
      cast.append(py::make_tuple(label.text(), array));
      array = is_bfloat16 ? from_bfloat16(array, p.dtype) : cast_to(array, p.dtype);
    }
    made.append(array);
    in_numpy_[i] = array.ptr();
  }
  gradients.made = made;
  gradients.cast = cast;
  gradients.items = in_numpy_.data();
  return any;
}

}  // namespace fusedopt
