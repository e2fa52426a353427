// No random address is used twice: an Ops that passes every call on and notes every address it stands for.
// (That the backends use exactly these addresses is what tests/ops_test.cpp shows.)
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

#include "trainings.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/generate.hpp"
#include "wakesleep/partition.hpp"

namespace wakesleep {
namespace {

class RecordingOps : public Ops {
 public:
  RecordingOps() : ops_(make_cpu_ops()) {}

  std::set<std::array<std::uint32_t, 4>> addresses;
  std::uint64_t draws = 0;

  std::string description() const override { return ops_->description(); }
  std::string device() const override { return ops_->device(); }
  void* allocate(std::size_t bytes) override { return ops_->allocate(bytes); }
  void deallocate(void* memory, std::size_t bytes) noexcept override { ops_->deallocate(memory, bytes); }
  void copy_in(void* to, const void* from, std::size_t bytes) override { ops_->copy_in(to, from, bytes); }
  void copy_out(void* to, const void* from, std::size_t bytes) override { ops_->copy_out(to, from, bytes); }
  void fill_zero(void* memory, std::size_t bytes) override { ops_->fill_zero(memory, bytes); }
  void synchronize() override { ops_->synchronize(); }
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override { return ops_->make_readback(bytes); }
  std::unique_ptr<Upload> make_upload(std::size_t bytes) override { return ops_->make_upload(bytes); }
  std::unique_ptr<IntegerWeights> make_integer_weights(std::int64_t n, std::int64_t m, int bits,
                                                       std::int32_t largest) override {
    return ops_->make_integer_weights(n, m, bits, largest);
  }
  void draw_weights(const Conditional& c, const Draw& draw, float limit) override {
    for (std::int64_t i = 0; i < c.receiving; ++i) note(draw, static_cast<std::uint32_t>(i), 0, c.sending, 4);
    ops_->draw_weights(c, draw, limit);
  }
  void quantize(const Conditional& c, std::uint32_t* d, const std::uint32_t* s) override {
    ops_->quantize(c, d, s);
  }
  void reserve(const Conditional& c, std::int64_t rows) override { ops_->reserve(c, rows); }
  void advance(const StepScalars* table, std::uint32_t* position, StepScalars* now) override {
    ops_->advance(table, position, now);
  }
  void shuffle(const Draw& draw, std::int64_t rows, std::uint32_t* order) override {
    for (std::int64_t r = 0; r < rows; ++r) note(draw, static_cast<std::uint32_t>(r), 0, 4, 4);
    ops_->shuffle(draw, rows, order);
  }
  void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
              States states) override {
    for (std::int64_t r = 0; data.grey && !data.fixed_point && r < states.rows; ++r) {
      const std::int64_t position = *first + r;
      note(draw, order != nullptr ? order[position] : static_cast<std::uint32_t>(position), 0, states.columns,
           4);
    }
    ops_->gather(data, order, first, draw, states);
  }
  void sample(const Conditional& c, ConstStates input, const Draw& draw, std::int64_t samples, States output,
              const ScoreSink& sink, Matrix<float> logits, Matrix<float> errors) override {
    for (std::int64_t r = 0; r < output.rows; ++r) {
      const bool by_row = draw.samples == SampleAddress::row;
      note(draw, draw.first_row + static_cast<std::uint32_t>(by_row ? r : r / samples),
           static_cast<std::uint32_t>(by_row ? 0 : r % samples), output.columns, 4);
    }
    ops_->sample(c, input, draw, samples, output, sink, logits, errors);
  }
  void sample_in_order(const Conditional& c, const Draw& draw, States output) override {
    for (std::int64_t r = 0; r < output.rows; ++r) {
      note(draw, draw.first_row + static_cast<std::uint32_t>(r), 0, output.columns, 4);
    }
    ops_->sample_in_order(c, draw, output);
  }
  void delta(const Conditional& c, ConstStates input, ConstStates target, const Draw& draw, Deltas deltas,
             const SampleWeights& weights, Matrix<const float> logits) override {
    for (std::int64_t r = 0; r < deltas.rows; ++r)
      note(draw, draw.first_row + static_cast<std::uint32_t>(r), 0, deltas.columns, 8);
    ops_->delta(c, input, target, draw, deltas, weights, logits);
  }
  void round_errors(Matrix<const float> errors, const Draw& draw, Deltas deltas,
                    const SampleWeights& weights) override {
    for (std::int64_t r = 0; r < deltas.rows; ++r)
      note(draw, draw.first_row + static_cast<std::uint32_t>(r), 0, deltas.columns, 8);
    ops_->round_errors(errors, draw, deltas, weights);
  }
  void gradient(ConstDeltas d, ConstStates s, std::int32_t* g, std::int32_t* b,
                std::int32_t largest) override {
    ops_->gradient(d, s, g, b, largest);
  }
  void keep_below_diagonal(std::int32_t* gradient, std::int64_t units) override {
    ops_->keep_below_diagonal(gradient, units);
  }
  void clip(const Conditional& c, const std::int32_t* g, const std::int32_t* b, float limit,
            const Rates* rates, Rates* clipped) override {
    ops_->clip(c, g, b, limit, rates, clipped);
  }
  void update(const Conditional& c, const OptimizerState& s, const Optimizer& o, const Rates* r,
              const std::int32_t* g, const std::int32_t* b, std::uint32_t* d,
              const std::uint32_t* step) override {
    ops_->update(c, s, o, r, g, b, d, step);
  }
  void update(const Conditional& c, const OptimizerState& s, const Optimizer& o, const Rates* r,
              const float* g, const float* b, std::uint32_t* d, const std::uint32_t* step) override {
    ops_->update(c, s, o, r, g, b, d, step);
  }
  void natural_gradient(const Conditional& c, const FisherInverse& inverse, const Rates* r,
                        const std::int32_t* g, const std::int32_t* b, float* natural,
                        float* natural_bias) override {
    ops_->natural_gradient(c, inverse, r, g, b, natural, natural_bias);
  }
  void add(std::int32_t* sums, const std::int32_t* terms, std::int64_t count) override {
    ops_->add(sums, terms, count);
  }
  void sparsity(ConstStates states, const Sparsity& sparsity, float* activation,
                std::int32_t* penalty) override {
    ops_->sparsity(states, sparsity, activation, penalty);
  }
  void recall(const DataRows& remembered, const std::uint32_t* order, const std::uint32_t* first,
              const std::uint32_t* epoch, std::uint32_t from_epoch, States states) override {
    ops_->recall(remembered, order, first, epoch, from_epoch, states);
  }
  void remember(ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
                const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
                std::int64_t row_bytes) override {
    ops_->remember(states, samples, chosen, order, first, bits, row_bytes);
  }
  void metropolis(Matrix<const std::int64_t> w, const Draw& draw, std::int32_t* visits, std::int64_t* totals,
                  std::uint32_t* last, std::int64_t* counts) override {
    for (std::int64_t i = 0; i < w.rows; ++i) note(draw, static_cast<std::uint32_t>(i), 0, w.columns, 4);
    ops_->metropolis(w, draw, visits, totals, last, counts);
  }
  void score_kept(Matrix<const float> logits, ConstStates t, const ScoreSink& s,
                  Matrix<float> errors) override {
    ops_->score_kept(logits, t, s, errors);
  }
  void score(const Conditional& c, ConstStates i, ConstStates t, const ScoreSink& s,
             Matrix<float> errors) override {
    ops_->score(c, i, t, s, errors);
  }
  void importance_weights(Matrix<const std::int64_t> w, int fraction_bits, std::int32_t* relative,
                          std::int64_t* totals) override {
    ops_->importance_weights(w, fraction_bits, relative, totals);
  }
  void vimco_weights(Matrix<const std::int64_t> w, float* coefficients, const Rates* rates,
                     Rates* scaled) override {
    ops_->vimco_weights(w, coefficients, rates, scaled);
  }
  void importance(Matrix<const std::int64_t> w, ImportanceSummary* s) override { ops_->importance(w, s); }
  void probabilities(const Conditional& c, ConstStates i, Matrix<float> p) override {
    ops_->probabilities(c, i, p);
  }
  void multiply(const Conditional& c, ConstStates i) override { ops_->multiply(c, i); }
  void count(ConstStates s, std::int64_t* c) override { ops_->count(s, c); }

