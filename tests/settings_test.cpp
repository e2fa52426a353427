#include "wakesleep/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <locale>
#include <random>
#include <set>

#include "command/options.hpp"
#include "command/values.hpp"
#include "number_text.hpp"
#include "refusals.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using testing::message_of;
using Pairs = std::vector<std::pair<std::string, std::string>>;
using Change = std::function<void(TrainingSettings&)>;

constexpr double not_a_number_double = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite_double = std::numeric_limits<double>::infinity();

TrainingSettings changed(const Change& change) {
  TrainingSettings settings;
  change(settings);
  return settings;
}

// ------------------------------------------------------------------------------------------ check

struct Unusable {
  const char* named;  ///< what the message must name
  Change change;
};

TEST(Settings, DefaultsAreUsable) { EXPECT_NO_THROW(check(TrainingSettings())); }

TEST(Settings, UnusableOnesAreRefusedByName) {
  const std::vector<Unusable> cases = {
      {"layers", [](auto& s) { s.layers = {}; }},
      {"layers",
       [](auto& s) {
         s.layers = {200, 0};
       }},
      {"layers", [](auto& s) { s.layers = {-1}; }},
      {"samples", [](auto& s) { s.samples = 0; }},
      {"insomnia", [](auto& s) { s.insomnia = 1.5; }},
      {"insomnia", [](auto& s) { s.insomnia = not_a_number_double; }},
      {"batch-size",
       [](auto& s) {
         s.algorithm = Algorithm::reweighted_wake_sleep;
         s.batch_size = 1000000;
         s.samples = 9;
       }},
      {"samples", [](auto& s) { s.algorithm = Algorithm::vimco, s.samples = 1; }},
      {"samples", [](auto& s) { s.algorithm = Algorithm::vimco, s.samples = 1025; }},
      {"samples", [](auto& s) { s.algorithm = Algorithm::bidirectional_helmholtz, s.samples = 1; }},
      {"samples", [](auto& s) { s.algorithm = Algorithm::joint_stochastic_approximation, s.samples = 1; }},
      {"fresh-epochs", [](auto& s) { s.fresh_epochs = 0; }},
      {"fresh-epochs", [](auto& s) { s.fresh_epochs = std::int64_t{1} << 32; }},
      {"fisher-damping", [](auto& s) { s.fisher_damping = 0; }},
      {"fisher-damping", [](auto& s) { s.fisher_damping = 1e-60; }},
      {"fisher-damping", [](auto& s) { s.fisher_damping = 1e-16; }},
      {"fisher-damping", [](auto& s) { s.fisher_damping = not_a_number_double; }},
      {"fisher-refresh", [](auto& s) { s.fisher_refresh = 0; }},
      {"sparsity", [](auto& s) { s.sparsity = -0.1; }},
      {"sparsity", [](auto& s) { s.sparsity = 1.1; }},
      {"sparsity", [](auto& s) { s.sparsity = not_a_number_double; }},
      {"target-activation", [](auto& s) { s.target_activation = 0; }},
      {"target-activation", [](auto& s) { s.target_activation = 1; }},
      {"target-activation", [](auto& s) { s.target_activation = not_a_number_double; }},
      {"activation-memory", [](auto& s) { s.activation_memory = 1; }},
      {"activation-memory", [](auto& s) { s.activation_memory = 0.9999999999; }},  // 1 as float32
      {"activation-memory", [](auto& s) { s.activation_memory = -0.1; }},
      {"epochs", [](auto& s) { s.epochs = 0; }},
      {"batch-size", [](auto& s) { s.batch_size = 0; }},
      {"batch-size", [](auto& s) { s.batch_size = max_batch_rows + 1; }},
      {"generative-learning-rate", [](auto& s) { s.generative_learning_rate = 0; }},
      {"generative-learning-rate", [](auto& s) { s.generative_learning_rate = -0.1; }},
      {"generative-learning-rate", [](auto& s) { s.generative_learning_rate = not_a_number_double; }},
      {"generative-learning-rate", [](auto& s) { s.generative_learning_rate = 1e-60; }},
      {"recognition-learning-rate", [](auto& s) { s.recognition_learning_rate = infinite_double; }},
      {"recognition-learning-rate", [](auto& s) { s.recognition_learning_rate = 1e39; }},
      {"momentum", [](auto& s) { s.momentum = 1; }},
      {"momentum", [](auto& s) { s.momentum = 0.9999999999; }},  // 1 as float32
      {"momentum", [](auto& s) { s.momentum = -0.1; }},
      {"second-momentum", [](auto& s) { s.second_momentum = 1; }},
      {"second-momentum", [](auto& s) { s.second_momentum = not_a_number_double; }},
      {"epsilon", [](auto& s) { s.epsilon = 0; }},
      {"epsilon", [](auto& s) { s.epsilon = 1e-50; }},  // 0 as float32
      {"schedule-every", [](auto& s) { s.schedule_every = 0; }},
      {"schedule-factor", [](auto& s) { s.schedule_factor = 0; }},
      {"schedule-factor", [](auto& s) { s.schedule_factor = 1.5; }},
      {"schedule-factor", [](auto& s) { s.schedule_factor = not_a_number_double; }},
      {"patience", [](auto& s) { s.patience = 0; }},
      {"patience", [](auto& s) { s.patience = -1; }},
      {"early-stopping", [](auto& s) { s.early_stopping = -1; }},
      {"min-improvement", [](auto& s) { s.min_improvement = -0.01; }},
      {"min-improvement", [](auto& s) { s.min_improvement = not_a_number_double; }},
      {"min-improvement", [](auto& s) { s.min_improvement = infinite_double; }},
      {"warm-up", [](auto& s) { s.warm_up = -1; }},
      {"warm-up", [](auto& s) { s.warm_up = std::int64_t{1} << 32; }},
      {"clip-gradient", [](auto& s) { s.clip_gradient = -0.1; }},
      {"clip-gradient", [](auto& s) { s.clip_gradient = not_a_number_double; }},
      {"clip-gradient", [](auto& s) { s.clip_gradient = infinite_double; }},
      {"clip-gradient", [](auto& s) { s.clip_gradient = 1e-60; }},
      {"weight-decay", [](auto& s) { s.weight_decay = -1; }},
      {"weight-decay", [](auto& s) { s.weight_decay = infinite_double; }},
      {"weight-decay", [](auto& s) { s.weight_decay = not_a_number_double; }},
      {"generative-learning-rate",
       [](auto& s) { s.weight_decay = 1 / s.generative_learning_rate, s.recognition_learning_rate = 1e-4; }},
      {"recognition-learning-rate",
       [](auto& s) { s.weight_decay = 1 / s.recognition_learning_rate, s.generative_learning_rate = 1e-4; }},
      {"weight-bits", [](auto& s) { s.weight_bits = 10; }},
      {"weight-bits", [](auto& s) { s.weight_bits = 32; }},
      {"threshold", [](auto& s) { s.threshold = 0; }},
      {"threshold", [](auto& s) { s.threshold = 256; }},
  };
  for (const Unusable& unusable : cases) {
    const TrainingSettings settings = changed(unusable.change);
    const std::string message = message_of<UsageError>([&] { check(settings); });
    EXPECT_THAT(message, HasSubstr(unusable.named));
    EXPECT_THAT(message, AnyOf(StartsWith(std::string(unusable.named) + " "), StartsWith("weight-decay ")));
  }
}

