#include "bindings/step_with_options.hpp"

#include <cmath>
#include <string>

#include "engine/float_mode.hpp"

namespace fusedopt {

Pieces StepWithOptions::pieces() const {
  if (options_.max_array_norm) return Pieces::alone;
  return options_.stats ? Pieces::apart : Pieces::joined;
}

void StepWithOptions::prepare(const GivenGradients& grads, Plan& plan) {
  if (options_.zero_grads) {
    require_writeable(grads, held_.parameters, held_.writable);
    require_apart(grads, held_.parameters);
  }
  if (options_.scans()) scan_ = scan_of(grads.items, grads.items);
  if (!options_.stats) return;
  for (const Piece& piece : plan.pieces()) measures_.add(piece.size);
  measures_.prepare();
  if (options_.scans()) standing_ = scan_of(held_.parameters.arrays().data(), grads.items);
}

void StepWithOptions::run(const GivenGradients& grads, Plan& plan) {
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
    std::size_t own = 0;
    for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
      if (grads.items[i] == Py_None) continue;
      const double own_norm = std::sqrt(scan_.sum(i)) / options_.loss_scale;
      plan.scale_gradients(own++, options_.array_scale(own_norm));
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

py::tuple StepWithOptions::result(const GivenGradients& grads) const {
  double norm = norm_;
  py::object stats = py::none();
  if (options_.stats) {
    const ScopedFloatMode mode(false);
    const std::vector<Measures::Sums> sums = sums_of(grads.items);
    Measures::Sums all;
    for (const Measures::Sums& s : sums) all.add(s);
    norm = std::sqrt(all.gradient) / options_.loss_scale;
    stats = stats_of_groups(sums);
  }
  const bool knows_norm = options_.max_norm || options_.max_array_norm || options_.stats;
  return py::make_tuple(knows_norm ? py::object(py::float_(norm)) : py::none(), !moves_, stats);
}

// Of each parameter.
std::vector<Measures::Sums> StepWithOptions::sums_of(PyObject* const* grads) const {
  std::vector<Measures::Sums> sums;
  for (std::size_t i = 0, piece = 0; i < held_.parameters.count(); ++i) {
    if (grads[i] == Py_None) {
      sums.emplace_back();
    } else if (moves_) {
      sums.push_back(measures_.of_piece(piece++));
    } else {
      sums.push_back({scan_.sum(i), 0, standing_.sum(i), scan_.nonfinite(i)});
    }
  }
  return sums;
}

// For each group the norms of gradients as they count, updates and parameters, and how many
// elements of gradients aren't finite.
py::list StepWithOptions::stats_of_groups(const std::vector<Measures::Sums>& sums) const {
  std::vector<Measures::Sums> of_groups(held_.count_of_groups());
  for (const Group& g : held_.groups) {
    for (std::size_t i = g.first; i < g.last; ++i) of_groups[g.of].add(sums[i]);
  }
  py::list stats;
  for (const Measures::Sums& all : of_groups) {
    stats.append(py::make_tuple(std::sqrt(all.gradient) / options_.loss_scale,
                                std::sqrt(all.update), std::sqrt(all.parameter), all.nonfinite));
  }
  return stats;
}

// Of one array for each parameter that has a gradient.
ArrayScan StepWithOptions::scan_of(PyObject* const* arrays, PyObject* const* grads) const {
  ArrayScan scan;
  scan.reserve(held_.parameters.count());
  for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
    const Parameter& p = held_.parameters[i];
    const bool given = grads[i] != Py_None;
    scan.add(array_kernel(p.dtype), given ? data_of(arrays[i]) : nullptr, given ? p.size : 0,
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
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (scan_.nonfinite(i) == 0) continue;
    if (found.size() > 200) {
      ++more;
      continue;
    }
    found += (found.empty() ? "" : ", ") + parameters.names().label("grads", i).text() + ": " +
             std::to_string(scan_.nonfinite(i)) + " of " +
             quantity(static_cast<std::size_t>(parameters[i].size), "element");
  }
  if (more > 0) found += ", and " + std::to_string(more) + " more";
  found += " not finite; nothing was updated";
  PyErr_SetString(PyExc_FloatingPointError, found.c_str());
  throw py::error_already_set();
}

}  // namespace fusedopt
