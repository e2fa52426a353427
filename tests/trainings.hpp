// Small trainings whose hashes are recorded in tests/golden/trainings.txt.
#pragma once

#include <string>
#include <vector>

#include "wakesleep/data.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::testing {

struct Training {
  std::string name;
  TrainingSettings settings;
  std::int64_t rows = 0;
  std::int64_t units = 0;
};

/// Grey rows with some structure: blobs whose place depends on the row, made of integers.
inline DataSet grey_rows(std::int64_t rows, std::int64_t units) {
  DataSet data;
  data.rows = rows;
  data.units = data.row_bytes = units;
  data.grey = true;
  data.source = "blobs";
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t u = 0; u < units; ++u) {
      const std::int64_t distance = (u - (r * 7) % units + units) % units;
      const std::uint32_t noise =
          philox4x32_10({{static_cast<std::uint32_t>(u), static_cast<std::uint32_t>(r), 0, 0}}, 11).word[0] >>
          27;
      data.bytes.push_back(
          static_cast<std::uint8_t>(distance < units / 3 + 1 ? 200 + noise : noise * (r % 3)));
    }
  }
  return data;
}

inline std::vector<Training> recorded_trainings() {
  std::vector<Training> all;
  const auto add = [&](std::string name, std::int64_t rows, std::int64_t units,
                       std::vector<std::int64_t> layers, auto... changes) {
    Training t;
    t.name = std::move(name);
    t.rows = rows;
    t.units = units;
    t.settings.layers = std::move(layers);
    t.settings.batch_size = 16;
    t.settings.epochs = 3;
    t.settings.seed = 20261122;
    (changes(t.settings), ...);
    all.push_back(t);
  };
  const auto rates = [](double generative, double recognition) {
    return [=](TrainingSettings& s) {
      s.generative_learning_rate = generative;
      s.recognition_learning_rate = recognition;
    };
  };
  const auto with = [](OptimizerKind kind, Schedule schedule, Binarization binarization, int bits) {
    return [=](TrainingSettings& s) {
      s.optimizer = kind;
      s.schedule = schedule;
      s.binarization = binarization;
      s.weight_bits = bits;
    };
  };
  using enum OptimizerKind;
  using enum Schedule;
  using enum Binarization;
  add("1-1 sgd", 17, 1, {1}, rates(0.5, 0.25), with(sgd, constant, Binarization::threshold, 16));
  add("8-5 sgd step", 40, 8, {5}, rates(0.5, 0.5), with(sgd, Schedule::step, fixed, 8),
      [](TrainingSettings& s) {
        s.epochs = 6;
        s.schedule_every = 2;
      });
  add("37-19-5 momentum", 100, 37, {19, 5}, rates(0.1, 0.05), with(momentum, constant, dynamic, 16));
  add("37-19-5 adam", 101, 37, {19, 5}, rates(0.01, 0.02), with(adam, cosine, fixed, 12),
      [](TrainingSettings& s) { s.weight_decay = 0.01; });
  add("64-48-33-31 momentum cosine", 130, 64, {48, 33, 31}, rates(0.2, 0.1),
      with(momentum, cosine, Binarization::threshold, 12));
  add("33-31-17-9 adam step", 97, 33, {31, 17, 9, 3}, rates(0.02, 0.02),
      with(adam, Schedule::step, dynamic, 8));
  add("65-40-30-20-10-4 sgd decay", 150, 65, {40, 30, 20, 10, 4}, rates(0.3, 0.2),
      with(sgd, cosine, dynamic, 16), [](TrainingSettings& s) { s.weight_decay = 0.001; });
  add("784-200-200-200 adam", 500, 784, {200, 200, 200}, rates(0.003, 0.003),
      with(adam, cosine, Binarization::threshold, 16), [](TrainingSettings& s) { s.batch_size = 100; });
  add("784-200 momentum batch 333", 1000, 784, {200}, rates(0.05, 0.05), with(momentum, constant, fixed, 16),
      [](TrainingSettings& s) { s.batch_size = 333; });
  const auto reweighted = [](std::int64_t samples, double insomnia, bool control_variate) {
    return [=](TrainingSettings& s) {
      s.algorithm = Algorithm::reweighted_wake_sleep;
      s.samples = samples;
      s.insomnia = insomnia;
      s.control_variate = control_variate;
    };
  };
  add("37-19-5 reweighted K=2 adam", 101, 37, {19, 5}, rates(0.01, 0.02), with(adam, cosine, dynamic, 8),
      reweighted(2, 0.5, false));
  add("33-31 reweighted K=5 sgd sleep alone", 70, 33, {31}, rates(0.3, 0.2), with(sgd, constant, fixed, 16),
      reweighted(5, 0, false));
  add("65-33-17-7 reweighted K=3 momentum wake alone", 83, 65, {33, 17, 7}, rates(0.05, 0.04),
      with(momentum, Schedule::step, Binarization::threshold, 12), reweighted(3, 1, true));
  const auto sampled = [](Algorithm algorithm, std::int64_t samples) {
    return [=](TrainingSettings& s) {
      s.algorithm = algorithm;
      s.samples = samples;
    };
  };
  add("33-19-6 vimco K=3 adam", 85, 33, {19, 6}, rates(0.01, 0.005), with(adam, cosine, dynamic, 8),
      sampled(Algorithm::vimco, 3));
  add("65-17 vimco K=4 sgd", 50, 65, {17}, rates(1.0, 0.05), with(sgd, constant, fixed, 16),
      sampled(Algorithm::vimco, 4), [](TrainingSettings& s) { s.epochs = 8; });
  add("37-21-9-3 bidirectional K=4 momentum", 90, 37, {21, 9, 3}, rates(0.05, 0.04),
      with(momentum, Schedule::step, Binarization::threshold, 12),
      sampled(Algorithm::bidirectional_helmholtz, 4));
  add("33-31-5 chains K=2 momentum", 85, 33, {31, 5}, rates(0.05, 0.05),
      with(momentum, constant, Binarization::threshold, 16),
      sampled(Algorithm::joint_stochastic_approximation, 2));
  add("41-17-7 chains K=6 adam fresh 3 epochs of 5", 70, 41, {17, 7}, rates(0.01, 0.01),
      with(adam, cosine, dynamic, 8), sampled(Algorithm::joint_stochastic_approximation, 6),
      [](TrainingSettings& s) {
        s.epochs = 5;
        s.fresh_epochs = 3;
      });
  add("64-33-9 sparse momentum", 99, 64, {33, 9}, rates(0.1, 0.05), with(momentum, cosine, fixed, 12),
      [](TrainingSettings& s) {
        s.algorithm = Algorithm::sparse_wake_sleep;
        s.sparsity = 0.3;
        s.target_activation = 0.2;
        s.activation_memory = 0.8;
      });
  add("65-33-9 momentum clipped and warmed up", 110, 65, {33, 9}, rates(0.2, 0.1),
      with(momentum, cosine, fixed, 8), [](TrainingSettings& s) {
        s.clip_gradient = 0.05;
        s.warm_up = 11;
      });
  const auto autoregressive = [](TrainingSettings& s) { s.prior = Prior::autoregressive; };
  add("65-37-19 autoregressive momentum decay", 110, 65, {37, 19}, rates(0.2, 0.1),
      with(momentum, cosine, dynamic, 16), autoregressive,
      [](TrainingSettings& s) { s.weight_decay = 0.01; });
  add("41-33 autoregressive reweighted K=3 adam", 90, 41, {33}, rates(0.02, 0.02),
      with(adam, cosine, fixed, 8), reweighted(3, 0.5, true), autoregressive);
  const auto gaussian = [](double deviation) {
    return [=](TrainingSettings& s) {
      s.visible = Visible::gaussian;
      s.visible_deviation = deviation;
    };
  };
  add("37-19-5 gaussian adam", 101, 37, {19, 5}, rates(0.003, 0.01),
      with(adam, cosine, Binarization::threshold, 8), gaussian(0.2));
  add("65-33 gaussian reweighted K=3 momentum clipped", 90, 65, {33}, rates(0.01, 0.02),
      with(momentum, Schedule::step, Binarization::threshold, 12), reweighted(3, 0.5, true), gaussian(0.1),
      [](TrainingSettings& s) { s.clip_gradient = 2.0; });
  return all;
}