// A number cast to a kind would be taken for some other kind by one part of the program or another.
TEST(Settings, KindsThatDoNotExistAreRefused) {
  const auto message = [](const auto& change) {
    TrainingSettings settings;
    change(settings);
    return testing::message_of<UsageError>([&] { check(settings); });
  };
  using S = TrainingSettings;
  EXPECT_EQ(message([](S& s) { s.optimizer = static_cast<OptimizerKind>(99); }),
            "optimizer is number 99, which does not exist; choose one of sgd, momentum, adam");
  EXPECT_NE(message([](S& s) { s.algorithm = static_cast<Algorithm>(99); }).find("algorithm is number 99"),
            std::string::npos);
  EXPECT_NE(message([](S& s) { s.prior = static_cast<Prior>(99); }).find("prior is number 99"),
            std::string::npos);
  EXPECT_NE(message([](S& s) { s.visible = static_cast<Visible>(99); }).find("visible is number 99"),
            std::string::npos);
  EXPECT_NE(message([](S& s) { s.schedule = static_cast<Schedule>(99); }).find("schedule is number 99"),
            std::string::npos);
  EXPECT_NE(
      message([](S& s) { s.binarization = static_cast<Binarization>(99); }).find("binarize is number 99"),
      std::string::npos);
  EXPECT_NE(message([](S& s) { s.fisher = static_cast<FisherForm>(99); }).find("fisher is number 99"),
            std::string::npos);
}

