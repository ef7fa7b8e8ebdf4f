// The gradients of a step as they were given, and as NumPy arrays.
#pragma once

#include <vector>

#include "bindings/foreign.hpp"
#include "bindings/parameters.hpp"
#include "bindings/writable_memory.hpp"

namespace fusedopt {

struct GivenGradients {
  Reference given;  // a list or tuple with one for each parameter: the caller's, or one of ours
  PyObject* const* items = nullptr;  // borrowed: its items, or NumPy arrays in their place
  Reference made;                    // a list of those that were made for this step, or null
  Reference cast;                    // of what some of them are casts of: gradients, or null
};

// A parameter that has a gradient in a step, by number, and that, a NumPy array; borrowed.
struct Stepped {
  std::size_t parameter;
  PyObject* grad;
};
std::vector<Stepped> stepped_in(const GivenGradients& gradients, const Parameters& parameters);

// Throws unless zeros can be put into gradients.
void require_writeable(const std::vector<Stepped>& stepped, const Parameters& parameters);
// Throws where a gradient shares memory with another: one would be zeroed before the other is read.
void require_apart(const std::vector<Stepped>& stepped, const Parameters& parameters);
// Throws unless zeros can be put into gradients that were cast, which `items` doesn't have, without
// touching what a step writes.
void require_writeable_cast(const GivenGradients& gradients, const WritableMemory& writable);
// Fills them with zeros.
void zero_cast(const GivenGradients& gradients);

// Puts NumPy arrays in the place of other libraries', and of those of another floating dtype, if
// they are to be cast.
class Translator {
 public:
  explicit Translator(bool casts) : casts_(casts) {}

  // Whether there are any. May run Python code; `given` is ours then.
  bool translate(GivenGradients& gradients, const Parameters& parameters);

  // From now on there are only so many parameters.
  void truncate(std::size_t count) {
    if (stand_ins_.size() > count) stand_ins_.resize(count);
  }

  // Does so where there were some the last time. Else somebody who finds that gradients aren't what
  // they were may ask:
  // Whether that surely ran no Python code.
  bool expect(GivenGradients& gradients, const Parameters& parameters) {
    if (!expects_) return true;
    if (has_translated(gradients)) return false;
    if (stand_in_for_all(gradients, parameters)) return true;
    expects_ = translate(gradients, parameters);
    return false;
  }
  // All there are, expected or not. Whether that surely ran no Python code.
  bool translate_all(GivenGradients& gradients, const Parameters& parameters) {
    translate_unexpected(gradients, parameters);
    return expect(gradients, parameters);
  }
  bool expects() const { return expects_; }
  bool has_translated(const GivenGradients& gradients) const {
    return !in_numpy_.empty() && gradients.items == in_numpy_.data();
  }
  // Looks again where those with an exchange API are. Throws where one isn't as it was.
  void follow_again(const GivenGradients& gradients, const Parameters& parameters);
  // Whether a gradient is read where it lies, in the place of which there is a stand-in.
  bool stands_in(const GivenGradients& gradients, std::size_t i) const {
    return i < stand_ins_.size() && stand_ins_[i] &&
           gradients.items[i] == stand_ins_[i].array().ptr();
  }
  // Whether there are any that weren't expected.
  bool translate_unexpected(GivenGradients& gradients, const Parameters& parameters) {
    return !expects_ && (expects_ = translate(gradients, parameters));
  }

  // Puts a NumPy array in the place of one gradient, where it isn't one. False where that takes a
  // look at all. Runs no Python code.
  bool stand_in_for(PyObject*& item, std::size_t i, const Parameters& parameters) {
    const dlpack::ExchangeApi* api = known_exchange_api_of(item);
    if (!api) return PyArray_Check(item) && !is_to_be_cast(item, parameters[i].dtype);
    if (stand_ins_.size() != parameters.count() || !stand_ins_[i] ||
        !stand_ins_[i].follow(item, *api)) {
      return false;
    }
    item = stand_ins_[i].array().ptr();
    return true;
  }

 private:
  bool is_to_be_cast(py::handle array, DType dtype) const;
  bool stand_in_for_all(GivenGradients& gradients, const Parameters& parameters);

  std::vector<StandIn> stand_ins_;  // of gradients, by parameter
  std::vector<PyObject*> in_numpy_;
  bool casts_;
  bool expects_ = false;
};

}  // namespace fusedopt
