#include "bindings/step_with_options.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "engine/float_mode.hpp"

namespace fusedopt {

Pieces StepWithOptions::pieces() const {
  if (options_.max_array_norm) return Pieces::alone;
  return options_.stats ? Pieces::apart : Pieces::joined;
}

void StepWithOptions::prepare(const GivenGradients& grads, Plan& plan) {
  if (options_.zero_grads) require_writeable_cast(grads, held_.writable);
  prepare(stepped_in(grads, held_.parameters), plan);
}

void StepWithOptions::prepare(std::vector<Stepped> stepped, Plan& plan) {
  stepped_ = std::move(stepped);
  if (options_.zero_grads) {
    require_writeable(stepped_, held_.parameters);
    require_apart(stepped_, held_.parameters);
  }
  if (options_.scans()) scan_ = scan_of([](const Stepped& s) { return data_of(s.grad); });
  if (!options_.stats) return;
  for (const Piece& piece : plan.pieces()) measures_.add(piece.size);
  measures_.prepare();
  if (!options_.scans()) return;
  standing_ =
      scan_of([this](const Stepped& s) { return data_of(held_.parameters[s.parameter].array); });
}

void StepWithOptions::run(Plan& plan) {
  const ScopedFloatMode mode(false);  // numbers don't depend on the caller's rounding mode
  if (options_.scans()) {
    scan_.run();
    norm_ = scan_.norm() / options_.loss_scale;
    moves_ = options_.on_nonfinite == OnNonfinite::propagate || scan_.nonfinite() == 0;
  }
  if (!moves_) {
    if (options_.stats) standing_.run();
    if (options_.zero_grads && options_.on_nonfinite == OnNonfinite::skip) plan.zero_gradients();
    return;
  }
  const GradientWork gradients{options_.gradient_scale(norm_), options_.clip_value,
                               options_.zero_grads};
  if (options_.max_array_norm) {
    for (std::size_t k = 0; k < stepped_.size(); ++k) {
      const double own_norm = std::sqrt(scan_.sum(k)) / options_.loss_scale;
      plan.scale_gradients(k, options_.array_scale(own_norm));
    }
  }
  plan.fold(gradients);
  if (options_.stats) {
    plan.run_measured(&Kernel::update, gradients, measures_);
  } else {
    plan.run(&Kernel::update, gradients);
  }
}

void StepWithOptions::zero_cast(const GivenGradients& grads) const {
  if (!options_.zero_grads) return;
  if (moves_ || options_.on_nonfinite == OnNonfinite::skip) fusedopt::zero_cast(grads);
}

py::tuple StepWithOptions::result() const {
  double norm = norm_;
  py::object stats = py::none();
  if (options_.stats) {
    const ScopedFloatMode mode(false);
    const std::vector<Measures::Sums> each = sums();
    Measures::Sums all;
    for (const Measures::Sums& s : each) all.add(s);
    norm = std::sqrt(all.gradient) / options_.loss_scale;
    stats = stats_of_groups(each);
  }
  const bool knows_norm = options_.max_norm || options_.max_array_norm || options_.stats;
  return py::make_tuple(knows_norm ? py::object(py::float_(norm)) : py::none(), !moves_, stats);
}

// Of each parameter that has a gradient.
std::vector<Measures::Sums> StepWithOptions::sums() const {
  std::vector<Measures::Sums> sums;
  for (std::size_t k = 0; k < stepped_.size(); ++k) {
    if (moves_) {
      sums.push_back(measures_.of_piece(k));
    } else {
      sums.push_back({scan_.sum(k), 0, standing_.sum(k), scan_.nonfinite(k)});
    }
  }
  return sums;
}

// For each group the norms of gradients as they count, updates and parameters, and how many
// elements of gradients aren't finite.
py::list StepWithOptions::stats_of_groups(const std::vector<Measures::Sums>& sums) const {
  std::vector<Measures::Sums> of_groups(held_.count_of_groups());
  for (std::size_t k = 0; k < sums.size(); ++k) {
    of_groups[held_.group_of(stepped_[k].parameter).of].add(sums[k]);
  }
  py::list stats;
  for (const Measures::Sums& all : of_groups) {
    stats.append(py::make_tuple(std::sqrt(all.gradient) / options_.loss_scale,
                                std::sqrt(all.update), std::sqrt(all.parameter), all.nonfinite));
  }
  return stats;
}

// Of one array for each parameter that has a gradient.
template <typename ArrayOf>
ArrayScan StepWithOptions::scan_of(const ArrayOf& array_of) const {
  ArrayScan scan;
  scan.reserve(stepped_.size());
  for (const Stepped& s : stepped_) {
    const Parameter& p = held_.parameters[s.parameter];
    scan.add(array_kernel(p.dtype), array_of(s), p.size,
             static_cast<std::int64_t>(item_size(p.dtype)));
  }
  scan.prepare();
  return scan;
}

void StepWithOptions::require_finite() const {
  if (moves_ || options_.on_nonfinite != OnNonfinite::raise) return;
  const Parameters& parameters = held_.parameters;
  std::string found;
  int more = 0;
  for (std::size_t k = 0; k < stepped_.size(); ++k) {
    if (scan_.nonfinite(k) == 0) continue;
    if (found.size() > 200) {
      ++more;
      continue;
    }
    const std::size_t i = stepped_[k].parameter;
    found += (found.empty() ? "" : ", ") + parameters.names().label("grads", i).text() + ": " +
             std::to_string(scan_.nonfinite(k)) + " of " +
             quantity(static_cast<std::size_t>(parameters[i].size), "element");
  }
  if (more > 0) found += ", and " + std::to_string(more) + " more";
  found += " not finite; nothing was updated";
  PyErr_SetString(PyExc_FloatingPointError, found.c_str());
  throw py::error_already_set();
}

}  // namespace fusedopt
