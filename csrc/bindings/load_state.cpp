// State of another optimizer, or of this one at another time.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {
namespace {

py::object copy_of(const py::object& array) {
  auto copy = py::reinterpret_steal<py::object>(PyArray_NewCopy(as_array(array), NPY_CORDER));
  if (!copy) throw py::error_already_set();
  return copy;
}

// Unlike what a step uses it may be misaligned: it is only copied.
bool fits(const py::object& array, const Parameter& p) {
  return PyArray_Check(array.ptr()) && has_type(as_array(array), numpy_type(p.dtype)) &&
         PyArray_IS_C_CONTIGUOUS(as_array(array)) && is_same(shape_of(array), p.shape);
}

}  // namespace

void Stepper::load(const py::list& states, const std::vector<std::int64_t>& steps,
                   std::int64_t completed_steps, const std::vector<GroupRule>& rules,
                   const std::optional<std::vector<py::object>>& params, const Updates& updates,
                   bool adopts) {
  const std::scoped_lock lock(mutex_);
  require_home("load_state_dict()");
  memory_.require_own();
  const std::size_t count = parameters_.count();
  if (states.size() != count || steps.size() != count || rules.size() != groups_.size() ||
      (params && params->size() != count)) {
    throw std::runtime_error("load_state_dict(): parameters were added since it was called");
  }
  for (std::size_t k = 0; k < groups_.size(); ++k) require_finite(groups_[k], rules[k].rule);
  std::vector<Loaded> loaded = read_states(states);
  const std::size_t state_arrays = loaded.size();
  States::Missing missing;
  std::vector<std::shared_ptr<Arena>> adopted;
  if (adopts) {
    adopted = adopt(loaded);
    require_apart(loaded);
  } else {
    make_room(loaded, missing);
  }
  std::shared_ptr<Arena> arena;
  if (missing.bytes > 0) arena = memory_.allocate(missing.bytes, "the optimizer's state");

  parameters_.follow();
  // No Python code runs from here on, which could change what is looked at.
  std::vector<char*> written(count);  // the parameters that are
  if (params) {
    for (std::size_t i = 0; i < count; ++i) {
      written[i] = static_cast<char*>(data_of(parameters_[i].array));
      loaded.push_back({no_state, i, params->at(i)});
    }
  }
  look_at_those_with(written);
  const auto place_of = [&](const Loaded& l) {
    return l.state == no_state ? written[l.parameter] : states_.data(l.state, l.parameter);
  };
  const auto is_copied = [&](const Loaded& l) { return !adopts || l.state == no_state; };
  std::vector<bool> kept(states_.count() * count);
  for (Loaded& l : loaded) {
    if (!fits(l.array, parameters_[l.parameter])) {
      throw py::value_error(parameters_.names().label("state", l.parameter).text() +
                            ": expected arrays like the parameter, C-contiguous");
    }
    // What is about to be overwritten is read before.
    if (is_copied(l) && data_of(l.array) != place_of(l) && writable_.overlaps(as_array(l.array))) {
      l.array = copy_of(l.array);
    }
    if (l.state != no_state) kept[l.state * count + l.parameter] = true;
  }
  plan_is_regular_ = false;
  if (adopts) {
    auto all = adopted;
    all.push_back(steps_arena_);
    writable_.replace(std::move(all), parameters_);
    for (std::size_t k = 0; k < state_arrays; ++k) {
      states_.set(loaded[k].state, loaded[k].parameter, adopted[k]);
    }
    adopted_.clear();
    for (std::size_t k = 0; k < state_arrays; ++k) {
      const Loaded& l = loaded[k];
      adopted_.push_back({l.array, data_of(l.array), l.state, l.parameter});
    }
  }
  if (arena) {
    writable_.add(arena, parameters_);
    missing.arena = std::move(arena);
    states_.add(missing, parameters_);
  }
  // From here on nothing can fail, but for want of a few bytes.
  for (std::size_t k = 0; k < states_.count(); ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!kept[k * count + i]) states_.remove(k, i);
    }
  }
  // What was lost has another array by now, perhaps where the first one lay.
  std::erase_if(adopted_, [this](const Adopted& a) {
    return states_.data(a.state, a.parameter) != a.data || !is_usable_still(a);
  });
  writable_.keep_only([this](const Arena* a) { return a == steps_arena_.get() || states_.have(a); },
                      parameters_);
  without_gil_if(!parameters_.have_foreign(), [&] {
    for (const Loaded& l : loaded) {
      if (!is_copied(l)) continue;
      std::memmove(place_of(l), data_of(l.array), parameters_[l.parameter].bytes());
    }
  });
  for (std::size_t i = 0; i < count; ++i) {
    steps_[i] = steps[i];
    parameters_[i].fresh = false;
  }
  for (std::size_t k = 0; k < groups_.size(); ++k) configure(groups_[k], rules[k], std::nullopt);
  completed_steps_ = completed_steps;
  bring_up_to_date(updates);
}

