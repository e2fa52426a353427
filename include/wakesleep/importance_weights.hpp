// The self-normalised importance weights of an image's samples.
#pragma once

#include <cstdint>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

class ImportanceWeights {
 public:
  /// Room for settings.samples samples of each of settings.batch_size images.
  ImportanceWeights(Ops& ops, const TrainingSettings& settings);

  /// Queues w_k = softmax_k(log_weights), in units of 2^-fraction_bits nats [images x K]. What is returned
  /// points to them: it holds until the next call.
  SampleWeights normalize(Matrix<const std::int64_t> log_weights, int fraction_bits = log_fraction_bits);

 private:
  Ops& ops_;
  Buffer<std::int32_t> relative_;  ///< [images x K]: e_k
  Buffer<std::int64_t> totals_;    ///< [images]: sum_k e_k
};

}  // namespace wakesleep