TEST(Settings, TheEndsOfTheRangesAreUsable) {
  const std::vector<Change> cases = {
      [](auto& s) { s.layers = {1}; },
      [](auto& s) { s.layers.assign(1000, 3); },
      [](auto& s) { s.epochs = 1; },
      [](auto& s) { s.batch_size = 1; },
      [](auto& s) { s.batch_size = max_batch_rows; },
      [](auto& s) { s.algorithm = Algorithm::vimco, s.samples = 2; },
      [](auto& s) { s.algorithm = Algorithm::vimco, s.samples = 1024; },
      [](auto& s) { s.algorithm = Algorithm::joint_stochastic_approximation, s.fresh_epochs = 4294967295; },
      [](auto& s) { s.algorithm = Algorithm::sparse_wake_sleep, s.sparsity = 0, s.activation_memory = 0; },
      [](auto& s) { s.algorithm = Algorithm::sparse_wake_sleep, s.sparsity = 1, s.samples = 1; },
      [](auto& s) { s.momentum = s.second_momentum = 0; },
      [](auto& s) { s.schedule_every = 1, s.schedule_factor = 1; },
      [](auto& s) { s.weight_decay = 300; },
      [](auto& s) { s.weight_bits = 8; },
      [](auto& s) { s.weight_bits = 12; },
      [](auto& s) { s.threshold = 1; },
      [](auto& s) { s.threshold = 255; },
      [](auto& s) { s.seed = std::numeric_limits<std::uint64_t>::max(); },
  };
  for (const Change& change : cases) EXPECT_NO_THROW(check(changed(change)));
}

