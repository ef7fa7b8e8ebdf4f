#include "bindings/load_state.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/gil.hpp"

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

class StateLoader {
 public:
  // Reads what was saved and makes room for it. May run Python code.
  StateLoader(Holdings& held, const SavedState& saved, std::vector<StateArray>& given_up);
  // Checks the rest and takes it over. No Python code runs, which could change what is looked at.
  void load();

 private:
  // An array that is copied: to a state's, or to the parameter itself.
  struct Copy {
    Reference from;
    std::size_t parameter;
    std::optional<std::size_t> state;
  };

  void read_states();
  void find_missing();
  void adopt_memory();
  void require_apart() const;
  void find_kept();
  void look_at_parameters();
  void require_fitting(const Reference& array, std::size_t parameter) const;
  void find_copies();
  void take_over_adopted();
  void forget_others();

  char* place_of(std::size_t state, std::size_t parameter) const {
    return held_.states.data(state, parameter);
  }
  char* place_of(const Copy& c) const {
    return c.state ? place_of(*c.state, c.parameter)
                   : static_cast<char*>(data_of(held_.parameters[c.parameter].array));
  }

  Holdings& held_;
  const SavedState& saved_;
  std::vector<StateArray>& given_up_;
  std::vector<StateArray> arrays_;
  std::vector<Copy> copies_;
  std::vector<bool> kept_;  // of all states' arrays by parameter, those that are there afterwards
  std::vector<std::shared_ptr<Arena>> adopted_;  // the memory of each array
  States::Missing missing_;
  std::shared_ptr<Arena> arena_;  // for what is missing, if anything is
};

StateLoader::StateLoader(Holdings& held, const SavedState& saved, std::vector<StateArray>& given_up)
    : held_(held), saved_(saved), given_up_(given_up) {
  const std::size_t count = held.parameters.count();
  if (saved.states.size() != count || saved.steps.size() != count ||
      saved.rules.size() != held.groups.size() || (saved.params && saved.params->size() != count)) {
    throw std::runtime_error("load_state_dict(): parameters were added since it was called");
  }
  for (std::size_t k = 0; k < held.groups.size(); ++k) {
    held.require_finite(held.groups[k], saved.rules[k].rule);
  }
  read_states();
  if (saved.adopts) {
    adopt_memory();
    require_apart();
  } else {
    find_missing();
  }
  if (missing_.bytes > 0) {
    arena_ = held.memory.allocate(missing_.bytes, "the optimizer's state");
  }
  held.parameters.follow();
}

// The arrays among states, state by state, as they will be laid out.
void StateLoader::read_states() {
  for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
    for (const auto& [name, array] : saved_.states[i].cast<py::dict>()) {
      const std::size_t state = held_.states.index_of(name.cast<std::string>());
      arrays_.push_back({state, i, reference_to(array)});
    }
  }
  std::ranges::stable_sort(arrays_, {}, &StateArray::state);
}

// Arrays that don't exist, or no longer.
void StateLoader::find_missing() {
  const std::vector<StateArray> lost = held_.adopted.find_lost(held_.parameters);
  const auto is_lost = [&](const StateArray& s) {
    return std::ranges::any_of(
        lost, [&](const auto& l) { return l.state == s.state && l.parameter == s.parameter; });
  };
  for (const StateArray& s : arrays_) {
    if (place_of(s.state, s.parameter) && !is_lost(s)) continue;
    missing_.places.push_back({s.state, s.parameter, 0.0});
    missing_.bytes += Arena::room(held_.parameters[s.parameter].bytes());
  }
}

// The memory of each array, which stays as long as anything refers to it. An array's owner is let
// go of with the GIL, as StateMemory's.
void StateLoader::adopt_memory() {
  for (const StateArray& s : arrays_) {
    const Parameter& p = held_.parameters[s.parameter];
    const ParameterNames& names = held_.parameters.names();
    require_usable(s.array, names.label("state", s.parameter),
                   {p.dtype, p.shape, names.label("params", s.parameter)}, Access::update);
    std::shared_ptr<char> block(static_cast<char*>(data_of(s.array)), [owner = s.array](char*) {});
    adopted_.push_back(std::make_shared<Arena>(std::move(block), p.bytes()));
  }
}

