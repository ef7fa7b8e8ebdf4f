#include "bindings/elsewhere.hpp"

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/gil.hpp"

namespace fusedopt {
namespace {

constexpr const char* lookahead_block = "lookahead()";
constexpr const char* average_block = "swap_ema()";

ConfiguredRule lookahead(double momentum, bool back) {
  py::dict hyperparameters;
  hyperparameters["momentum"] = momentum;
  hyperparameters["back"] = back ? 1.0 : 0.0;
  return {"lookahead", hyperparameters};
}

}  // namespace

void Elsewhere::require_home(const char* action) const {
  if (!block_) return;
  throw std::runtime_error(std::string(action) + ": not inside " + block_ +
                           ", where the parameters are elsewhere");
}

void Elsewhere::move_ahead(Holdings& held, const std::vector<double>& momenta) {
  require_home("lookahead()");
  held.require_usable_state();
  if (momenta.size() != held.groups.size()) {
    throw std::runtime_error("lookahead(): parameters were added since it was called");
  }
  Rules rules;
  std::vector<char*> velocities;
  for (std::size_t k = 0; k < held.groups.size(); ++k) {
    const Group& g = held.groups[k];
    rules.all.push_back(lookahead(momenta[k], false));
    for (std::size_t i = g.first; i < g.last; ++i) {
      velocities.push_back(held.states.data(g.states.at(0), i));
      rules.of_parameter.push_back(k);
    }
  }
  // First, as it may run Python code.
  make_room(held.parameters, velocities, held.memory);
  held.look_at_those_with(velocities);
  partners_ = std::move(velocities);
  run(held.parameters, rules);
  block_ = lookahead_block;
}

void Elsewhere::move_to_averages(Holdings& held) {
  require_home("swap_ema()");
  held.memory.require_own();
  held.require_usable_state();
  std::vector<char*> averages = held.states.arrays_of("ema");
  const Rules rules{{{"exchange", {}}}, std::vector<std::size_t>(held.parameters.count())};
  held.look_at_those_with(averages);
  partners_ = std::move(averages);
  run(held.parameters, rules);
  block_ = average_block;
}

void Elsewhere::move_back(Holdings& held) {
  if (!block_) return;
  Parameters& parameters = held.parameters;
  const bool ahead = block_ == lookahead_block;
  // First, as to ask for memory may run a finalizer.
  const Rules rules{{ahead ? lookahead(0, true) : ConfiguredRule("exchange", {})},
                    std::vector<std::size_t>(parameters.count())};
  std::optional<std::size_t> lost;
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (!partners_[i]) continue;
    const bool is_readable = parameters.try_follow(i);
    const Parameter& p = parameters[i];
    PyArrayObject* array = as_array(p.array);
    // It could be written when it was moved, if it is still there.
    const bool is_there = PyArray_BYTES(array) == parameters.bindings()[i].data;
    if (!is_readable || !has_type(array, numpy_type(p.dtype)) || PyArray_SIZE(array) != p.size ||
        !has_flags(array, is_there ? Access::read : Access::update)) {
      lost = i;
      partners_[i] = nullptr;
    }
  }
  run(parameters, rules);
  const std::string block = std::exchange(block_, nullptr);
  if (lost) {
    throw py::value_error(parameters.names().label("params", *lost).text() +
                          ": can't be put back from where " + block +
                          " moved it, as it was resized or replaced inside; all others are back");
  }
}

// For copies of the parameters that have a velocity.
void Elsewhere::make_room(const Parameters& parameters, const std::vector<char*>& velocities,
                          const StateMemory& memory) {
  origins_.resize(parameters.count());
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    if (velocities[i] && !origins_[i]) bytes += Arena::room(parameters[i].bytes());
  }
  if (bytes == 0) return;
  arenas_.push_back(memory.allocate(bytes, "a copy of the parameters"));
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    if (!velocities[i] || origins_[i]) continue;
    const Parameter& p = parameters[i];
    origins_[i] = arenas_.back()->take(p.bytes(), data_of(p.array), 2);
  }
}

void Elsewhere::run(const Parameters& parameters, const Rules& rules) const {
  Plan work;
  std::vector<std::array<std::size_t, dtype_count>> coefficients;
  for (const ConfiguredRule& rule : rules.all) {
    coefficients.push_back(
        work.add_coefficients(*rule.info, rule.hyperparameters.data(), 1, false));
  }
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (!partners_[i]) continue;
    const Parameter& p = parameters[i];
    const std::size_t rule = rules.of_parameter[i];
    const std::size_t own = coefficients[rule][static_cast<std::size_t>(p.dtype)];
    Piece& piece = work.add(rules.all[rule].kernel(p.dtype), own, p.size);
    piece.streams[0] = piece.streams[1] = data_of(p.array);  // no gradient is read
    piece.streams[2] = partners_[i];
    if (i < origins_.size()) piece.streams[3] = origins_[i];
  }
  work.fold();
  run_for(work.elements(), [&] { work.run(&Kernel::update); }, !parameters.have_foreign());
}

}  // namespace fusedopt
