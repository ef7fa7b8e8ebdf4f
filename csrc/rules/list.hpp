// Every rule, once. A rule that stands here is compiled for every dtype and instruction set.
#pragma once

#include "rules/adam.hpp"
#include "rules/average.hpp"
#include "rules/rmsprop.hpp"
#include "rules/sgd.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

template <typename... Rules>
struct RuleList {};

using AllRules = RuleList<SGD, Momentum, Lookahead, RMSprop, RMSpropMomentum, RMSpropCentered,
                          RMSpropCenteredMomentum, Adam, AMSGrad, Average, Exchange>;

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
