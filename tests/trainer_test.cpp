// Whole runs: exact resuming, memory that does not grow with depth, and errors.
#include "wakesleep/trainer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <cfenv>
#include <set>

#include "backends.hpp"
#include "refusals.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/memory_plan.hpp"

namespace wakesleep {
namespace {

DataSet binary_rows(std::int64_t rows, std::int64_t units) {
  return binarize(testing::grey_rows(rows, units), Binarization::fixed, 128, 3);
}

TrainingSettings small_settings(OptimizerKind optimizer) {
  TrainingSettings settings;
  settings.layers = {9, 4};
  settings.batch_size = 8;
  settings.epochs = 3;
  settings.optimizer = optimizer;
  return settings;
}

/// Both phases of the recognition gradient, three samples an image.
TrainingSettings small_reweighted_settings(OptimizerKind optimizer) {
  TrainingSettings settings = small_settings(optimizer);
  settings.algorithm = Algorithm::reweighted_wake_sleep;
  settings.samples = 3;
  settings.insomnia = 0.4;
  settings.control_variate = true;
  return settings;
}

TrainingSettings small_settings_of(Algorithm algorithm) {
  TrainingSettings settings = small_settings(OptimizerKind::adam);
  settings.algorithm = algorithm;
  settings.samples = 3;
  settings.fresh_epochs = 2;
  return settings;
}
constexpr Algorithm other_algorithms[] = {Algorithm::vimco, Algorithm::bidirectional_helmholtz,
                                          Algorithm::joint_stochastic_approximation,
                                          Algorithm::sparse_wake_sleep};

class TrainerTest : public testing::BackendTest {
 protected:
  void expect_exact_resuming(const TrainingSettings& settings) {
    const DataSet data = binary_rows(30, 21);
    Trainer untouched(ops(), data, settings);
    while (!untouched.finished()) untouched.run_epoch();
    const std::string expected = hash_of(untouched.machine().download());
    ASSERT_EQ(untouched.step(), 12);
    for (std::int64_t stop = 1; stop < 12; ++stop) {
      Trainer first(ops(), data, settings);
      first.run_steps(stop);
      Trainer second(ops(), data, first.snapshot());
      EXPECT_EQ(second.step(), stop);
      while (!second.finished()) second.run_epoch();
      EXPECT_EQ(hash_of(second.machine().download()), expected) << "resumed at step " << stop;
    }
  }
};

TEST_P(TrainerTest, ResumingAtAnyStepEndsInTheSameBits) {
  for (const OptimizerKind optimizer : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
    expect_exact_resuming(small_settings(optimizer));
    expect_exact_resuming(small_reweighted_settings(optimizer));
  }
  for (const Algorithm algorithm : other_algorithms) expect_exact_resuming(small_settings_of(algorithm));
}

/// The parameters that a run of other settings ends with, on the same data.
Model trained_by_wake_sleep(Ops& ops, const DataSet& data) {
  TrainingSettings settings = small_settings(OptimizerKind::adam);
  settings.weight_bits = 16;
  settings.seed = 5;
  Trainer trainer(ops, data, settings);
  trainer.run_steps(7);
  return trainer.snapshot();
}

// Against a checkpoint of step 0 whose parameters were exchanged, which is another way to the same run.
TEST_P(TrainerTest, BeginsWithTheParametersOfAnotherModel) {
  const DataSet data = binary_rows(30, 21);
  const Model initial = trained_by_wake_sleep(ops(), data);
  for (const Algorithm algorithm : {Algorithm::reweighted_wake_sleep, Algorithm::bidirectional_helmholtz,
                                    Algorithm::joint_stochastic_approximation}) {
    const TrainingSettings settings = small_settings_of(algorithm);
    Trainer drawn(ops(), data, settings);
    Model exchanged = drawn.snapshot();
    exchanged.tensors = initial.tensors;
    Trainer reference(ops(), data, exchanged);
    Trainer trainer(ops(), data, settings);
    trainer.begin_with(initial);
    EXPECT_EQ(hash_of(trainer.machine().download()), initial.hash);
    EXPECT_EQ(trainer.settings().initial_hash, initial.hash);
    trainer.run_steps(5);
    Trainer resumed(ops(), data, trainer.snapshot());
    EXPECT_EQ(resumed.settings().initial_hash, initial.hash);
    for (Trainer* each : {&drawn, &reference, &trainer, &resumed}) {
      while (!each->finished()) each->run_epoch();
    }
    const std::string expected = hash_of(reference.machine().download());
    EXPECT_EQ(hash_of(trainer.machine().download()), expected) << name_of(algorithm);
    EXPECT_EQ(hash_of(resumed.machine().download()), expected) << name_of(algorithm);
    EXPECT_NE(hash_of(drawn.machine().download()), expected) << name_of(algorithm);
  }
}

TEST_P(TrainerTest, RefusesAnInitialModelThatIsNotTheRuns) {
  const DataSet data = binary_rows(30, 21);
  const Model initial = trained_by_wake_sleep(ops(), data);
  const auto refusal_of_run = [&](const TrainingSettings& settings) {
    Trainer trainer(ops(), data, settings);
    return testing::message_of<DataError>([&] { trainer.begin_with(initial); });
  };
  TrainingSettings wider = small_settings(OptimizerKind::sgd);
  wider.layers = {9, 5};
  EXPECT_EQ(refusal_of_run(wider),
            "the initial model has layers of 21-9-4 where the run has 21-9-5 units, the visible "
            "ones first; choose the same");
  TrainingSettings ordered = small_settings(OptimizerKind::sgd);
  ordered.prior = Prior::autoregressive;
  EXPECT_EQ(refusal_of_run(ordered),
            "the initial model has the prior factorial where the run has autoregressive; choose the same");
  TrainingSettings grey = small_settings(OptimizerKind::sgd);
  grey.visible = Visible::gaussian;
  EXPECT_EQ(refusal_of_run(grey),
            "the initial model has visible units that are bernoulli where the run has gaussian; "
            "choose the same");

  Trainer begun(ops(), data, small_settings(OptimizerKind::sgd));
  begun.run_steps(1);
  EXPECT_EQ(testing::message_of<UsageError>([&] { begun.begin_with(initial); }),
            "a run begins with the parameters of a model before its first step, not after 1");
  TrainingSettings named = small_settings(OptimizerKind::sgd);
  named.initial_hash = initial.hash;
  Trainer waiting(ops(), data, named);
  EXPECT_THROW(waiting.snapshot(), UsageError);
  EXPECT_NE(testing::message_of<UsageError>([&] { waiting.run_steps(1); }).find("begin_with"),
            std::string::npos);
  Model other = initial;
  other.tensors.at("prior.bias").values[0] += 1;
  EXPECT_NE(testing::message_of<UsageError>([&] { waiting.begin_with(other); }).find(initial.hash),
            std::string::npos);
  waiting.begin_with(initial);
  waiting.run_steps(1);
  EXPECT_EQ(waiting.step(), 1);
}

// Before anything is queued: the states of more rows would be written beyond their memory.
TEST_P(TrainerTest, AStepOfMoreRowsThanABatchIsRefused) {
  const DataSet data = binary_rows(30, 21);
  const DeviceData rows(ops(), data);
  std::vector<Algorithm> algorithms(std::begin(other_algorithms), std::end(other_algorithms));
  algorithms.insert(algorithms.end(), {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep,
                                       Algorithm::natural_reweighted_wake_sleep});
  for (const Algorithm algorithm : algorithms) {
    const TrainingSettings settings = small_settings_of(algorithm);
    Machine machine(ops(), {21, 9, 4}, settings.weight_bits, settings.prior, visible_units_of(settings));
    machine.initialize(unit_means(data), settings.seed);
    const std::string before = hash_of(machine.download());
    DeltaRule delta_rule(machine, settings);
    StepClock clock(ops(), settings, data.rows);
    const auto steps = make_algorithm(machine, delta_rule, settings, data.rows);
    clock.prepare(0);
    clock.advance();
    for (const std::int64_t refused : {0, 9, 30}) {
      EXPECT_EQ(
          testing::message_of<UsageError>([&] {
            steps->step({rows.rows(), nullptr, refused, clock.now()});
          }),
          "a step of " + std::to_string(refused) +
              " rows, where the algorithm has memory for 1 to 8: choose as many, or a larger batch_size "
              "in its settings");
    }
    EXPECT_EQ(hash_of(machine.download()), before);
    steps->step({rows.rows(), nullptr, 8, clock.now()});
    EXPECT_NE(hash_of(machine.download()), before);
  }
}

TEST_P(TrainerTest, TheSeedAndEverySettingMatter) {
  const DataSet data = binary_rows(30, 21);
  TrainingSettings unchanged = small_settings(OptimizerKind::adam);
  const auto trained = [&](const auto& change) {
    TrainingSettings settings = unchanged;
    change(settings);
    Trainer trainer(ops(), data, settings);
    while (!trainer.finished()) trainer.run_epoch();
    return hash_of(trainer.machine().download());
  };
  const std::string base = trained([](TrainingSettings&) {});
  EXPECT_EQ(trained([](TrainingSettings&) {}), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.seed = 2; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.generative_learning_rate *= 1.001; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.recognition_learning_rate *= 1.001; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.momentum = 0.8; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.second_momentum = 0.99; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.epsilon = 1e-4; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.weight_decay = 0.1; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.schedule = Schedule::constant; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.weight_bits = 16; }), base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.batch_size = 7; }), base);

  unchanged = small_reweighted_settings(OptimizerKind::adam);
  const std::string reweighted = trained([](TrainingSettings&) {});
  EXPECT_NE(reweighted, base);
  EXPECT_NE(trained([](TrainingSettings& s) { s.samples = 2; }), reweighted);
  EXPECT_NE(trained([](TrainingSettings& s) { s.insomnia = 0.45; }), reweighted);
  EXPECT_NE(trained([](TrainingSettings& s) { s.control_variate = false; }), reweighted);

  std::set<std::string> all = {base, reweighted};
  for (const Algorithm algorithm : other_algorithms) {
    unchanged = small_settings_of(algorithm);
    const std::string of_algorithm = trained([](TrainingSettings&) {});
    EXPECT_TRUE(all.insert(of_algorithm).second) << name_of(algorithm) << " is as another";
    const bool samples_matter = trained([](TrainingSettings& s) { s.samples = 2; }) != of_algorithm;
    EXPECT_EQ(samples_matter, is_used(unchanged, "samples")) << name_of(algorithm);
    const bool fresh_epochs_matter = trained([](TrainingSettings& s) { s.fresh_epochs = 1; }) != of_algorithm;
    EXPECT_EQ(fresh_epochs_matter, is_used(unchanged, "fresh-epochs")) << name_of(algorithm);
    const auto expect_of_sparsity = [&](const auto& change) {
      EXPECT_EQ(trained(change) != of_algorithm, algorithm == Algorithm::sparse_wake_sleep);
    };
    expect_of_sparsity([](TrainingSettings& s) { s.sparsity = 0.2; });
    expect_of_sparsity([](TrainingSettings& s) { s.target_activation = 0.3; });
    expect_of_sparsity([](TrainingSettings& s) { s.activation_memory = 0.5; });
  }
}

