// Where the gradients of a step come from: what a caller gives, or what is bound.
#pragma once

#include <utility>
#include <vector>

#include "bindings/foreign.hpp"
#include "bindings/given_gradients.hpp"
#include "bindings/holdings.hpp"
#include "bindings/native_type.hpp"

namespace fusedopt {

// What a step reads while other threads run, if they may: another one may empty the caller's list.
struct Kept {
  std::vector<Reference> objects;
  OwnedMemory memory;
  bool is_all = false;
};

class GradientSource {
 public:
  // casts: those of other floating dtypes.
  GradientSource(Holdings& held, bool casts) : held_(held), translator_(casts) {}

  // The gradients of every step, as a tuple, or None.
  const Reference& bound() const { return bound_; }
  // These are from now on, if check(them) doesn't throw.
  template <typename Check>
  void bind(const Reference& tuple, const Check& check);

  // Fills those that are bound with zeros.
  void zero();

  // What a caller gave as gradients, as a list or tuple in the order of the parameters; None where
  // they are bound. May run Python code.
  Reference read(py::handle grads) const {
    if (bound_.is_none() == grads.is_none()) throw_bound_or_not();
    if (grads.is_none()) return py::none();
    return as_list_or_tuple(grads, held_.parameters.names());
  }
  // Of what was read, or what is bound.
  void find_items(GivenGradients& grads) const {
    if (grads.given.is_none()) grads.given = bound_;
    grads.items = items_of(grads.given, held_.parameters.names());
  }

  // Whether there are arrays of other libraries, or were at the last look.
  bool has_foreign() const { return held_.parameters.have_foreign() || translator_.expects(); }
  // Whether there are gradients of such that weren't there at the last look.
  bool finds_foreign(GivenGradients& grads) {
    return translator_.translate_unexpected(grads, held_.parameters);
  }
  // Puts NumPy arrays in the place of other libraries', and has them lie where these do.
  void look_at_foreign(GivenGradients& grads, Kept& kept);
  // Python code may have run since: what was looked at before may be something else.
  void follow_again(const GivenGradients& grads) {
    held_.parameters.follow_again();
    translator_.follow_again(grads, held_.parameters);
  }
  Translator& translator() { return translator_; }

  void visit(Visitor& visitor) const { visitor(bound_); }
  // From here on none are bound.
  Reference let_go() { return std::exchange(bound_, py::none()); }

 private:
  [[noreturn]] void throw_bound_or_not() const;

  Holdings& held_;
  Reference bound_ = py::none();
  Translator translator_;
};

template <typename Check>
void GradientSource::bind(const Reference& tuple, const Check& check) {
  try {
    GivenGradients given;
    given.given = tuple;
    find_items(given);
    translator_.translate_all(given, held_.parameters);
    held_.parameters.follow();
    translator_.follow_again(given, held_.parameters);
    check(given);
  } catch (...) {
    // Those of parameters that are about to be taken back.
    if (!bound_.is_none()) translator_.truncate(py::len(bound_));
    throw;
  }
  bound_ = tuple;
}

}  // namespace fusedopt