bool are_usable(const TrainingSettings& settings) {
  try {
    check(settings);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

// The command line refuses by a table of its own, which knows option, file and line, before there are
// settings to check: around the ends of its ranges both say the same.
TEST(Settings, AreRefusedWhereTheirOptionIs) {
  std::set<std::string> tried;
  for (const command::OptionSpec& option : command::train_spec().options) {
    const bool whole = option.kind == command::Kind::whole;
    if (option.role != command::Role::setting || (!whole && option.kind != command::Kind::number)) continue;
    if (option.name == "learning-rate") continue;  // stands for two settings
    for (const double end : {option.range.minimum, option.range.maximum}) {
      if (!std::isfinite(end)) continue;
      const double step = whole ? 1 : 0.001;
      for (const double value : {end - step, end, end + step}) {
        if (value == 0 && option.fallback.empty()) continue;  // off, which is not given but left out
        const std::string text =
            whole ? std::to_string(static_cast<std::int64_t>(value)) : number_text(value);
        TrainingSettings settings;
        set_setting(settings, option.name, text);
        EXPECT_EQ(are_usable(settings), command::acceptable(option, text)) << option.name << " = " << text;
        tried.insert(option.name);
      }
    }
  }
  EXPECT_GT(tried.size(), 20u);
}

TEST(Settings, NamesReadBackAndUnknownOnesListTheValidOnes) {
  for (const auto kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
    EXPECT_EQ(optimizer_named(name_of(kind)), kind);
  }
  for (const auto schedule : {Schedule::constant, Schedule::step, Schedule::cosine, Schedule::plateau}) {
    EXPECT_EQ(schedule_named(name_of(schedule)), schedule);
  }
  for (const auto how : {Binarization::threshold, Binarization::fixed, Binarization::dynamic}) {
    EXPECT_EQ(binarization_named(name_of(how)), how);
  }
  for (const auto algorithm :
       {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep, Algorithm::joint_stochastic_approximation,
        Algorithm::sparse_wake_sleep, Algorithm::bidirectional_helmholtz, Algorithm::vimco,
        Algorithm::natural_reweighted_wake_sleep}) {
    EXPECT_EQ(algorithm_named(name_of(algorithm)), algorithm);
  }
  for (const auto form : {FisherForm::diagonal, FisherForm::woodbury, FisherForm::dense}) {
    EXPECT_EQ(fisher_form_named(name_of(form)), form);
  }
  EXPECT_THAT(message_of<UsageError>([] { fisher_form_named("full"); }),
              HasSubstr("diagonal, woodbury, dense"));
  EXPECT_THAT(message_of<UsageError>([] { algorithm_named("rws"); }),
              AllOf(HasSubstr("\"rws\""), HasSubstr("wake-sleep, reweighted-wake-sleep")));
  EXPECT_THAT(message_of<UsageError>([] { optimizer_named("Adam"); }),
              AllOf(HasSubstr("\"Adam\""), HasSubstr("sgd, momentum, adam")));
  EXPECT_THAT(message_of<UsageError>([] { schedule_named(""); }),
              HasSubstr("constant, step, cosine, plateau"));
  EXPECT_THAT(message_of<UsageError>([] { binarization_named("random"); }),
              HasSubstr("threshold, fixed, dynamic"));
}

TEST(Settings, UnknownNamesAreRefusedWithTheNearest) {
  TrainingSettings settings;
  const std::vector<std::function<void(const std::string&)>> calls = {
      [&](const std::string& name) { set_setting(settings, name, "1"); },
      [&](const std::string& name) { setting_text(settings, name); },
      [&](const std::string& name) { is_used(settings, name); },
      [&](const std::string& name) { needed_for(name); },
  };
  for (const auto& call : calls) {
    const auto refusal = [&](const std::string& name) { return message_of<UsageError>([&] { call(name); }); };
    EXPECT_THAT(refusal("epoch"), AllOf(HasSubstr("\"epoch\""), HasSubstr("did you mean epochs?")));
    EXPECT_THAT(refusal("batch_size"), HasSubstr("did you mean batch-size?"));
    EXPECT_THAT(refusal("colour"), AllOf(HasSubstr("\"colour\""), HasSubstr("option of")));
    EXPECT_THAT(refusal(""), HasSubstr("option of"));
    EXPECT_THAT(refusal("learning-rate"),
                AllOf(HasSubstr("generative-learning-rate"), HasSubstr("recognition-learning-rate")));
  }
}

TEST(Settings, NamesAreTheChoicesOfTheirOption) {
  EXPECT_THAT(choices_of("prior"), ElementsAre("factorial", "autoregressive"));
  EXPECT_THAT(choices_of("visible"), ElementsAre("bernoulli", "gaussian"));
  EXPECT_THAT(choices_of("optimizer"), ElementsAre("sgd", "momentum", "adam"));
  EXPECT_THAT(choices_of("schedule"), ElementsAre("constant", "step", "cosine", "plateau"));
  EXPECT_THAT(choices_of("binarize"), ElementsAre("threshold", "fixed", "dynamic"));
  EXPECT_THAT(choices_of("fisher"), ElementsAre("diagonal", "woodbury", "dense"));
  const std::vector<std::string> algorithms = choices_of("algorithm");
  EXPECT_EQ(std::set<std::string>(algorithms.begin(), algorithms.end()).size(), 7u);
  for (const char* number_or_flag : {"layers", "weight-bits", "samples", "seed", "control-variate"}) {
    EXPECT_TRUE(choices_of(number_or_flag).empty()) << number_or_flag;
  }
  EXPECT_THROW(choices_of("colour"), UsageError);
}

// ------------------------------------------------------------------------------------------ schedules

TEST(Schedules, CosineIsTheCosineToOneInTenToTheFifteen) {
  TrainingSettings settings;
  settings.schedule = Schedule::cosine;
  for (const std::int64_t total : {1, 2, 3, 4, 7, 100, 99991}) {
    settings.epochs = total;
    for (std::int64_t step = 0; step <= total; ++step) {
      const long double angle = 3.14159265358979323846264338327950288L * static_cast<long double>(step) /
                                static_cast<long double>(total);
      const double expected = static_cast<double>(0.5L * (1.0L + std::cos(angle)));
      // The factor halves the cosine and its error.
      ASSERT_NEAR(schedule_factor_at(settings, step, 1), expected, 0.5e-15) << step << " of " << total;
    }
  }
}

TEST(Schedules, CosineGoesFromOneToZeroAndStays) {
  TrainingSettings settings;
  settings.epochs = 10;
  EXPECT_EQ(schedule_factor_at(settings, 0, 33), 1.0);
  EXPECT_GT(schedule_factor_at(settings, 329, 33), 0.0);
  EXPECT_EQ(schedule_factor_at(settings, 330, 33), 0.0);
  EXPECT_EQ(schedule_factor_at(settings, 1000, 33), 0.0);
  for (std::int64_t step = 1; step <= 330; ++step) {
    EXPECT_LT(schedule_factor_at(settings, step, 33), schedule_factor_at(settings, step - 1, 33));
  }
}

TEST(Schedules, StepReducesEverySoManyEpochs) {
  TrainingSettings settings;
  settings.schedule = Schedule::step;
  settings.schedule_every = 3;
  settings.schedule_factor = 0.1;
  double expected = 1.0;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    if (epoch > 0 && epoch % 3 == 0) expected *= 0.1;
    for (const std::int64_t step : {epoch * 7, epoch * 7 + 6}) {
      EXPECT_NEAR(schedule_factor_at(settings, step, 7), expected, 1e-15 * expected * 10) << epoch;
    }
  }
}

TEST(Schedules, ConstantIsOne) {
  TrainingSettings settings;
  settings.schedule = Schedule::constant;
  EXPECT_EQ(schedule_factor_at(settings, 0, 1), 1.0);
  EXPECT_EQ(schedule_factor_at(settings, 4000000000, 1), 1.0);
}

TEST(Schedules, PlateauReducesAsOftenAsItIsTold) {
  TrainingSettings settings;
  settings.schedule = Schedule::plateau;
  settings.schedule_factor = 0.25;
  EXPECT_EQ(schedule_factor_at(settings, 100, 10), 1.0);
  EXPECT_EQ(schedule_factor_at(settings, 100, 10, 3), 1.0 / 64);
  EXPECT_EQ(rates_at(settings, 0.5, 100000, 10, 1, 2).decay, 0.0f);
  settings.optimizer = OptimizerKind::sgd;
  EXPECT_EQ(rates_at(settings, 0.5, 100000, 10, 1, 2).rate, 0.03125f);
}

// ------------------------------------------------------------------------------------------ rates

TEST(RatesAt, AdamIsCorrectedForItsBeginning) {
  TrainingSettings settings;
  settings.schedule = Schedule::step;
  settings.schedule_every = 1;
  settings.schedule_factor = 0.5;
  settings.weight_decay = 0.25;
  for (const std::int64_t step : {0, 1, 2, 31, 1000, 123457}) {
    const double factor = std::pow(0.5, static_cast<double>(step / 1000));
    const double t = static_cast<double>(step + 1);
    const Rates rates = rates_at(settings, 0.125, step, 1000, 33);
    EXPECT_FLOAT_EQ(rates.rate, static_cast<float>(0.125 * factor / (1 - std::pow(0.9, t))));
    EXPECT_FLOAT_EQ(rates.second_correction, static_cast<float>(1 / (1 - std::pow(0.999, t))));
    EXPECT_EQ(rates.decay, static_cast<float>(0.125 * factor * 0.25));
    EXPECT_EQ(rates.mean, static_cast<float>(1.0 / (127.0 * 33.0)));
  }
}

TEST(RatesAt, OtherOptimizersAreNotCorrected) {
  TrainingSettings settings;
  settings.schedule = Schedule::constant;
  for (const auto kind : {OptimizerKind::sgd, OptimizerKind::momentum}) {
    settings.optimizer = kind;
    const Rates rates = rates_at(settings, 0.1, 0, 10, 1);
    EXPECT_EQ(rates.rate, 0.1f);
    EXPECT_EQ(rates.decay, 0.0f);
    EXPECT_EQ(rates.second_correction, 1.0f);
    EXPECT_EQ(rates.mean, static_cast<float>(1.0 / 127.0));
  }
}

TEST(RatesAt, OptimizerTakesItsConstantsFromTheSettings) {
  TrainingSettings settings;
  settings.optimizer = OptimizerKind::momentum;
  settings.momentum = 0.75;
  settings.second_momentum = 0.5;
  settings.epsilon = 0.125;
  const Optimizer optimizer = optimizer_of(settings);
  EXPECT_EQ(optimizer.kind, OptimizerKind::momentum);
  EXPECT_EQ(optimizer.momentum, 0.75f);
  EXPECT_EQ(optimizer.beta1, 0.75f);
  EXPECT_EQ(optimizer.beta2, 0.5f);
  EXPECT_EQ(optimizer.epsilon, 0.125f);
}

// ------------------------------------------------------------------------------------------ pairs

TrainingSettings unlike_the_defaults() {
  TrainingSettings settings;
  settings.layers = {500, 31, 1};
  settings.epochs = 7;
  settings.batch_size = 33;
  settings.generative_learning_rate = 0.1;
  settings.recognition_learning_rate = 1.0 / 3.0;
  settings.optimizer = OptimizerKind::momentum;
  settings.momentum = 0.5;
  settings.second_momentum = 0.99;
  settings.epsilon = 2.5e-7;
  settings.schedule = Schedule::step;
  settings.schedule_every = 4;
  settings.schedule_factor = 0.7;
  settings.weight_decay = 0.0001;
  settings.weight_bits = 12;
  settings.seed = 18446744073709551615ull;
  settings.binarization = Binarization::dynamic;
  settings.threshold = 200;
  return settings;
}

const Pairs expected_pairs = {{"layers", "500,31,1"},
                              {"algorithm", "wake-sleep"},
                              {"epochs", "7"},
                              {"batch-size", "33"},
                              {"generative-learning-rate", "0.1"},
                              {"recognition-learning-rate", "0.3333333333333333"},
                              {"optimizer", "momentum"},
                              {"momentum", "0.5"},
                              {"second-momentum", "0.99"},
                              {"epsilon", "2.5e-07"},
                              {"schedule", "step"},
                              {"schedule-every", "4"},
                              {"schedule-factor", "0.7"},
                              {"weight-decay", "1e-04"},
                              {"weight-bits", "12"},
                              {"seed", "18446744073709551615"},
                              {"binarize", "dynamic"},
                              {"threshold", "200"}};

TEST(Pairs, HaveFixedNamesOrderAndText) { EXPECT_EQ(to_pairs(unlike_the_defaults()), expected_pairs); }

TEST(Pairs, ReadBackInAnyOrder) {
  const Pairs backwards(expected_pairs.rbegin(), expected_pairs.rend());
  const TrainingSettings settings = settings_from_pairs(backwards);
  EXPECT_EQ(settings.layers, (std::vector<std::int64_t>{500, 31, 1}));
  EXPECT_EQ(settings.epochs, 7);
  EXPECT_EQ(settings.batch_size, 33);
  EXPECT_EQ(settings.recognition_learning_rate, 1.0 / 3.0);
  EXPECT_EQ(settings.optimizer, OptimizerKind::momentum);
  EXPECT_EQ(settings.schedule, Schedule::step);
  EXPECT_EQ(settings.weight_bits, 12);
  EXPECT_EQ(settings.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(settings.binarization, Binarization::dynamic);
  EXPECT_EQ(settings.threshold, 200);
  EXPECT_EQ(to_pairs(settings), expected_pairs);
}

TEST(Pairs, KeepEveryBitOfANumber) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    TrainingSettings settings;
    settings.recognition_learning_rate =
        std::ldexp(static_cast<double>(random() | 1u), static_cast<int>(random() % 100) - 164);
    const TrainingSettings read = settings_from_pairs(to_pairs(settings));
    ASSERT_EQ(read.recognition_learning_rate, settings.recognition_learning_rate);
  }
}