TEST_P(TrainerTest, ActivationMemoryIsIndependentOfDepth) {
  // Beyond parameters and data, 200 layers need no byte more than 2: two layers' states, one of deltas, one
  // gradient.
  const std::int64_t width = 24, rows = 40;
  const DataSet data = binary_rows(rows, width);
  const auto working_memory = [&](std::size_t depth) {
    TrainingSettings settings = small_settings(OptimizerKind::sgd);
    settings.weight_bits = 16;
    settings.layers.assign(depth, width);
    settings.batch_size = rows;
    settings.epochs = 1;
    Machine machine(ops(), std::vector<std::int64_t>(depth + 1, width), 16);
    machine.initialize(unit_means(data), 1);
    ops().reset_peak();
    const std::size_t before = ops().memory_use().current;
    testing::one_step(machine, settings, data);
    const std::size_t flags = 4 * (2 * depth + 1);  // one word a conditional
    return ops().memory_use().peak - before - flags;
  };
  working_memory(8);  // the products' own scratch memory is made here once, on every branch, and kept
  const std::size_t shallow = working_memory(2);
  EXPECT_EQ(working_memory(200), shallow);
  EXPECT_GE(shallow, static_cast<std::size_t>(3 * rows * width));
}

TEST_P(TrainerTest, NoMemoryOfTheBackendIsAllocatedAfterTheFirstStep) {
  const DataSet data = binary_rows(30, 21);  // the last batch of an epoch is short
  std::vector<TrainingSettings> every_kind = {small_settings(OptimizerKind::adam),
                                              small_reweighted_settings(OptimizerKind::adam)};
  for (const Algorithm algorithm : other_algorithms) every_kind.push_back(small_settings_of(algorithm));
  for (const TrainingSettings& settings : every_kind) {
    Trainer trainer(ops(), data, settings);
    trainer.run_epoch([] { return true; });
    ASSERT_EQ(trainer.step(), 1);
    const std::size_t allocations = ops().memory_use().allocations;
    while (!trainer.finished()) trainer.run_epoch();
    EXPECT_EQ(ops().memory_use().allocations, allocations) << name_of(settings.algorithm);
  }
}

