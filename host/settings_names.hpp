// The names of the kinds that a setting may be: the only list of them.
#pragma once

#include <array>
#include <utility>

#include "wakesleep/settings.hpp"

namespace wakesleep {

template <class Kind>
using Named = std::pair<Kind, const char*>;

inline constexpr std::array<Named<Prior>, 2> priors = {
    {{Prior::factorial, "factorial"}, {Prior::autoregressive, "autoregressive"}}};
inline constexpr std::array<Named<Visible>, 2> visibles = {
    {{Visible::bernoulli, "bernoulli"}, {Visible::gaussian, "gaussian"}}};
inline constexpr std::array<Named<OptimizerKind>, 3> optimizers = {
    {{OptimizerKind::sgd, "sgd"}, {OptimizerKind::momentum, "momentum"}, {OptimizerKind::adam, "adam"}}};
inline constexpr std::array<Named<Schedule>, 4> schedules = {{{Schedule::constant, "constant"},
                                                              {Schedule::step, "step"},
                                                              {Schedule::cosine, "cosine"},
                                                              {Schedule::plateau, "plateau"}}};
inline constexpr std::array<Named<Binarization>, 3> binarizations = {{{Binarization::threshold, "threshold"},
                                                                      {Binarization::fixed, "fixed"},
                                                                      {Binarization::dynamic, "dynamic"}}};
inline constexpr std::array<Named<FisherForm>, 3> fisher_forms = {
    {{FisherForm::diagonal, "diagonal"}, {FisherForm::woodbury, "woodbury"}, {FisherForm::dense, "dense"}}};
inline constexpr std::array<Named<Algorithm>, 7> algorithms = {
    {{Algorithm::wake_sleep, "wake-sleep"},
     {Algorithm::reweighted_wake_sleep, "reweighted-wake-sleep"},
     {Algorithm::joint_stochastic_approximation, "joint-stochastic-approximation"},
     {Algorithm::sparse_wake_sleep, "sparse-wake-sleep"},
     {Algorithm::bidirectional_helmholtz, "bidirectional-helmholtz"},
     {Algorithm::vimco, "vimco"},
     {Algorithm::natural_reweighted_wake_sleep, "natural-reweighted-wake-sleep"}}};

// By type, for code that is the same for all kinds.
constexpr const auto& table_of(Prior) { return priors; }
constexpr const auto& table_of(Visible) { return visibles; }
constexpr const auto& table_of(OptimizerKind) { return optimizers; }
constexpr const auto& table_of(Schedule) { return schedules; }
constexpr const auto& table_of(Binarization) { return binarizations; }
constexpr const auto& table_of(FisherForm) { return fisher_forms; }
constexpr const auto& table_of(Algorithm) { return algorithms; }

}  // namespace wakesleep