TEST(Pairs, OfAnAlgorithmAreThoseThatItUses) {
  TrainingSettings settings = unlike_the_defaults();
  settings.algorithm = Algorithm::reweighted_wake_sleep;
  settings.samples = 7;
  settings.insomnia = 0.25;
  settings.control_variate = true;
  Pairs reweighted = expected_pairs;
  reweighted[1].second = "reweighted-wake-sleep";
  const Pairs own = {{"samples", "7"}, {"insomnia", "0.25"}, {"control-variate", "true"}};
  reweighted.insert(reweighted.begin() + 2, own.begin(), own.end());
  EXPECT_EQ(to_pairs(settings), reweighted);
  const TrainingSettings read = settings_from_pairs(reweighted);
  EXPECT_EQ(read.algorithm, Algorithm::reweighted_wake_sleep);
  EXPECT_EQ(read.samples, 7);
  EXPECT_EQ(read.insomnia, 0.25);
  EXPECT_TRUE(read.control_variate);
  for (const auto& pair : own) {
    Pairs missing = reweighted;
    std::erase(missing, pair);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(missing); }),
                AllOf(HasSubstr(pair.first), HasSubstr("missing")));
    Pairs useless = expected_pairs;  // of wake-sleep
    useless.push_back(pair);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(useless); }),
                AllOf(HasSubstr(pair.first), HasSubstr("of no use to wake-sleep")));
  }
}

