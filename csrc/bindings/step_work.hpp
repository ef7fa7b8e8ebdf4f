// The work of a step of all parameters: looked at, and laid out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/holdings.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

// Whether what lies side by side is one piece of work, or each parameter by itself; that, too, with
// coefficients of its own, in the order of those that have a gradient.
enum class Pieces { joined, apart, alone };

// Coefficients for the next step of a parameter of that group.
std::size_t add_coefficients(Plan& plan, const Holdings& held, const Group& group, std::size_t i);
// A piece of work for itself. False where state of it is missing.
bool add_piece(Plan& plan, const Holdings& held, const Group& group, std::size_t i, py::handle grad,
               std::size_t coefficients);

inline std::uintptr_t address(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }

class StepWork {
 public:
  explicit StepWork(Holdings& held) : held_(held) {}

  // Checks everything again and brings the last plan up to date, where nothing is unusual about
  // this step. This is what a step costs besides arithmetic: for one parameter some comparisons,
  // and no look at anything that only errors need. False says nothing yet about what is wrong, if
  // anything.
  bool refresh(PyObject* const* grads);
  // Looks at everything in full and lays out the work. False where a parameter needs state that it
  // doesn't have yet; nothing but the plan has changed then.
  bool gather(PyObject* const* grads, Pieces pieces = Pieces::joined);

  Plan& plan() { return plan_; }

 private:
  // The coefficients of a group that were folded last for a dtype, and for which step.
  struct Folded {
    std::int64_t step = 0;  // no parameter's, as steps count from 1
    bool fresh = false;
    std::size_t parameter = 0;  // the first one they are for
    std::size_t index = 0;      // in the plan
  };

  void require_gradient(std::size_t i, py::handle grad) const;

  Holdings& held_;
  Plan plan_;
  std::vector<std::array<Folded, dtype_count>> folded_;  // by group
  // Whether the next step needs the same plan but for its gradients' addresses: every parameter had
  // a gradient, and those of one group and dtype were at the same step. As of which changes.
  bool is_regular_ = false;
  std::uint64_t changes_ = 0;
};

// Here, so that a step is one function.
inline bool StepWork::refresh(PyObject* const* grads) {
  if (!is_regular_ || changes_ != held_.changes) return false;
  const PyTypeObject* const plain = &PyArray_Type;
  std::vector<Binding>& bindings = held_.parameters.bindings();
  Piece* piece = plan_.pieces().data();
  std::uintptr_t last_distance = 0;  // of the gradient before from its parameter
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    Binding& b = bindings[i];
    if (!b.accepts(grads[i], plain)) return false;
    auto* grad = reinterpret_cast<PyArrayObject*>(grads[i]);
    char* data = PyArray_BYTES(grad);
    if (!b.is_free(address(data)) && !held_.writable.is_apart(grad) &&
        held_.writable.find_overlap(held_.parameters[i], b, data)) {
      return false;
    }
    const std::uintptr_t distance = address(data) - address(b.data);
    if (b.follows && (distance == last_distance) != b.joined) return false;
    last_distance = distance;
    if (!b.joined) (piece++)->streams[1] = data;
  }
  for (auto& of_group : folded_) {
    for (Folded& folded : of_group) {
      if (folded.step == 0) continue;  // there is no parameter of that dtype
      folded.step = held_.steps[folded.parameter] + 1;
      folded.fresh = false;
      plan_.set_step(folded.index, folded.step);
    }
  }
  return true;
}

}  // namespace fusedopt