TEST_P(TrainerTest, TheMemoryPlanIsWhatTrainingTakes) {
  for (const Algorithm algorithm :
       {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep, Algorithm::natural_reweighted_wake_sleep}) {
    const DataSet data = binary_rows(320, 130);
    TrainingSettings settings = small_settings(OptimizerKind::adam);
    settings.layers = {200, 70, 33};
    settings.algorithm = algorithm;
    settings.samples = 3;
    settings.batch_size = 320;
    const MemoryPlan plan = plan_memory(ops(), {130, 200, 70, 33}, settings, data.rows);
    const std::size_t kept = ops().memory_use().current;  // working memory of the backend's own
    Trainer trainer(ops(), data, settings);
    trainer.run_steps(2);
    const double taken = static_cast<double>(ops().memory_use().current);
    EXPECT_GE(static_cast<double>(plan.total(320)), 0.75 * (taken - static_cast<double>(kept)));
    EXPECT_LE(static_cast<double>(plan.total(320)), 1.3 * taken + 200000);
  }
}

TEST_P(TrainerTest, TheMemoryPlanHoldsWhatOrderingAnEpochTakes) {
  for (const std::int64_t rows : {31, 3100, 40000}) {
    const std::unique_ptr<Ops> fresh = make_ops(GetParam());
    Buffer<std::uint32_t> order(*fresh, rows);
    const std::size_t before = fresh->memory_use().current;
    fresh->shuffle({}, rows, order.data());
    const std::int64_t ordering = static_cast<std::int64_t>(fresh->memory_use().current - before) + 4 * rows;
    const MemoryPlan plan = plan_memory(*fresh, {13, 9, 4}, small_settings(OptimizerKind::sgd), rows);
    EXPECT_GE(plan.data, 2 * rows + ordering - 8192) << rows << " rows";  // buckets do not grow with the rows
  }
}