TEST(Pairs, OfEveryAlgorithmReadBackWithItsOwnSettings) {
  const struct {
    Algorithm algorithm;
    Pairs own;
  } cases[] = {
      {Algorithm::joint_stochastic_approximation, {{"samples", "7"}, {"fresh-epochs", "3"}}},
      {Algorithm::vimco, {{"samples", "7"}}},
      {Algorithm::bidirectional_helmholtz, {{"samples", "7"}}},
      {Algorithm::sparse_wake_sleep,
       {{"sparsity", "0.25"}, {"target-activation", "0.2"}, {"activation-memory", "0.75"}}},
      {Algorithm::natural_reweighted_wake_sleep,
       {{"samples", "7"},
        {"insomnia", "0.75"},
        {"control-variate", "true"},
        {"fisher", "dense"},
        {"fisher-damping", "0.05"},
        {"fisher-refresh", "1000"}}},
  };
  for (const auto& [algorithm, own] : cases) {
    TrainingSettings settings = unlike_the_defaults();
    settings.algorithm = algorithm;
    settings.samples = 7;
    settings.fresh_epochs = 3;
    settings.sparsity = 0.25;
    settings.target_activation = 0.2;
    settings.activation_memory = 0.75;
    settings.insomnia = 0.75;
    settings.control_variate = true;
    settings.fisher = FisherForm::dense;
    settings.fisher_damping = 0.05;
    settings.fisher_refresh = 1000;
    Pairs expected = expected_pairs;
    expected[1].second = name_of(algorithm);
    expected.insert(expected.begin() + 2, own.begin(), own.end());
    EXPECT_EQ(to_pairs(settings), expected);
    EXPECT_EQ(to_pairs(settings_from_pairs(expected)), expected);
  }
}

