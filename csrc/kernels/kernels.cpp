// Compiled once per instruction set, with FUSEDOPT_ISA naming it. See README.md in this folder for
// what must not be used here.
#include "kernels/arrays.hpp"
#include "kernels/indices.hpp"
#include "kernels/loop.hpp"
#include "kernels/table.hpp"
#include "rules/list.hpp"

#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

namespace fusedopt::FUSEDOPT_ISA {
namespace {

template <typename Hyper>
constexpr int field_count = 0;
template <typename Hyper>
  requires requires { Hyper::fields; }
constexpr int field_count<Hyper> = int(sizeof(Hyper::fields) / sizeof(Hyper::fields[0]));

// No loop: for one the compiler scatters them over memory, which takes longer than a small step.
template <typename Hyper, int... k>
Hyper read([[maybe_unused]] const double* hyperparameters, Indices<k...>) {
  Hyper hyper{};
  ((hyper.*Hyper::fields[k].member = hyperparameters[k]), ...);
  return hyper;
}

template <typename Hyper>
Hyper read(const double* hyperparameters) {
  return read<Hyper>(hyperparameters, typename CountTo<field_count<Hyper>>::Result{});
}

template <typename Rule, typename T>
void fold(const double* hyperparameters, const StepContext& when, Coefficients& folded) {
  using C = typename Rule::template Coefficients<T>;
  static_assert(sizeof(C) <= sizeof(folded.bytes), "make Coefficients in table.hpp larger");
  const auto hyper = read<typename Rule::Hyper>(hyperparameters);
  *reinterpret_cast<C*>(folded.bytes) = Rule::template fold<T>(hyper, when);
}

// Zero, unless the rule says otherwise.
template <typename Rule>
double initial(const double* hyperparameters, int state) {
  if constexpr (requires { Rule::initial; }) {
    return Rule::initial(read<typename Rule::Hyper>(hyperparameters), state);
  } else {
    return 0;
  }
}

// Yes, unless the rule says otherwise.
template <typename Rule>
constexpr bool reads_gradient = true;
template <typename Rule>
  requires requires { Rule::reads_gradient; }
constexpr bool reads_gradient<Rule> = Rule::reads_gradient;

template <typename Rule, typename T>
constexpr Kernel kernel() {
  return {sizeof(T), &fold<Rule, T>, &update<Rule, T>, &traffic<Rule::states.count, T>,
          &array_kernel<T>};
}

template <typename Rule>
constexpr RuleInfo describe() {
  using Hyper = typename Rule::Hyper;
  static_assert(__is_empty(Hyper) || sizeof(Hyper) == field_count<Hyper> * sizeof(double),
                "a member without a field");
  static_assert(field_count<Hyper> <= max_hyperparameters,
                "raise max_hyperparameters in interface.hpp");
  static_assert(Rule::states.count <= max_states, "raise max_states in interface.hpp");
  Names hyperparameters{{}, field_count<Hyper>};
  if constexpr (field_count<Hyper> > 0) {
    for (int k = 0; k < hyperparameters.count; ++k) {
      hyperparameters.items[k] = Hyper::fields[k].name;
    }
  }
  return {Rule::name,           hyperparameters, Rule::states,
          reads_gradient<Rule>, &initial<Rule>,  {kernel<Rule, float>(), kernel<Rule, double>()}};
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
constinit const KernelTable kernels{
    Table<AllRules>::rules, Table<AllRules>::count, {&array_kernel<float>, &array_kernel<double>}};

}  // namespace fusedopt::FUSEDOPT_ISA
