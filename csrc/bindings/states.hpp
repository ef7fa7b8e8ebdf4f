// The state arrays of an optimizer: made when a rule first needs them, and kept.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/parameters.hpp"
#include "bindings/rules.hpp"
#include "engine/arena.hpp"
#include "kernels/table.hpp"

namespace fusedopt {

class States {
 public:
  // Which states a rule has, in its order.
  using Selection = std::vector<std::size_t>;

  // For so many parameters, from now on.
  void resize(std::size_t parameters);

  Selection select(const Names& names);
  // Where a state is, from now on at the latest.
  std::size_t index_of(std::string_view name);

  // A parameter's array of a state; null until it needs one.
  char* data(std::size_t state, std::size_t parameter) const { return all_[state].data[parameter]; }
  // Whether a parameter's arrays lie right behind those of the one before, which take so many
  // bytes.
  bool follow_previous(const Selection& selection, std::size_t parameter, std::size_t bytes) const;

  // Arrays that a step needs and that don't exist, and memory for all of them in one block.
  struct Missing {
    struct Place {
      std::size_t state, parameter;
      std::optional<double> initial;  // what the array is filled with; none: with the parameter
    };
    std::vector<Place> places;
    std::size_t bytes = 0;
    std::shared_ptr<Arena> arena;
  };
  // Adds those of the parameters from first to last, but for last, that have a gradient.
  void find_missing(Missing& missing, const ConfiguredRule& rule, const Selection& selection,
                    std::optional<std::size_t> average, const Parameters& parameters,
                    std::size_t first, std::size_t last, PyObject* const* grads) const;
  // Makes them, and marks parameters as fresh where a rule needs them. Can't fail.
  void add(const Missing& missing, Parameters& parameters) noexcept;
  // Unmakes them.
  void remove(const Missing& missing, Parameters& parameters) noexcept;

  // Whether an array of any lies there.
  bool have(const Arena* arena) const;
  // Takes an array of a parameter's from now on.
  void set(std::size_t state, std::size_t parameter, std::shared_ptr<Arena> array) noexcept {
    all_[state].data[parameter] = array->begin();
    all_[state].owners[parameter] = std::move(array);
  }
  // Forgets one array, of which there may be views.
  void remove(std::size_t state, std::size_t parameter) noexcept;
  std::size_t count() const { return all_.size(); }
  const std::string& name(std::size_t state) const { return all_[state].name; }

  // Every parameter's array of a state, by name; nulls where there are none.
  std::vector<char*> arrays_of(std::string_view state) const;

  // All that a parameter has, by name.
  py::dict of(std::size_t parameter, DType dtype, Shape shape) const;

 private:
  // One array for each parameter.
  struct State {
    std::string name;
    std::vector<char*> data;
    std::vector<std::shared_ptr<Arena>> owners;
  };

  std::size_t parameters_ = 0;
  std::vector<State> all_;  // that any rule has asked for
};

}  // namespace fusedopt