TEST(Pairs, OnlyAnAutoregressivePriorStandsInFiles) {
  // expected_pairs has no prior, so every older file reads as it did: factorial.
  EXPECT_EQ(settings_from_pairs(expected_pairs).prior, Prior::factorial);
  TrainingSettings settings = unlike_the_defaults();
  settings.prior = Prior::autoregressive;
  Pairs expected = expected_pairs;
  expected.insert(expected.begin() + 1, {"prior", "autoregressive"});
  EXPECT_EQ(to_pairs(settings), expected);
  EXPECT_EQ(settings_from_pairs(expected).prior, Prior::autoregressive);
  expected[1].second = "factorial";
  EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(expected); }), HasSubstr("setting prior"));
  EXPECT_THAT(message_of<UsageError>([] { prior_named("regressive"); }),
              AllOf(HasSubstr("\"regressive\""), HasSubstr("factorial, autoregressive")));
}

TEST(Pairs, OnlyGaussianVisibleUnitsStandInFilesAndAreNotBinarized) {
  EXPECT_EQ(settings_from_pairs(expected_pairs).visible, Visible::bernoulli);
  TrainingSettings settings = unlike_the_defaults();
  settings.visible = Visible::gaussian;
  settings.visible_deviation = 0.25;
  Pairs expected(expected_pairs.begin(), expected_pairs.end() - 2);  // without binarize and threshold
  expected.insert(expected.begin() + 1, {{"visible", "gaussian"}, {"visible-deviation", "0.25"}});
  EXPECT_EQ(to_pairs(settings), expected);
  EXPECT_EQ(settings_from_pairs(expected).visible_deviation, 0.25);
  EXPECT_EQ(visible_units_of(settings_from_pairs(expected)).deviation, 0.25f);
  for (const Pairs::value_type& pair : {Pairs::value_type{"threshold", "128"}, {"binarize", "fixed"}}) {
    Pairs more = expected;
    more.push_back(pair);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(more); }),
                HasSubstr("setting " + pair.first));
  }
  Pairs fewer = expected;
  fewer.erase(fewer.begin() + 2);
  EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(fewer); }), HasSubstr("visible-deviation"));
  EXPECT_THAT(message_of<UsageError>([] { visible_named("gauss"); }),
              AllOf(HasSubstr("\"gauss\""), HasSubstr("bernoulli, gaussian")));
}

TEST(Pairs, WhatIsOffStandsInNoFile) {
  // expected_pairs has none of these, so every older file reads as it did, with all of them off.
  const TrainingSettings old = settings_from_pairs(expected_pairs);
  EXPECT_EQ(old.warm_up, 0);
  EXPECT_EQ(old.clip_gradient, 0);
  EXPECT_EQ(old.early_stopping, 0);
  TrainingSettings settings = unlike_the_defaults();
  settings.schedule = Schedule::plateau;
  settings.patience = 4;
  settings.min_improvement = 0.25;
  settings.early_stopping = 9;
  settings.warm_up = 100;
  settings.clip_gradient = 0.5;
  const Pairs own = {{"patience", "4"},
                     {"early-stopping", "9"},
                     {"min-improvement", "0.25"},
                     {"warm-up", "100"},
                     {"clip-gradient", "0.5"}};
  Pairs expected = expected_pairs;
  expected[10].second = "plateau";
  expected.insert(expected.begin() + 13, own.begin(), own.end());
  EXPECT_EQ(to_pairs(settings), expected);
  EXPECT_EQ(to_pairs(settings_from_pairs(expected)), expected);
  const Pairs useless = {{"patience", "4"},
                         {"min-improvement", "0.25"},
                         {"warm-up", "0"},
                         {"clip-gradient", "0"},
                         {"early-stopping", "0"}};
  for (const auto& pair : useless) {
    Pairs pairs = expected_pairs;  // with the schedule "step"
    pairs.push_back(pair);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(pairs); }),
                AllOf(HasSubstr(pair.first), HasSubstr("of no use")));
  }
  for (const auto& pair : {own[0], own[2]}) {
    Pairs missing = expected;
    std::erase(missing, pair);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(missing); }),
                AllOf(HasSubstr(pair.first), HasSubstr("missing")));
  }
}

