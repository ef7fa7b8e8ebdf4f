// What lies in a nest of dicts and lists, by identity: whether anything was put in
// another's place since, as in the param_groups and the state of an optimizer of torch's.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

// Everything that lies in its owner, keys of dicts, too, in a fixed order: four levels deep, and
// nothing that lies in a thing of another kind.
pybind11::tuple contents(pybind11::handle owner);

// Whether that is what lies in it now.
bool has_contents(pybind11::handle owner, const pybind11::tuple& contents);

// The attribute of this name of each, and those whose attribute isn't None; the very list that was
// given where that is all.
pybind11::tuple attributes(const pybind11::list& objects, const pybind11::str& name);

}  // namespace fusedopt
