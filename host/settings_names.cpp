// Kinds by their names, and back.
#include "settings_names.hpp"

#include <cstddef>
#include <string>

#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

template <class Kind, std::size_t count>
const char* find_name(const std::array<Named<Kind>, count>& table, Kind kind, const char* what) {
  for (const auto& [candidate, name] : table) {
    if (candidate == kind) return name;
  }
  throw InternalError("the " + std::string(what) + " number " + std::to_string(static_cast<int>(kind)) +
                      " has no name; report this as a defect");
}

template <class Kind, std::size_t count>
Kind find_kind(const std::array<Named<Kind>, count>& table, const std::string& wanted, const char* what) {
  std::string names;
  for (const auto& [kind, name] : table) {
    if (name == wanted) return kind;
    if (!names.empty()) names += ", ";
    names += name;
  }
  throw UsageError(std::string(what) + " is \"" + wanted + "\", which does not exist; choose one of " +
                   names);
}

}  // namespace

const char* name_of(Prior prior) { return find_name(priors, prior, "prior"); }
const char* name_of(Visible visible) { return find_name(visibles, visible, "kind of visible units"); }
const char* name_of(Algorithm algorithm) { return find_name(algorithms, algorithm, "algorithm"); }
const char* name_of(OptimizerKind kind) { return find_name(optimizers, kind, "optimizer"); }
const char* name_of(FisherForm form) { return find_name(fisher_forms, form, "form of Fisher blocks"); }
const char* name_of(Schedule schedule) { return find_name(schedules, schedule, "schedule"); }
const char* name_of(Binarization binarization) {
  return find_name(binarizations, binarization, "binarization");
}

Prior prior_named(const std::string& name) { return find_kind(priors, name, "prior"); }
Visible visible_named(const std::string& name) { return find_kind(visibles, name, "visible"); }
Algorithm algorithm_named(const std::string& name) { return find_kind(algorithms, name, "algorithm"); }
OptimizerKind optimizer_named(const std::string& name) { return find_kind(optimizers, name, "optimizer"); }
FisherForm fisher_form_named(const std::string& name) { return find_kind(fisher_forms, name, "fisher"); }
Schedule schedule_named(const std::string& name) { return find_kind(schedules, name, "schedule"); }
Binarization binarization_named(const std::string& name) {
  return find_kind(binarizations, name, "binarize");
}

}  // namespace wakesleep