TEST(Settings, AStepsRowsAndMixedPhasesFollowTheAlgorithm) {
  TrainingSettings settings;
  settings.batch_size = 20;
  settings.samples = 7;
  settings.insomnia = 0.5;
  EXPECT_EQ(rows_of_a_step(settings), 20);
  EXPECT_FALSE(mixes_phases(settings));
  for (const auto algorithm : {Algorithm::reweighted_wake_sleep, Algorithm::natural_reweighted_wake_sleep}) {
    settings.algorithm = algorithm;
    settings.insomnia = 0.5;
    EXPECT_EQ(rows_of_a_step(settings), 140);
    EXPECT_TRUE(mixes_phases(settings));
    for (const double one_phase : {0.0, 1.0}) {
      settings.insomnia = one_phase;
      EXPECT_FALSE(mixes_phases(settings));
    }
  }
  settings.insomnia = 0.5;
  for (const auto algorithm : {Algorithm::joint_stochastic_approximation, Algorithm::vimco,
                               Algorithm::bidirectional_helmholtz, Algorithm::sparse_wake_sleep}) {
    settings.algorithm = algorithm;
    EXPECT_EQ(rows_of_a_step(settings), algorithm == Algorithm::sparse_wake_sleep ? 20 : 140);
    EXPECT_FALSE(mixes_phases(settings));
  }
}

TEST(Pairs, DoNotDependOnTheLocale) {
  struct Continental : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Continental));
  const Pairs pairs = to_pairs(unlike_the_defaults());
  const TrainingSettings settings = settings_from_pairs(expected_pairs);
  std::locale::global(before);
  EXPECT_EQ(pairs, expected_pairs);
  EXPECT_EQ(settings.generative_learning_rate, 0.1);
}

TEST(Pairs, MissingUnknownAndRepeatedOnesAreRefused) {
  for (std::size_t i = 0; i < expected_pairs.size(); ++i) {
    Pairs missing = expected_pairs;
    missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(missing); }),
                AllOf(HasSubstr(expected_pairs[i].first), HasSubstr("missing")));
    Pairs twice = expected_pairs;
    twice.push_back(expected_pairs[i]);
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(twice); }),
                AllOf(HasSubstr(expected_pairs[i].first), HasSubstr("twice")));
  }
  Pairs unknown = expected_pairs;
  unknown.emplace_back("colour", "green");
  EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(unknown); }), HasSubstr("colour"));
}

TEST(Pairs, UnusableValuesAreRefusedByName) {
  const Pairs unusable = {
      {"layers", ""},        {"layers", "200,"},     {"layers", "200,,3"},
      {"layers", "2x"},      {"layers", "0"},        {"algorithm", "rws"},
      {"epochs", "1.5"},     {"epochs", " 1"},       {"batch-size", "99999999999999999999"},
      {"momentum", "0,9"},   {"momentum", "nan"},    {"epsilon", "1e-8 "},
      {"optimizer", "lion"}, {"schedule", "Cosine"}, {"weight-bits", "16.0"},
      {"seed", "-1"},        {"seed", "+1"},         {"binarize", ""},
      {"threshold", "0"},    {"weight-decay", ""},   {"generative-learning-rate", "inf"}};
  for (const auto& [name, value] : unusable) {
    Pairs pairs = expected_pairs;
    for (auto& pair : pairs) {
      if (pair.first == name) pair.second = value;
    }
    EXPECT_THAT(message_of<DataError>([&] { settings_from_pairs(pairs); }), HasSubstr(name)) << value;
  }
}

}  // namespace
}  // namespace wakesleep
