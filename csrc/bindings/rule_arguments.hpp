// Rules and their hyperparameters as Python gives them.
#pragma once

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/live_rule.hpp"

namespace fusedopt {

// A rule's name, its hyperparameters, and the decay rate of an average.
using GroupRuleArguments = std::tuple<std::string, py::dict, std::optional<double>>;

inline GroupRule group_rule(const GroupRuleArguments& arguments) {
  const auto& [rule, hyperparameters, ema_decay] = arguments;
  return {{rule, hyperparameters}, ema_decay};
}

// Where a group's hyperparameters are kept, and for each of them the numbers that it stands for.
using Bounds = std::vector<std::vector<std::tuple<std::string, double, double>>>;
using WrittenArguments = std::tuple<py::list, Bounds>;

inline std::vector<std::vector<NumberBounds>> number_bounds(const Bounds& bounds) {
  std::vector<std::vector<NumberBounds>> found;
  for (const auto& numbers : bounds) {
    auto& own = found.emplace_back();
    for (const auto& [name, low, high] : numbers) own.push_back({name, low, high});
  }
  return found;
}

inline std::optional<WrittenValues> written_values(
    const std::optional<WrittenArguments>& arguments) {
  if (!arguments) return std::nullopt;
  const auto& [values, bounds] = *arguments;
  if (values.size() != bounds.size()) {
    throw py::value_error("written: expected bounds for each value");
  }
  return WrittenValues{values, number_bounds(bounds)};
}

}  // namespace fusedopt