// A batch of 8 rows has no working memory that the trials of larger ones have; what they have must not be
// taken from what does not grow.
TEST_P(TrainerTest, TheMemoryPlanOfASmallBatchHoldsTheOptimizer) {
  for (const std::int64_t batch : {1, 8, 33}) {
    for (const std::int64_t samples : {3, 31, 40}) {
      const std::unique_ptr<Ops> fresh = make_ops(GetParam());
      TrainingSettings settings = small_settings(OptimizerKind::adam);
      settings.layers = {9, 5};
      settings.algorithm = Algorithm::vimco;
      settings.samples = samples;
      settings.batch_size = batch;
      const MemoryPlan plan = plan_memory(*fresh, {30, 9, 5}, settings, 100);
      const std::int64_t parameters = 2 * (30 * 9 + 9 * 5) + 30 + 2 * 9 + 2 * 5;
      EXPECT_GE(plan.fixed, 2 * 4 * parameters)
          << batch << " rows, " << samples << " samples";  // two moments
      EXPECT_GT(plan.per_row, 0) << batch << " rows, " << samples << " samples";
    }
  }
}

// The peak of a training grows with K by what the samples of one batch need, and with nothing else.
TEST_P(TrainerTest, MoreSamplesTakeTheMemoryOfOneBatchOfThem) {
  const std::int64_t batch = 33, few = 2, many = 34;
  const DataSet data = binary_rows(5 * batch, 130);
  for (const Algorithm algorithm :
       {Algorithm::reweighted_wake_sleep, Algorithm::vimco, Algorithm::bidirectional_helmholtz,
        Algorithm::joint_stochastic_approximation, Algorithm::natural_reweighted_wake_sleep}) {
    TrainingSettings settings = small_settings(OptimizerKind::adam);
    settings.layers = {100, 70, 33};
    settings.algorithm = algorithm;
    settings.batch_size = batch;
    const auto peak = [&](std::int64_t samples) {
      settings.samples = samples;
      const std::size_t before = ops().memory_use().current;
      ops().reset_peak();
      Trainer trainer(ops(), data, settings);
      trainer.run_steps(2);
      return static_cast<std::int64_t>(ops().memory_use().peak - before);
    };
    peak(many);  // leaves the backend's own memory for the products behind
    const std::int64_t states = 128 + 128 + 64, deltas = 192;  // hidden layers and the widest, padded to 64
    const std::int64_t errors = 4 * (130 + 100 + 70 + 33), recognition_errors = 4 * (70 + 33);
    const std::int64_t weights = 8 + 4 + (algorithm == Algorithm::vimco ? 4 : 0);
    const std::int64_t of_a_sample =
        states + errors + recognition_errors + weights + ops().branches() * deltas;
    const std::int64_t expected = (many - few) * batch * of_a_sample;
    const std::int64_t growth = peak(many) - peak(few);
    EXPECT_GE(growth, expected) << name_of(algorithm);
    EXPECT_LE(growth, expected + expected / 50) << name_of(algorithm);
  }
}