 private:
  void note(const Draw& draw, std::uint32_t row, std::uint32_t sample, std::int64_t units,
            std::int64_t group_units) {
    const std::uint32_t step = draw.first_step + (draw.step != nullptr ? *draw.step : 0) + sample;
    for (std::int64_t group = 0; group < (units + group_units - 1) / group_units; ++group) {
      addresses.insert({static_cast<std::uint32_t>(group), row, step, domain_word(draw.domain, draw.layer)});
      ++draws;
    }
  }

  std::unique_ptr<Ops> ops_;
};

TEST(Addresses, NoneIsUsedTwiceInARun) {
  // Whole runs, not only a step: three epochs of binary and of dynamically binarized data, with a short last
  // batch.
  for (const testing::Training& training : testing::recorded_trainings()) {
    if (training.units > 100) continue;  // the small ones have every path
    RecordingOps ops;
    testing::trained_hash(ops, training);
    EXPECT_EQ(ops.addresses.size(), ops.draws) << training.name;
    RecordingOps ops_that_stream;
    testing::trained_hash(ops_that_stream, training, testing::streamed(0));
    EXPECT_EQ(ops_that_stream.addresses.size(), ops_that_stream.draws) << training.name;
    EXPECT_GT(ops.draws, 100u) << training.name;
    const bool has_chains = training.settings.algorithm == Algorithm::joint_stochastic_approximation;
    const bool accepts = std::any_of(ops.addresses.begin(), ops.addresses.end(), [](const auto& address) {
      return address[3] == domain_word(Domain::chain_acceptance, 0);
    });
    EXPECT_EQ(accepts, has_chains) << training.name;
  }
}

TEST(Addresses, NoneIsUsedTwiceInAnEvaluationOrAReadingOut) {
  RecordingOps ops;
  Machine machine(ops, {33, 19, 5}, 16);
  machine.initialize(std::vector<double>(33, 0.3), 1);
  const DataSet data = binarize(testing::grey_rows(13, 33), Binarization::threshold, 128, 1);
  EvaluationSettings settings;
  settings.samples = 17;
  settings.memory_bytes = 4096;  // several chunks
  evaluate(machine, data, settings);
  EXPECT_EQ(ops.addresses.size(), ops.draws);
  const std::uint64_t evaluated = ops.draws;
  EXPECT_GE(evaluated, 13u * 17u * (5u + 2u));
  dream(machine, 9, 1);
  EXPECT_EQ(ops.addresses.size(), ops.draws);
  reconstruct(machine, data, 1);
  EXPECT_EQ(ops.addresses.size(), ops.draws);
  PartitionSettings partition;
  partition.dreams = 5000;  // two chunks
  estimate_partition(machine, partition);
  EXPECT_EQ(ops.addresses.size(), ops.draws);
}

TEST(Addresses, ARecorderThatSeesARepeatedAddressSaysSo) {
  RecordingOps ops;
  Machine machine(ops, {5, 3}, 16);
  Buffer<std::uint8_t> states(ops, 4 * 64);
  const Draw draw{1, Domain::sleep_sample, 1, 0, 0, nullptr, SampleAddress::row};
  ops.sample(machine.prior(), {}, draw, 1, {states.data(), 4, 3, 64}, {}, {}, {});
  ops.sample(machine.prior(), {}, draw, 1, {states.data(), 4, 3, 64}, {}, {}, {});
  EXPECT_LT(ops.addresses.size(), ops.draws);
}

}  // namespace
}  // namespace wakesleep
