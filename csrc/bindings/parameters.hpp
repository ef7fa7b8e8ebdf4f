// The parameters of an optimizer: the user's arrays, as they were bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/binding.hpp"
#include "bindings/foreign.hpp"
#include "bindings/gradients.hpp"

namespace fusedopt {

struct Parameter {
  Reference array;    // NumPy's, or one that stands for the user's
  Reference foreign;  // the user's, where it is another library's
  StandIn stand_in;
  DType dtype;
  std::vector<npy_intp> shape;  // may not change
  std::int64_t size;
  bool fresh = false;  // has state that was made for the step under way

  std::size_t bytes() const { return static_cast<std::size_t>(size) * item_size(dtype); }
};

class Parameters {
 public:
  // More of them. names: a tuple of str, or None where none of all parameters has a name. Throws
  // where an array can't be updated in place, and adds none then.
  void add(const py::list& arrays, const py::object& names);
  // What an array is as a parameter in the place of another. Throws where it isn't of that one's
  // dtype and shape, or can't be updated in place. May run Python code.
  Parameter replacement(std::size_t i, py::handle array) const;
  // Puts it there; what was there is in its place then.
  void exchange(std::size_t i, Parameter& other) noexcept;
  // Only the first so many.
  void truncate(std::size_t count);

  std::size_t count() const { return items_.size(); }
  std::int64_t elements() const { return elements_; }
  Parameter& operator[](std::size_t i) { return items_[i]; }
  const Parameter& operator[](std::size_t i) const { return items_[i]; }
  const ParameterNames& names() const { return names_; }

  bool have_foreign() const { return has_foreign_; }
  // Looks where arrays of other libraries are now. Throws where one is nowhere to be read. Whether
  // that surely ran no Python code, as where all of them have an exchange API.
  bool follow() { return !has_foreign_ || follow_all(); }
  // The same after Python code ran, of those that have one; runs none. Throws where one isn't as it
  // was then.
  void follow_again();
  // The same of one that can be looked at without running Python code; false of another.
  bool follow_known(std::size_t i) {
    Parameter& p = items_[i];
    if (!p.foreign) return true;
    const dlpack::ExchangeApi* const api = known_exchange_api_of(p.foreign);
    return api && p.array.is(p.stand_in.array()) && p.stand_in.follow(p.foreign, *api);
  }
  // The same of one, and whether it can be read.
  bool try_follow(std::size_t i) noexcept;

  // The arrays, borrowed.
  std::vector<PyObject*> arrays() const;
  // The user's own.
  py::handle given(std::size_t i) const {
    const Parameter& p = items_[i];
    return p.foreign ? p.foreign : p.array;
  }

  // What a step looks at again, close together.
  std::vector<Binding>& bindings() { return bindings_; }
  const std::vector<Binding>& bindings() const { return bindings_; }

  // Whether one is where and what it was. One that is not updated may be read-only.
  bool is_unchanged(std::size_t i, bool updated) const;
  // Throws where a kernel can't go along with what the user made of one.
  void require_usable(std::size_t i, bool updated) const;

  // Whether one lies right behind the one before, and is of its dtype.
  bool is_behind_previous(std::size_t i) const;

 private:
  bool follow_all();
  void follow(std::size_t i);

  std::vector<Parameter> items_;
  std::vector<Binding> bindings_;
  ParameterNames names_;
  bool has_foreign_ = false;
  std::int64_t elements_ = 0;
};

}  // namespace fusedopt