TEST(MemoryPlan, FindsTheLargestBatch) {
  MemoryPlan plan;
  plan.parameters = 1000;
  plan.fixed = 500;
  plan.per_row = 7;
  plan.data = 100;
  EXPECT_EQ(plan.total(10), 1670);
  EXPECT_EQ(plan.largest_batch(1670), 10);
  EXPECT_EQ(plan.largest_batch(1669), 9);
  EXPECT_EQ(plan.largest_batch(1599), 0);
}

TEST_P(TrainerTest, DivergenceNamesLayerAndStep) {
  TrainingSettings settings = small_settings(OptimizerKind::sgd);
  settings.generative_learning_rate = 1e30;
  Trainer trainer(ops(), binary_rows(30, 21), settings);
  try {
    while (!trainer.finished()) trainer.run_epoch();
    FAIL() << "a learning rate of 1e30 went unnoticed";
  } catch (const DivergenceError& error) {
    EXPECT_NE(std::string(error.what()).find("generative."), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("step 0"), std::string::npos) << error.what();
  }
}

// Two intervals between looks, and what a recording still had to do.
TEST_P(TrainerTest, DivergenceIsNoticedInTheMiddleOfAnEpoch) {
  TrainingSettings settings = small_settings(OptimizerKind::sgd);
  settings.batch_size = 1;
  settings.generative_learning_rate = 1e30;
  Trainer trainer(ops(), binary_rows(211, 21), settings);
  std::int64_t done = 0;
  EXPECT_THROW(trainer.run_epoch({}, [&](std::int64_t steps) { done = steps; }), DivergenceError);
  EXPECT_GT(done, 0);
  EXPECT_LE(trainer.step(), 31) << "the last that was heard of were " << done << " steps";
}

WAKESLEEP_ON_EVERY_BACKEND(TrainerTest);

TEST(Trainer, TheCallersFloatingPointEnvironmentChangesNothingAndIsKept) {
  const DataSet data = binary_rows(30, 21);
  const auto trained = [&](int threads) {
    CpuOptions options;
    options.threads = threads;
    const std::unique_ptr<Ops> ops = make_cpu_ops(options);
    Trainer trainer(*ops, data, small_settings(OptimizerKind::adam));
    while (!trainer.finished()) trainer.run_epoch();
    return hash_of(trainer.machine().download());
  };
  const std::string expected = trained(1);
  std::fesetround(FE_UPWARD);
#if defined(__x86_64__)
  const unsigned control = _mm_getcsr() | 0x8040u;  // flush subnormals, treat them as zero
  _mm_setcsr(control);
#endif
  EXPECT_EQ(trained(1), expected);
  EXPECT_EQ(trained(2), expected);
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
#if defined(__x86_64__)
  EXPECT_EQ(_mm_getcsr() & 0x8040u, 0x8040u);
  _mm_setcsr(0x1F80);
#endif
  std::fesetround(FE_TONEAREST);
}