inline DataSet training_data(const Training& training) {
  const TrainingSettings& s = training.settings;
  if (s.visible == Visible::gaussian) return grey_rows(training.rows, training.units);
  return binarize(grey_rows(training.rows, training.units), s.binarization, s.threshold, s.seed);
}

/// One training step on all rows of `data`, in their order.
inline void one_step(Machine& machine, const TrainingSettings& settings, const DataSet& data) {
  Ops& ops = machine.ops();
  const DeviceData device_data(ops, data);
  StepClock clock(ops, settings, data.rows);
  DeltaRule delta_rule(machine, settings);
  const std::unique_ptr<TrainingAlgorithm> algorithm =
      make_algorithm(machine, delta_rule, settings, data.rows);
  clock.prepare(0);
  clock.advance();
  algorithm->step({device_data.rows(), nullptr, data.rows, clock.now()});
  delta_rule.check_divergence();
}

/// Rows streamed through a ring of so many bytes, or of two batches where that is more.
inline PlacementSettings streamed(std::int64_t ring_bytes = PlacementSettings{}.ring_bytes) {
  return {DataPlacement::streamed, ring_bytes};
}

inline std::string trained_hash(Ops& ops, const Training& training, const PlacementSettings& placement = {}) {
  Trainer trainer(ops, training_data(training), training.settings, placement);
  while (!trainer.finished()) trainer.run_epoch();
  return hash_of(trainer.machine().download());
}

}  // namespace wakesleep::testing
