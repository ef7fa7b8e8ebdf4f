#include "bindings/live_rule.hpp"

#include <algorithm>
#include <limits>
#include <string_view>

namespace fusedopt {
namespace {

bool is_schedule(py::handle value) { return PyCallable_Check(value.ptr()) != 0; }

bool is_pair(py::handle value) {
  return PyTuple_CheckExact(value.ptr()) && PyTuple_GET_SIZE(value.ptr()) == 2;
}

// What stands for a number: a hyperparameter itself, or one half of a pair; null where it is none.
py::handle part_of(py::handle value, std::optional<std::size_t> part) {
  if (!part) return value;
  if (!is_pair(value)) return {};
  return PyTuple_GET_ITEM(value.ptr(), static_cast<py::ssize_t>(*part));
}

}  // namespace

void LiveRule::configure(const GroupRule& rule, const std::optional<py::tuple>& made_of,
                         bool in_float32) {
  rule_ = rule.rule;
  has_average_ = rule.ema_decay.has_value();
  ema_decay_ = rule.ema_decay.value_or(0);
  numbers_.clear();
  schedules_ = 0;
  // A list of another length isn't the one that Python keeps.
  asks_python_ = !written_ || !made_of || made_of->size() != written_->bounds.size();
  std::vector<Reference> objects;  // let go of at the end, when all is as it will be
  if (!asks_python_) {
    for (const py::handle value : *made_of) objects.push_back(reference_to(value));
  }
  made_of_.swap(objects);
  for (std::size_t item = 0; item < made_of_.size(); ++item) find_numbers(item, in_float32);
}

// The numbers that a hyperparameter stands for, where these can be read here.
void LiveRule::find_numbers(std::size_t item, bool in_float32) {
  const py::handle value = made_of_[item];
  const std::vector<NumberBounds>& bounds = written_->bounds.at(item);
  const double most = in_float32 ? std::numeric_limits<float>::max() : HUGE_VAL;
  const std::size_t before = numbers_.size();
  bool readable = !bounds.empty();
  for (std::size_t k = 0; k < bounds.size(); ++k) {
    const NumberBounds& b = bounds[k];
    const auto part = bounds.size() > 1 ? std::optional(k) : std::nullopt;
    const py::handle own = part_of(value, part);
    const auto place = place_of(b.name);
    readable &= own && place && is_readable(own, *place);
    if (!readable) break;
    numbers_.push_back(
        {item, part, *place, std::max(b.low, -most), std::min(b.high, most), is_schedule(own)});
    schedules_ += is_schedule(own) ? 1 : 0;
  }
  if (readable) return;
  numbers_.resize(before);
  // It may be a schedule, or a pair that holds one.
  asks_python_ |= is_schedule(value) || PyTuple_Check(value.ptr());
}

// Whether what stands for a number of the rule is what that is; of a schedule, that it may be.
bool LiveRule::is_readable(py::handle value, std::size_t place) {
  if (place == ema_place && !has_average_) return false;  // None, which a schedule may give, too
  return is_schedule(value) ||
         (PyFloat_CheckExact(value.ptr()) && PyFloat_AS_DOUBLE(value.ptr()) == at(place));
}

std::optional<std::size_t> LiveRule::place_of(const std::string& name) const {
  if (name == "ema_decay") return ema_place;
  const Names& names = rule_.info->hyperparameters;
  const auto* const end = names.items + names.count;
  const auto* const found = std::find(names.items, end, std::string_view(name));
  if (found == end) return std::nullopt;
  return static_cast<std::size_t>(found - names.items);
}

bool LiveRule::read(std::int64_t completed_steps) {
  if (asks_python_) return false;
  const py::list& values = written_->values;
  if (!take_items(PySequence_Fast_ITEMS(values.ptr()), values.size())) return false;
  if (schedules_ == 0) return true;
  const auto step = py::int_(completed_steps);
  for (const Number& number : numbers_) {
    if (!number.scheduled) continue;
    const Reference schedule = reference_to(part_of(made_of_[number.item], number.part));
    const Reference given =
        result_of([&] { return PyObject_CallOneArg(schedule.ptr(), step.ptr()); });
    if (!take(number, given)) return false;
  }
  return true;
}

bool LiveRule::take_items(PyObject* const* items, std::size_t count) {
  if (asks_python_ || count != made_of_.size()) return false;
  for (std::size_t item = 0; item < count; ++item) {
    if (items[item] != made_of_[item].ptr() && !take_assigned(item, items[item])) return false;
  }
  return true;
}

// In the place of a hyperparameter that isn't scheduled, and neither is the new one.
bool LiveRule::take_assigned(std::size_t item, py::handle value) {
  bool taken = false;
  for (const Number& number : numbers_) {
    if (number.item != item) continue;
    const py::handle own = part_of(value, number.part);
    if (number.scheduled || !own || !PyFloat_CheckExact(own.ptr())) return false;
    if (!take(number, own)) return false;
    taken = true;
  }
  if (taken) made_of_[item] = reference_to(value);
  return taken;
}

bool LiveRule::take(const Number& number, py::handle value) {
  double given = 0;
  if (PyFloat_Check(value.ptr())) {
    given = PyFloat_AS_DOUBLE(value.ptr());
  } else if (PyLong_CheckExact(value.ptr())) {
    int overflow = 0;
    const long whole = PyLong_AsLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0) return false;
    given = static_cast<double>(whole);
  } else {
    return false;
  }
  double& own = at(number.place);
  const bool in_bounds = given >= number.low && given <= number.high;
  if (!in_bounds || (given == 0) != (own == 0)) return false;
  own = given;
  return true;
}

void LiveRule::visit(Visitor& visitor) const {
  if (written_) visitor(written_->values);
  for (const Reference& value : made_of_) visitor(value);
}

}  // namespace fusedopt
