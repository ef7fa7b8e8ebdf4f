// One update of arrays whose state the caller owns.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/live_rule.hpp"

namespace fusedopt {

// A function that takes a step of one kind of rule. It remembers of which hyperparameters it made
// its last rule, and asks Python what they mean only where a new number doesn't say it.
class RuleFunction {
 public:
  // The names of all arguments that are arrays: parameters, gradients if rules read them, and of
  // state arrays all that any rule has, in the plural. configure takes hyperparameters, a tuple,
  // and returns the name of a rule and a dict of its numbers; check_step a name and a value, and
  // returns a count of steps. Both raise what is wrong.
  RuleFunction(std::vector<std::string> names, std::vector<std::vector<NumberBounds>> bounds,
               py::object configure, py::object check_step)
      : names_(std::move(names)),
        live_(WrittenValues{py::list(), std::move(bounds)}),
        configure_(std::move(configure)),
        check_step_(std::move(check_step)) {}

  // The arrays are those of the names, each one array, or a list of arrays. What a rule doesn't
  // have isn't looked at. step is the count of this step, from 1, or one for each parameter.
  void operator()(const py::tuple& values, py::handle step, const py::args& arrays);

  void visit(Visitor& visitor) const;
  void let_go_of_objects();

 private:
  // The rule that these hyperparameters mean.
  ConfiguredRule rule_of(const py::tuple& values);
  // Which of the names the arguments of a rule have, in the rule's order: its parameters, their
  // gradients and its states.
  struct Chosen {
    std::array<std::size_t, 2 + max_states> places{};
    std::size_t count = 0;

    void add(std::size_t place) { places[count++] = place; }
  };
  Chosen arguments_of(const RuleInfo& rule) const;

  std::vector<std::string> names_;
  LiveRule live_;
  Chosen chosen_;  // of the last rule
  py::object configure_, check_step_;
};

// The root of the sum of all squares of arrays, as a step finds it.
double global_norm(py::handle arrays);

}  // namespace fusedopt
