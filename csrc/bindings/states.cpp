#include "bindings/states.hpp"

#include <algorithm>
#include <cstring>

#include "engine/float_mode.hpp"

namespace fusedopt {

void States::resize(std::size_t parameters) {
  for (State& state : all_) {
    state.data.resize(parameters);
    state.owners.resize(parameters);
  }
  parameters_ = parameters;
}

States::Selection States::select(const Names& names) {
  Selection selection;
  for (int k = 0; k < names.count; ++k) selection.push_back(index_of(names.items[k]));
  return selection;
}

std::size_t States::index_of(std::string_view name) {
  const auto found = std::ranges::find(all_, name, &State::name);
  if (found != all_.end()) return static_cast<std::size_t>(found - all_.begin());
  all_.push_back({std::string(name), std::vector<char*>(parameters_),
                  std::vector<std::shared_ptr<Arena>>(parameters_)});
  return all_.size() - 1;
}

bool States::follow_previous(const Selection& selection, std::size_t parameter,
                             std::size_t bytes) const {
  return std::ranges::all_of(selection, [&](std::size_t k) {
    const auto& data = all_[k].data;
    return data[parameter] && data[parameter - 1] && data[parameter] == data[parameter - 1] + bytes;
  });
}

void States::find_missing(Missing& missing, const ConfiguredRule& rule, const Selection& selection,
                          std::optional<std::size_t> average, const Parameters& parameters,
                          std::size_t first, std::size_t last, PyObject* const* grads) const {
  const auto find = [&](std::size_t state, std::optional<double> initial) {
    for (std::size_t i = first; i < last; ++i) {
      if (grads[i] == Py_None || data(state, i)) continue;
      missing.places.push_back({state, i, initial});
      missing.bytes += Arena::room(parameters[i].bytes());
    }
  };
  for (std::size_t k = 0; k < selection.size(); ++k) find(selection[k], rule.initial(k));
  if (average) find(*average, std::nullopt);
}

namespace {

void fill(void* data, const Parameter& p, double value) {
  if (p.dtype == DType::float32) {
    std::fill_n(static_cast<float*>(data), p.size, static_cast<float>(value));
  } else {
    std::fill_n(static_cast<double*>(data), p.size, value);
  }
}

}  // namespace

void States::add(const Missing& missing, Parameters& parameters) noexcept {
  const ScopedFloatMode mode(false);  // a number is rounded whatever the caller's mode
  Arena& arena = *missing.arena;
  const Missing::Place* last = nullptr;
  for (const Missing::Place& next : missing.places) {
    const auto [k, i, initial] = next;
    Parameter& p = parameters[i];
    // Parameters that lie side by side have their state side by side.
    const bool follows =
        last && last->state == k && last->parameter + 1 == i && parameters.is_behind_previous(i);
    void* data = follows ? arena.take_next(p.bytes())
                         : arena.take(p.bytes(), data_of(p.array), static_cast<int>(k) + 1);
    if (!initial) {
      std::memcpy(data, data_of(p.array), p.bytes());
    } else if (*initial != 0) {
      fill(data, p, *initial);
    }
    all_[k].data[i] = static_cast<char*>(data);
    all_[k].owners[i] = missing.arena;
    p.fresh |= initial.has_value();
    last = &next;
  }
}

void States::remove(const Missing& missing, Parameters& parameters) noexcept {
  for (const auto& [k, i, initial] : missing.places) {
    remove(k, i);
    parameters[i].fresh = false;
  }
}

bool States::have(const Arena* arena) const {
  return std::ranges::any_of(all_, [arena](const State& state) {
    return std::ranges::any_of(state.owners, [arena](const auto& o) { return o.get() == arena; });
  });
}

void States::remove(std::size_t state, std::size_t parameter) noexcept {
  all_[state].data[parameter] = nullptr;
  all_[state].owners[parameter].reset();
}

std::vector<char*> States::arrays_of(std::string_view state) const {
  const auto found = std::ranges::find(all_, state, &State::name);
  return found == all_.end() ? std::vector<char*>(parameters_) : found->data;
}

py::dict States::of(std::size_t parameter, DType dtype, Shape shape) const {
  py::dict arrays;
  for (const State& s : all_) {
    if (!s.data[parameter]) continue;
    arrays[s.name.c_str()] = array_over(s.owners[parameter], s.data[parameter], dtype, shape);
  }
  return arrays;
}

}  // namespace fusedopt
