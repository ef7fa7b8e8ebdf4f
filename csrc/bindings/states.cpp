#include "bindings/states.hpp"

#include <algorithm>

namespace fusedopt {

void States::select(const Names& names) {
  std::vector<std::size_t> selected;
  for (int k = 0; k < names.count; ++k) {
    const std::string name = names.items[k];
    auto found = std::ranges::find(all_, name, &State::name);
    if (found == all_.end()) {
      found = all_.insert(found, {name, std::vector<char*>(parameters_),
                                  std::vector<std::shared_ptr<Arena>>(parameters_)});
    }
    selected.push_back(static_cast<std::size_t>(found - all_.begin()));
  }
  selected_ = std::move(selected);
}

bool States::follow_previous(std::size_t parameter, std::size_t bytes) const {
  return std::ranges::all_of(selected_, [&](std::size_t k) {
    const auto& data = all_[k].data;
    return data[parameter] && data[parameter - 1] && data[parameter] == data[parameter - 1] + bytes;
  });
}

States::Missing States::allocate_missing(const Parameters& parameters,
                                         PyObject* const* grads) const {
  Missing missing;
  std::size_t bytes = 0;
  for (std::size_t index = 0; index < selected_.size(); ++index) {
    for (std::size_t i = 0; i < parameters.count(); ++i) {
      if (grads[i] == Py_None || data(index, i)) continue;
      missing.places.push_back({index, i});
      bytes += Arena::room(parameters[i].bytes());
    }
  }
  missing.arena = allocate_arena(bytes, "the optimizer's state");
  return missing;
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

void States::add(const Missing& missing, Parameters& parameters,
                 const ConfiguredRule& rule) noexcept {
  Arena& arena = *missing.arena;
  const Missing::Place* last = nullptr;
  for (const Missing::Place& next : missing.places) {
    const auto [index, i] = next;
    const std::size_t k = selected_[index];
    Parameter& p = parameters[i];
    // Parameters that lie side by side have their state side by side.
    const bool follows = last && last->index == index && last->parameter + 1 == i &&
                         parameters.is_behind_previous(i);
    void* data = follows ? arena.take_next(p.bytes())
                         : arena.take(p.bytes(), data_of(p.array), static_cast<int>(k) + 1);
    if (const double initial = rule.initial(index); initial != 0) fill(data, p, initial);
    all_[k].data[i] = static_cast<char*>(data);
    all_[k].owners[i] = missing.arena;
    p.fresh = true;
    last = &next;
  }
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
