// The state arrays of an optimizer: made when a rule first needs them, and kept.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "bindings/parameters.hpp"
#include "bindings/rules.hpp"
#include "engine/arena.hpp"
#include "kernels/table.hpp"

namespace fusedopt {

class States {
 public:
  explicit States(std::size_t parameters) : parameters_(parameters) {}

  // What follows is about the states of these names, in their order.
  void select(const Names& names);
  std::size_t count() const { return selected_.size(); }

  // A parameter's k-th array; null until it needs one.
  char* data(std::size_t k, std::size_t parameter) const {
    return all_[selected_[k]].data[parameter];
  }
  // Whether a parameter's arrays lie right behind those of the one before, which take so many
  // bytes.
  bool follow_previous(std::size_t parameter, std::size_t bytes) const;

  // Memory for all arrays that a step with these gradients needs and that don't exist, in one
  // block.
  struct Missing {
    struct Place {
      std::size_t index, parameter;  // which of the selected states
    };
    std::vector<Place> places;
    std::shared_ptr<Arena> arena;
  };
  Missing allocate_missing(const Parameters& parameters, PyObject* const* grads) const;
  // Makes them, with what the rule has its states start from, and marks their parameters as fresh.
  // Can't fail.
  void add(const Missing& missing, Parameters& parameters, const ConfiguredRule& rule) noexcept;

  // All that a parameter has, by name.
  py::dict of(std::size_t parameter, DType dtype, Shape shape) const;

 private:
  // One array for each parameter.
  struct State {
    std::string name;
    std::vector<char*> data;
    std::vector<std::shared_ptr<Arena>> owners;
  };

  std::size_t parameters_;
  std::vector<State> all_;             // that any rule has asked for
  std::vector<std::size_t> selected_;  // among them
};

}  // namespace fusedopt
