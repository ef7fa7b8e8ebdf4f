// Numbers known when compiling, from 0 on; std::index_sequence would be shared with other code.
#pragma once

namespace fusedopt::FUSEDOPT_ISA {
namespace {

template <int... k>
struct Indices {};

template <int count, int... k>
struct CountTo : CountTo<count - 1, count - 1, k...> {};

template <int... k>
struct CountTo<0, k...> {
  using Result = Indices<k...>;
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
