#include "bindings/lookahead.hpp"

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/rules.hpp"

namespace fusedopt {

void Lookahead::require_none(const char* action) const {
  if (!is_ahead_) return;
  throw std::runtime_error(std::string(action) +
                           ": not inside lookahead(), where the parameters are elsewhere");
}

void Lookahead::move_ahead(const Parameters& parameters, std::vector<char*> velocities,
                           const std::vector<double>& momenta) {
  velocities_ = std::move(velocities);
  make_room(parameters);
  const Plan work = plan(parameters, momenta, false);
  is_ahead_ = true;
  run_for(work.elements(), [&] { work.run(&Kernel::update); });
}

void Lookahead::move_back(const Parameters& parameters) {
  if (!is_ahead_) return;
  std::optional<std::size_t> lost;
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (!velocities_[i]) continue;
    const Parameter& p = parameters[i];
    PyArrayObject* array = as_array(p.array);
    // It could be written when it was moved, if it is still there.
    const bool is_there = PyArray_BYTES(array) == parameters.bindings()[i].data;
    if (!has_type(array, numpy_type(p.dtype)) || PyArray_SIZE(array) != p.size ||
        !has_flags(array, is_there ? Access::read : Access::update)) {
      lost = i;
      velocities_[i] = nullptr;
    }
  }
  const Plan work = plan(parameters, std::vector<double>(parameters.count()), true);
  run_for(work.elements(), [&] { work.run(&Kernel::update); });
  is_ahead_ = false;
  if (lost) {
    throw py::value_error(
        parameters.names().label("params", *lost).text() +
        ": can't be put back from where lookahead() moved it, as it was resized or "
        "replaced inside; all others are back");
  }
}

void Lookahead::make_room(const Parameters& parameters) {
  origins_.resize(parameters.count());
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    if (velocities_[i] && !origins_[i]) bytes += Arena::room(parameters[i].bytes());
  }
  if (bytes == 0) return;
  arenas_.push_back(allocate_arena(bytes, "a copy of the parameters"));
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    if (!velocities_[i] || origins_[i]) continue;
    const Parameter& p = parameters[i];
    origins_[i] = arenas_.back()->take(p.bytes(), data_of(p.array), 2);
  }
}

Plan Lookahead::plan(const Parameters& parameters, const std::vector<double>& momenta,
                     bool back) const {
  Plan work;
  std::vector<ConfiguredRule> rules;  // which the plan reads when it is folded
  rules.reserve(parameters.count());
  std::optional<double> momentum;  // of the last rule
  std::size_t coefficients[dtype_count];
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (!velocities_[i]) continue;
    if (momentum != momenta[i]) {
      momentum = momenta[i];
      py::dict hyperparameters;
      hyperparameters["momentum"] = momenta[i];
      hyperparameters["back"] = back ? 1.0 : 0.0;
      const ConfiguredRule& rule = rules.emplace_back("lookahead", hyperparameters);
      for (int d = 0; d < dtype_count; ++d) {
        coefficients[d] =
            work.add_coefficients(rule.kernel(DType(d)), rule.hyperparameters.data(), 1, false);
      }
    }
    const Parameter& p = parameters[i];
    Piece& piece =
        work.add(rules.back().kernel(p.dtype), coefficients[static_cast<int>(p.dtype)], p.size);
    piece.streams[0] = data_of(p.array);
    piece.streams[2] = velocities_[i];
    piece.streams[3] = origins_[i];
  }
  work.fold();
  return work;
}

}  // namespace fusedopt
