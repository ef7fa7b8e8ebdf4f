// A step with options.
#include <string>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/stepper.hpp"
#include "engine/float_mode.hpp"

namespace fusedopt {

py::tuple Stepper::step_with(py::handle grads, const StepOptions& options) {
  return *take_step_with(grads, options, [] { return true; });
}

std::optional<py::tuple> Stepper::step_with_if_readable(py::handle grads,
                                                        const StepOptions& options) {
  mutex_.require_outside("step()");
  return take_step_with(grads, options, [this] { return read_hyperparameters(); });
}

template <typename MayBegin>
std::optional<py::tuple> Stepper::take_step_with(py::handle grads, const StepOptions& options,
                                                 const MayBegin& may_begin) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  if (!may_begin()) return std::nullopt;
  given.given = read_once(grads);
  elsewhere_.require_home("step()");
  memory_.require_own();
  // A tuple of our own: gradients are looked at again after the GIL was released, when the caller's
  // list may be another. No Python code runs for it.
  if (!given.given.is_none()) given.given = py::tuple(given.given);
  find_items(given);
  States::Missing made;
  ArrayScan scan, standing;  // of gradients; and of parameters that stay where they are
  Measures measures;
  const auto pieces = options.max_array_norm ? Pieces::alone
                      : options.stats        ? Pieces::apart
                                             : Pieces::joined;
  const bool repeats = prepare(given, kept, made, pieces, [&] {
    PyObject* const* const items = given.items;
    if (options.zero_grads) {
      require_writeable(items);
      require_writeable_cast(given, writable_);
      require_apart(items);
    }
    if (options.scans()) scan = scan_of(items, items);
    if (options.stats) {
      for (const Piece& piece : plan_.pieces()) measures.add(piece.size);
      measures.prepare();
      if (options.scans()) standing = scan_of(parameters_.arrays().data(), items);
    }
  });
  PyObject* const* const items = given.items;
  // From here on nothing can fail but by what gradients hold.
  bool moves = true;
  double norm = 0;
  const auto work = [&] {
    const ScopedFloatMode mode(false);  // numbers don't depend on the caller's rounding mode
    if (options.scans()) {
      scan.run();
      norm = scan.norm() / options.loss_scale;
      moves = options.on_nonfinite == OnNonfinite::propagate || scan.nonfinite() == 0;
    }
    if (!moves) {
      if (options.stats) standing.run();
      if (options.zero_grads && options.on_nonfinite == OnNonfinite::skip) plan_.zero_gradients();
      return;
    }
    const GradientWork gradients{options.gradient_scale(norm), options.clip_value,
                                 options.zero_grads};
    if (options.max_array_norm) {
      std::size_t own = 0;
      for (std::size_t i = 0; i < parameters_.count(); ++i) {
        if (items[i] == Py_None) continue;
        const double own_norm = std::sqrt(scan.sum(i)) / options.loss_scale;
        plan_.scale_gradients(own++, options.array_scale(own_norm));
      }
    }
    plan_.fold(gradients);
    if (options.stats) {
      plan_.run_measured(&Kernel::update, gradients, measures);
    } else {
      plan_.run(&Kernel::update, gradients);
    }
  };
  run_for(plan_.elements(), work, kept.is_all);
  if (options.zero_grads && (moves || options.on_nonfinite == OnNonfinite::skip)) zero_cast(given);
  if (moves) {
    count_step(items, repeats);
    ++completed_steps_;
  } else {
    unmake(made);
    if (options.on_nonfinite == OnNonfinite::raise) throw_nonfinite(scan);
  }
  py::object stats = py::none();
  if (options.stats) {
    const ScopedFloatMode mode(false);
    std::vector<Measures::Sums> sums;
    for (std::size_t i = 0, piece = 0; i < parameters_.count(); ++i) {
      if (items[i] == Py_None) {
        sums.emplace_back();
      } else if (moves) {
        sums.push_back(measures.of_piece(piece++));
      } else {
        sums.push_back({scan.sum(i), 0, standing.sum(i), scan.nonfinite(i)});
      }
    }
    Measures::Sums all;
    for (const Measures::Sums& s : sums) all.add(s);
    norm = std::sqrt(all.gradient) / options.loss_scale;
    stats = stats_of_groups(sums, options.loss_scale);
  }
  const bool knows_norm = options.max_norm || options.max_array_norm || options.stats;
  return py::make_tuple(knows_norm ? py::object(py::float_(norm)) : py::none(), !moves, stats);
}

// For each group the norms of gradients as they count, updates and parameters, and how many
// elements of gradients aren't finite.
py::list Stepper::stats_of_groups(const std::vector<Measures::Sums>& sums,
                                  double loss_scale) const {
  std::vector<Measures::Sums> of_groups(count_of_groups());
  for (const Group& g : groups_) {
    for (std::size_t i = g.first; i < g.last; ++i) of_groups[g.of].add(sums[i]);
  }
  py::list stats;
  for (const Measures::Sums& all : of_groups) {
    stats.append(py::make_tuple(std::sqrt(all.gradient) / loss_scale, std::sqrt(all.update),
                                std::sqrt(all.parameter), all.nonfinite));
  }
  return stats;
}

// Throws where a gradient shares memory with another: one would be zeroed before the other is read.
void Stepper::require_apart(PyObject* const* grads) const {
  const ParameterNames& names = parameters_.names();
  std::vector<Interval> intervals;
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    if (grads[i] == Py_None) continue;
    intervals.push_back(interval_of(data_of(grads[i]), parameters_[i].bytes(), i));
  }
  DisjointIntervals written;
  if (const auto clash = written.assign(std::move(intervals))) {
    throw_overlap(names.label("grads", clash->second).text(),
                  names.label("grads", clash->first).text());
  }
}

// Of one array for each parameter that has a gradient.
ArrayScan Stepper::scan_of(PyObject* const* arrays, PyObject* const* grads) const {
  ArrayScan scan;
  scan.reserve(parameters_.count());
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    const Parameter& p = parameters_[i];
    const bool given = grads[i] != Py_None;
    scan.add(array_kernel(p.dtype), given ? data_of(arrays[i]) : nullptr, given ? p.size : 0,
             static_cast<std::int64_t>(item_size(p.dtype)));
  }
  scan.prepare();
  return scan;
}

void Stepper::throw_nonfinite(const ArrayScan& scan) const {
  std::string found;
  int more = 0;
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    if (scan.nonfinite(i) == 0) continue;
    if (found.size() > 200) {
      ++more;
      continue;
    }
    found += (found.empty() ? "" : ", ") + parameters_.names().label("grads", i).text() + ": " +
             std::to_string(scan.nonfinite(i)) + " of " +
             quantity(static_cast<std::size_t>(parameters_[i].size), "element");
  }
  if (more > 0) found += ", and " + std::to_string(more) + " more";
  found += " not finite; nothing was updated";
  PyErr_SetString(PyExc_FloatingPointError, found.c_str());
  throw py::error_already_set();
}

}  // namespace fusedopt
