// A group's rule, whose numbers are read where Python writes them.
//
// Python keeps the hyperparameters of a group in a list and replaces what stands there. Here is
// kept which objects the rule was made of: as long as the list holds these, nothing was assigned.
// Where another number stands in a number's place, it is read; where a schedule stands, it is asked
// at every step. Only Python says what anything else means, whether a number is 0 among it: which
// rule it is can depend on that, and on nothing else about a number (see Optimizer._rule).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/gil.hpp"
#include "bindings/native_type.hpp"
#include "bindings/rules.hpp"

namespace fusedopt {

// What updates the parameters of a group: a rule, and the decay rate of their average if there is
// one.
struct GroupRule {
  ConfiguredRule rule;
  std::optional<double> ema_decay;
};

// A number of a rule, and from where to where it may be.
struct NumberBounds {
  std::string name;
  double low, high;
};

// Where Python keeps a group's hyperparameters, and for each of them what numbers of the rule it
// stands for: one, or two where it is a pair, or none.
struct WrittenValues {
  py::list values;
  std::vector<std::vector<NumberBounds>> bounds;
};

class LiveRule {
 public:
  // Without values nothing is ever current.
  explicit LiveRule(std::optional<WrittenValues> written) : written_(std::move(written)) {}

  // From now on this is the rule, made of these hyperparameters, a tuple, or of who knows which.
  // Its numbers are to be finite in float32, if that is the dtype of a parameter.
  void configure(const GroupRule& rule, const std::optional<py::tuple>& made_of, bool in_float32);

  const ConfiguredRule& rule() const { return rule_; }
  const double& ema_decay() const { return ema_decay_; }

  // Whether it is what Python's hyperparameters mean, whatever step it is.
  bool is_current() const { return !asks_python_ && schedules_ == 0 && is_same(); }
  // Brings numbers up to date for the step after so many. False where that takes Python. Calls
  // schedules, which may throw.
  bool read(std::int64_t completed_steps);
  // The same from a tuple in the place of Python's list, in which no schedule is.
  bool take(const py::tuple& values) {
    return take_items(PySequence_Fast_ITEMS(values.ptr()), values.size()) && schedules_ == 0;
  }

  void visit(Visitor& visitor) const;

 private:
  // A number of the rule: where among the hyperparameters, which of a pair, and where here.
  struct Number {
    std::size_t item;
    std::optional<std::size_t> part;
    std::size_t place;
    double low, high;
    bool scheduled;
  };
  static constexpr std::size_t ema_place = max_hyperparameters;

  // A step of a small parameter takes little longer than looking at all of them one by one would.
  bool is_same() const {
    PyObject* const list = written_->values.ptr();
    const auto count = static_cast<std::size_t>(PyList_GET_SIZE(list));
    return count == made_of_.size() && std::memcmp(PySequence_Fast_ITEMS(list), made_of_.data(),
                                                   count * sizeof(PyObject*)) == 0;
  }
  // The hyperparameters that there are now; false where Python has to say what one means.
  bool take_items(PyObject* const* items, std::size_t count);
  bool take_assigned(std::size_t item, py::handle value);
  bool take(const Number& number, py::handle value);
  bool is_readable(py::handle value, std::size_t place);
  void find_numbers(std::size_t item, bool in_float32);
  std::optional<std::size_t> place_of(const std::string& name) const;
  double& at(std::size_t place) {
    return place == ema_place ? ema_decay_ : rule_.hyperparameters[place];
  }

  std::optional<WrittenValues> written_;
  ConfiguredRule rule_;
  double ema_decay_ = 0;
  bool has_average_ = false;
  std::vector<Reference> made_of_;
  std::vector<Number> numbers_;  // by item
  int schedules_ = 0;
  bool asks_python_ = true;  // at every step
};

}  // namespace fusedopt
