#include "bindings/writable_memory.hpp"

#include <algorithm>
#include <utility>

namespace fusedopt {

void WritableMemory::find(Parameters& parameters) {
  const std::size_t count = parameters.count();
  std::vector<Interval> intervals;
  intervals.reserve(count + arenas_.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Parameter& p = parameters[i];
    intervals.push_back(interval_of(data_of(p.array), p.bytes(), i));
  }
  for (const auto& arena : arenas_) {
    intervals.push_back(interval_of(arena->data(), arena->size(), count));
  }
  if (const auto clash = intervals_.assign(std::move(intervals))) {
    const auto [first, second] = *clash;
    if (first == count) throw_overlap("an array of the state", "another one");
    const Label label = parameters.names().label("params", second < count ? second : first);
    throw_overlap(label.text(), second < count ? parameters.names().label("params", first).text()
                                               : "the optimizer's own state");
  }
  owners_are_known_ =
      std::ranges::none_of(arenas_, [](const auto& arena) { return arena->is_someone_elses(); });
  parameter_owners_ = PointerFilter(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyArrayObject* array = as_array(parameters[i].array);
    Binding& binding = parameters.bindings()[i];
    binding.data = PyArray_BYTES(array);
    binding.free_begin = binding.free_bytes = 0;
    const PyArrayObject* owner = owner_of(array);
    owners_are_known_ &= owner != nullptr;
    parameter_owners_.insert(owner);
  }
}

void WritableMemory::add(std::shared_ptr<Arena> arena, Parameters& parameters) {
  arenas_.push_back(std::move(arena));
  try {
    find(parameters);
  } catch (...) {
    arenas_.pop_back();
    throw;
  }
}

void WritableMemory::replace(std::vector<std::shared_ptr<Arena>> arenas, Parameters& parameters) {
  arenas_.swap(arenas);
  try {
    find(parameters);
  } catch (...) {
    arenas_.swap(arenas);
    throw;
  }
}

void WritableMemory::remove(const std::shared_ptr<Arena>& arena, Parameters& parameters) {
  std::erase(arenas_, arena);
  find(parameters);
}

void WritableMemory::exchange(const std::shared_ptr<Arena>& old, std::shared_ptr<Arena> other,
                              Parameters& parameters) {
  std::vector<std::shared_ptr<Arena>> arenas = arenas_;
  std::erase(arenas, old);
  if (other) arenas.push_back(std::move(other));
  replace(std::move(arenas), parameters);
}

std::optional<std::size_t> WritableMemory::find_overlap(const Parameter& parameter,
                                                        Binding& binding,
                                                        const void* gradient) const {
  const std::size_t bytes = parameter.bytes();
  const Interval wanted = interval_of(gradient, bytes, 0);
  if (binding.is_free(wanted.begin)) return std::nullopt;
  Interval free{};
  const auto owner = intervals_.find_overlap(wanted, &free);
  if (!owner) {
    binding.free_begin = free.begin;
    binding.free_bytes = free.end - bytes + 1 - free.begin;
  }
  return owner;
}

}  // namespace fusedopt
