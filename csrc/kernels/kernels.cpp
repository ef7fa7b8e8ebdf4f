// Compiled once per instruction set, with FUSEDOPT_ISA naming it. See README.md in this folder for
// what must not be used here.
#include "kernels/loop.hpp"
#include "kernels/table.hpp"
#include "rules/list.hpp"

#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

namespace fusedopt::FUSEDOPT_ISA {
namespace {

template <typename Hyper>
constexpr int field_count = int(sizeof(Hyper::fields) / sizeof(Hyper::fields[0]));

template <typename Rule, typename T>
void fold(const double* hyperparameters, const StepContext& when, Coefficients& folded) {
  using Hyper = typename Rule::Hyper;
  using C = typename Rule::template Coefficients<T>;
  static_assert(sizeof(C) <= sizeof(folded.bytes), "make Coefficients in table.hpp larger");
  Hyper hyper{};
  for (int k = 0; k < field_count<Hyper>; ++k) hyper.*Hyper::fields[k].member = hyperparameters[k];
  *reinterpret_cast<C*>(folded.bytes) = Rule::template fold<T>(hyper, when);
}

template <typename Rule, typename T>
constexpr Kernel kernel() {
  return {sizeof(T), &fold<Rule, T>, &update<Rule, T>, &traffic<Rule::states.count, T>};
}

template <typename Rule>
constexpr RuleInfo describe() {
  using Hyper = typename Rule::Hyper;
  static_assert(sizeof(Hyper) == field_count<Hyper> * sizeof(double), "a member without a field");
  static_assert(field_count<Hyper> <= max_hyperparameters,
                "raise max_hyperparameters in interface.hpp");
  static_assert(Rule::states.count <= max_states, "raise max_states in interface.hpp");
  Names hyperparameters{{}, field_count<Hyper>};
  for (int k = 0; k < hyperparameters.count; ++k) {
    hyperparameters.items[k] = Hyper::fields[k].name;
  }
  return {
      Rule::name, hyperparameters, Rule::states, {kernel<Rule, float>(), kernel<Rule, double>()}};
}

template <typename List>
struct Table;

template <typename... Rules>
struct Table<RuleList<Rules...>> {
  static constexpr RuleInfo rules[] = {describe<Rules>()...};
  static constexpr int count = int(sizeof...(Rules));
};

}  // namespace

extern const KernelTable kernels;
constinit const KernelTable kernels{Table<AllRules>::rules, Table<AllRules>::count};

}  // namespace fusedopt::FUSEDOPT_ISA