// Memory for arrays that don't exist, or no longer.
void Stepper::make_room(const std::vector<Loaded>& loaded, States::Missing& missing) const {
  std::vector<Adopted> lost;
  std::ranges::copy_if(adopted_, std::back_inserter(lost),
                       [this](const Adopted& a) { return !is_usable_still(a); });
  const auto is_lost = [&](const Loaded& l) {
    return std::ranges::any_of(
        lost, [&](const Adopted& a) { return a.state == l.state && a.parameter == l.parameter; });
  };
  for (const Loaded& l : loaded) {
    if (states_.data(l.state, l.parameter) && !is_lost(l)) continue;
    missing.places.push_back({l.state, l.parameter, 0.0});
    missing.bytes += Arena::room(parameters_[l.parameter].bytes());
  }
}

std::string Stepper::name_of(const Loaded& loaded) const {
  return parameters_.names().label("state", loaded.parameter).text() + "['" +
         states_.name(loaded.state) + "']";
}

// Throws where arrays share memory with each other, or with a parameter.
void Stepper::require_apart(const std::vector<Loaded>& adopted) const {
  const std::size_t count = parameters_.count();
  const auto text = [&](std::size_t owner) {
    return owner < count ? parameters_.names().label("params", owner).text()
                         : name_of(adopted[owner - count]);
  };
  std::vector<Interval> intervals;
  for (std::size_t i = 0; i < count; ++i) {
    intervals.push_back(interval_of(data_of(parameters_[i].array), parameters_[i].bytes(), i));
  }
  for (std::size_t k = 0; k < adopted.size(); ++k) {
    const Loaded& l = adopted[k];
    intervals.push_back(interval_of(data_of(l.array), parameters_[l.parameter].bytes(), count + k));
  }
  DisjointIntervals apart;
  if (const auto clash = apart.assign(std::move(intervals))) {
    throw_overlap(text(clash->second), text(clash->first));
  }
}

bool Stepper::is_usable_still(const Adopted& a) const {
  const Parameter& p = parameters_[a.parameter];
  return data_of(a.array) == a.data && is_usable(a.array, p.dtype, p.shape, Access::update);
}

void Stepper::throw_lost(const Adopted& a) const {
  throw py::value_error(name_of({a.state, a.parameter, {}}) +
                        ": expected the array that was adopted, as it was then; it was resized, "
                        "reshaped or frozen. Load the state again");
}

// The memory of each array, which stays as long as anything refers to it. An array's owner is let
// go of with the GIL, as StateMemory's.
std::vector<std::shared_ptr<Arena>> Stepper::adopt(const std::vector<Loaded>& loaded) {
  std::vector<std::shared_ptr<Arena>> adopted;
  for (const Loaded& l : loaded) {
    const Parameter& p = parameters_[l.parameter];
    const ParameterNames& names = parameters_.names();
    require_usable(l.array, names.label("state", l.parameter),
                   {p.dtype, p.shape, names.label("params", l.parameter)}, Access::update);
    std::shared_ptr<char> block(static_cast<char*>(data_of(l.array)), [owner = l.array](char*) {});
    adopted.push_back(std::make_shared<Arena>(std::move(block), p.bytes()));
  }
  return adopted;
}

// Keys are str: no line of Python code runs.
void Stepper::bring_up_to_date(const Updates& updates) {
  for (const auto& [own, update] : updates) {
    // Named once more, as before version 16 Clang captures none of a structured binding's names.
    call_python([&own = own, &update = update] {
      return PyList_Check(own.ptr())
                 ? PyList_SetSlice(own.ptr(), 0, PyList_GET_SIZE(own.ptr()), update.ptr())
                 : PyDict_Update(own.ptr(), update.ptr());
    });
  }
}

// The arrays among states, state by state, as they will be laid out.
std::vector<Stepper::Loaded> Stepper::read_states(const py::list& states) {
  std::vector<Loaded> loaded;
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    for (const auto& [name, array] : states[i].cast<py::dict>()) {
      loaded.push_back({states_.index_of(name.cast<std::string>()), i, reference_to(array)});
    }
  }
  std::ranges::stable_sort(loaded, {}, &Loaded::state);
  return loaded;
}

}  // namespace fusedopt