TEST(Trainer, RefusesWhatCannotBeTrained) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const auto message = [&](const DataSet& data, const TrainingSettings& settings) -> std::string {
    try {
      Trainer trainer(*ops, data, settings);
      return "accepted";
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  TrainingSettings settings = small_settings(OptimizerKind::adam);
  settings.batch_size = 31;
  EXPECT_NE(message(binary_rows(30, 21), settings).find("larger than the data"), std::string::npos);
  settings.batch_size = 8;
  EXPECT_NE(message(testing::grey_rows(30, 21), settings).find("grey"), std::string::npos);
  settings.weight_bits = 16;
  settings.layers = {65796, 3};
  EXPECT_NE(message(binary_rows(30, 21), settings).find("65795"), std::string::npos);
  settings = small_settings(OptimizerKind::adam);
  settings.epochs = std::int64_t{1} << 31;
  EXPECT_NE(message(binary_rows(30, 21), settings).find("4,294,967,295"), std::string::npos);
  // What a model file has no room for is refused before the first checkpoint.
  settings = small_settings(OptimizerKind::adam);
  settings.algorithm = Algorithm::natural_reweighted_wake_sleep;
  settings.layers.assign(4601, 1);
  EXPECT_NE(message(binary_rows(30, 21), settings).find("at most 4600"), std::string::npos);
}

TEST(Trainer, RefusesACheckpointOfOtherData) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const TrainingSettings settings = small_settings(OptimizerKind::adam);
  Trainer trainer(*ops, binary_rows(30, 21), settings);
  trainer.run_epoch();
  Model checkpoint = trainer.snapshot();
  EXPECT_THROW(Trainer(*ops, binary_rows(31, 21), checkpoint), DataError);
  EXPECT_THROW(Trainer(*ops, binary_rows(30, 22), checkpoint), DataError);
  // Also where the settings of the run could not be used with that data.
  EXPECT_THROW(Trainer(*ops, binary_rows(7, 21), checkpoint), DataError);
  EXPECT_THROW(Trainer(*ops, testing::grey_rows(30, 21), checkpoint), DataError);
  checkpoint.optimizer.clear();
  EXPECT_THROW(Trainer(*ops, binary_rows(30, 21), checkpoint), DataError);
}

TEST(Trainer, RefusesACheckpointThatNoRunGoesOnFrom) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({1});
  const DataSet data = binary_rows(31, 13);
  Trainer trainer(*ops, data, small_settings(OptimizerKind::momentum));
  trainer.run_steps(2);
  const auto message = [&](const auto& change) {
    Model checkpoint = trainer.snapshot();
    change(checkpoint);
    return testing::message_of<DataError>([&] { Trainer(*ops, data, checkpoint); });
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message([](Model& model) { model.step = -1; }), HasSubstr("of step -1, which no run has"));
  EXPECT_THAT(message([](Model& model) { model.step = INT64_MAX; }),
              HasSubstr("of step 9223372036854775807"));
  EXPECT_THAT(message([](Model& model) { model.optimizer.clear(); }), HasSubstr("a finished model"));
  EXPECT_THAT(message([](Model& model) { model.run.clear(); }), HasSubstr("a finished model"));
  EXPECT_THAT(message([](Model& model) { model.settings.layers.push_back(4); }),
              HasSubstr("-4, the visible ones first"));
  EXPECT_THAT(message([](Model& model) { model.sizes.clear(); }), HasSubstr("the checkpoint has layers of "));
}

// A model that was read from a file has them; one made by hand may not, and would be read past their end.
TEST(Trainer, RefusesStateThatHasFewerValuesThanItsShapeSays) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const DataSet data = binary_rows(30, 21);
  const auto expect_refusals = [&](const Model& good, Tensors Model::*state, std::size_t tensors) {
    ASSERT_EQ((good.*state).size(), tensors);
    for (const auto& [name, tensor] : good.*state) {
      Model shorter = good;
      (shorter.*state).at(name).values.pop_back();
      const std::string refusal = testing::message_of<DataError>([&] { Trainer(*ops, data, shorter); });
      EXPECT_NE(refusal.find("\"" + name + "\""), std::string::npos) << refusal;
      Model missing = good;
      (missing.*state).erase(name);
      EXPECT_THROW(Trainer(*ops, data, missing), DataError) << name;
    }
  };
  const auto snapshot = [&](const TrainingSettings& settings) {
    return Trainer(*ops, data, settings).snapshot();
  };
  expect_refusals(snapshot(small_settings(OptimizerKind::adam)), &Model::optimizer, 18);
  expect_refusals(snapshot(small_settings_of(Algorithm::sparse_wake_sleep)), &Model::algorithm, 2);
  TrainingSettings natural = small_settings_of(Algorithm::natural_reweighted_wake_sleep);
  natural.fisher = FisherForm::woodbury;
  expect_refusals(snapshot(natural), &Model::algorithm, 6);
  // Its counts may be missing.
  Model chains = snapshot(small_settings_of(Algorithm::joint_stochastic_approximation));
  chains.algorithm.erase("chain.counts");
  expect_refusals(chains, &Model::algorithm, 2);
}

}  // namespace
}  // namespace wakesleep