// Throws where arrays share memory with each other, or with a parameter.
void StateLoader::require_apart() const {
  const Parameters& parameters = held_.parameters;
  const std::size_t count = parameters.count();
  const auto text = [&](std::size_t owner) {
    return owner < count ? parameters.names().label("params", owner).text()
                         : arrays_[owner - count].text(parameters, held_.states);
  };
  std::vector<Interval> intervals;
  for (std::size_t i = 0; i < count; ++i) {
    intervals.push_back(interval_of(data_of(parameters[i].array), parameters[i].bytes(), i));
  }
  for (std::size_t k = 0; k < arrays_.size(); ++k) {
    const StateArray& s = arrays_[k];
    intervals.push_back(interval_of(data_of(s.array), parameters[s.parameter].bytes(), count + k));
  }
  DisjointIntervals apart;
  if (const auto clash = apart.assign(std::move(intervals))) {
    throw_overlap(text(clash->second), text(clash->first));
  }
}

void StateLoader::load() {
  look_at_parameters();
  find_copies();
  find_kept();
  ++held_.changes;
  if (saved_.adopts) take_over_adopted();
  if (arena_) held_.make(missing_, std::move(arena_));
  // From here on nothing can fail, but for want of a few bytes.
  forget_others();
  without_gil_if(!held_.parameters.have_foreign(), [this] {
    for (const Copy& c : copies_) {
      std::memmove(place_of(c), data_of(c.from), held_.parameters[c.parameter].bytes());
    }
  });
  for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
    held_.steps[i] = saved_.steps[i];
    held_.parameters[i].fresh = false;
  }
  for (std::size_t k = 0; k < held_.groups.size(); ++k) {
    held_.configure(held_.groups[k], saved_.rules[k], std::nullopt);
  }
  held_.completed_steps = saved_.completed_steps;
}

void StateLoader::look_at_parameters() {
  const bool are_written = saved_.params.has_value();
  held_.look_at_parameters([are_written](std::size_t) { return are_written; });
}

void StateLoader::require_fitting(const Reference& array, std::size_t parameter) const {
  if (fits(array, held_.parameters[parameter])) return;
  throw py::value_error(held_.parameters.names().label("state", parameter).text() +
                        ": expected arrays like the parameter, C-contiguous");
}

void StateLoader::find_copies() {
  for (const StateArray& s : arrays_) {
    require_fitting(s.array, s.parameter);
    if (!saved_.adopts) copies_.push_back({s.array, s.parameter, s.state});
  }
  for (std::size_t i = 0; saved_.params && i < held_.parameters.count(); ++i) {
    require_fitting(saved_.params->at(i), i);
    copies_.push_back({saved_.params->at(i), i, std::nullopt});
  }
  // What is about to be overwritten is read before.
  for (Copy& c : copies_) {
    if (data_of(c.from) != place_of(c) && held_.writable.overlaps(as_array(c.from))) {
      c.from = copy_of(c.from);
    }
  }
}

void StateLoader::take_over_adopted() {
  auto all = adopted_;
  all.push_back(held_.steps.arena());
  held_.writable.replace(std::move(all), held_.parameters);
  for (std::size_t k = 0; k < arrays_.size(); ++k) {
    held_.states.set(arrays_[k].state, arrays_[k].parameter, adopted_[k]);
  }
  held_.adopted.adopt(arrays_, given_up_);
}

void StateLoader::find_kept() {
  const std::size_t count = held_.parameters.count();
  kept_.resize(held_.states.count() * count);
  for (const StateArray& s : arrays_) kept_[s.state * count + s.parameter] = true;
}

// All state that isn't loaded, and memory in which there is none any more.
void StateLoader::forget_others() {
  States& states = held_.states;
  const std::size_t count = held_.parameters.count();
  for (std::size_t k = 0; k < states.count(); ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!kept_[k * count + i]) states.remove(k, i);
    }
  }
  // What was lost has another array by now, perhaps where the first one lay.
  held_.adopted.let_go_of_lost(held_.parameters, states, given_up_);
  const Arena* const steps = held_.steps.arena().get();
  held_.writable.keep_only([&](const Arena* a) { return a == steps || states.have(a); },
                           held_.parameters);
}

}  // namespace

void load_state(Holdings& held, const SavedState& saved, std::vector<StateArray>& given_up) {
  StateLoader loader(held, saved, given_up);
  loader.load();
}

}  // namespace fusedopt
