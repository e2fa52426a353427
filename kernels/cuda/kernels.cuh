// The launchers: plain functions that queue one operation's kernels on a stream. Each stands beside its
// kernels in kernels/<operation>_cuda.cu; shapes have been checked by the caller (kernels/ops_cuda.cu).
// Matrices of states and deltas have strides of whole 64-byte lines and start at multiples of 64 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/limbs.hpp"
#include "kernels/cuda/logits.cuh"
#include "kernels/cuda/workspace.hpp"

namespace wakesleep::cuda {

/// *now = table[(*position)++].
void advance(cudaStream_t stream, const StepScalars* table, std::uint32_t* position, StepScalars* now);

/// Sorts in memory taken from `workspace`.
void shuffle(cudaStream_t stream, const Draw& draw, std::int64_t rows, std::uint32_t* order,
             Workspace& workspace);

void gather(cudaStream_t stream, const DataRows& data, const std::uint32_t* order, const std::uint32_t* first,
            const Draw& draw, States states);

/// Output row r takes the logits of row r / rows_per_input. Errors of the output, here and in score, where
/// they have memory.
void sample(cudaStream_t stream, const Logits& logits, std::int64_t rows_per_input, const Draw& draw,
            std::int64_t samples, States output, const ScoreSink& sink, Matrix<float> errors);
void probabilities(cudaStream_t stream, const Logits& logits, Matrix<float> probabilities);
/// Limbs and scales are those of an autoregressive prior's weights.
void sample_in_order(cudaStream_t stream, const Limbs& limbs, const float* scales, const float* bias,
                     const Draw& draw, States output);

/// kept = the logits themselves.
void keep_logits(cudaStream_t stream, const Logits& logits, Matrix<float> kept);

/// Row r of the deltas has target row r / rows_per_target.
void delta(cudaStream_t stream, const Logits& logits, ConstStates target, std::int64_t rows_per_target,
           const SampleWeights& weights, const Draw& draw, Deltas deltas);
void round_errors(cudaStream_t stream, Matrix<const float> errors, const SampleWeights& weights,
                  const Draw& draw, Deltas deltas);
/// Row i of the deltas has the target rows of image i, weights.samples of them.
void shared_delta(cudaStream_t stream, const Logits& logits, ConstStates target, const SampleWeights& weights,
                  const Draw& draw, Deltas deltas);

/// The product of a conditional of Bernoulli units with int8 weights, and what is wanted of its logits.
struct ForwardOperation {
  const std::int8_t* limbs = nullptr;  ///< as in Limbs
  std::int32_t limb_count = 1;
  std::int32_t limb_rows = 0;
  std::int64_t limb_stride = 0;
  const float* scales = nullptr;
  const float* bias = nullptr;
  ConstStates input;
  std::int32_t rows = 0;
  std::int32_t units = 0;
  Draw draw;                         ///< of samples or deltas
  std::int64_t samples = 1;          ///< rows for each row of the batch, for Draw::samples
  ConstStates target;                ///< of deltas or scores
  std::int32_t rows_per_target = 1;  ///< row r has target row r / rows_per_target
  float weight = 1.0f;               ///< of deltas
  ScoreSink sink;                    ///< of samples or scores, as errors are
  Matrix<float> errors;
};
/// Whether a product is so small that it pays to make it and what follows in one kernel.
bool fits_one_kernel(std::int64_t rows, const Limbs& limbs);
void forward_sample(cudaStream_t stream, const ForwardOperation& operation, States output);
/// kept = the logits themselves.
void forward_logits(cudaStream_t stream, const ForwardOperation& operation, Matrix<float> kept);
void forward_delta(cudaStream_t stream, const ForwardOperation& operation, Deltas deltas);
void forward_score(cudaStream_t stream, const ForwardOperation& operation);

/// Row r of `rows` takes the logits of row r / rows_per_input and target row r / rows_per_target.
void score(cudaStream_t stream, const Logits& logits, std::int64_t rows, std::int64_t rows_per_input,
           ConstStates target, std::int64_t rows_per_target, const ScoreSink& sink, Matrix<float> errors);

/// In one launch what a gradient needs: the columns of deltas and states as rows of elements of the route's
/// kind, with both extents padded to 16 by zeros, and, unless bias_gradient is null, bias_gradient = column
/// sums of the deltas. Null copies are not made. `zeros` are column_sums_count(deltas.columns) zeros, and are
/// zeros again afterwards.
void transpose(cudaStream_t stream, CudaRoute route, ConstDeltas deltas, void* transposed_deltas,
               ConstStates states, void* transposed_states, std::int32_t* bias_gradient, std::int32_t* zeros);
std::int64_t column_sums_count(std::int64_t columns);

/// Whether a gradient of so many rows is so small that it pays to make it in one kernel, without transposed
/// copies.
bool gradient_is_small(CudaRoute route, std::int64_t rows, std::int64_t receiving, std::int64_t sending);
/// Dense [deltas.columns x states.columns]; bias_gradient as of transpose.
void small_gradient(cudaStream_t stream, ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                    std::int32_t* bias_gradient);

/// gradient [units x units]: 0 on and above the diagonal.
void keep_below_diagonal(cudaStream_t stream, std::int32_t* gradient, std::int64_t units);

void draw_weights(cudaStream_t stream, const Draw& draw, float limit, Matrix<float> weight);

/// Limbs and scales of the weights; `diverged` and `step` as in Ops::quantize.
void quantize(cudaStream_t stream, Matrix<const float> weight, int bits, const Limbs& limbs, float* scales,
              std::uint32_t* diverged, const std::uint32_t* step);

/// The gradients of a conditional's weights (dense) and biases: integers, or means in float32.
template <class T>
struct GradientPair {
  T* weight = nullptr;
  T* bias = nullptr;
};

/// A conditional's step along its gradient, which ends with its new integers. Gradient and optimiser state
/// are dense. A prior has biases only, and no limbs.
struct ParameterUpdate {
  std::int64_t receiving = 0;
  Matrix<float> weight;
  float* bias = nullptr;
  OptimizerState state;
  Limbs limbs;
  int bits = 16;
  float* scales = nullptr;
  std::uint32_t* diverged = nullptr;  ///< and `step` as in Ops::quantize
  const std::uint32_t* step = nullptr;
  GradientUnits units;  ///< of integer gradients
};
void update(cudaStream_t stream, const ParameterUpdate& update,
            const GradientPair<const std::int32_t>& gradient, const Optimizer& optimizer, const Rates* rates);
void update(cudaStream_t stream, const ParameterUpdate& update, const GradientPair<const float>& gradient,
            const Optimizer& optimizer, const Rates* rates);

/// Integers that are added to a gradient, in its shapes; null: none.
struct AddedGradient {
  const std::int32_t* weight = nullptr;
  const std::int32_t* bias = nullptr;
};
/// The gradient of deltas and states, which is small, with what is added to it, and the update along it, in one
/// kernel. `zeros` are learn_zeros_count(update.receiving) zeros, and are zeros again afterwards.
void learn(cudaStream_t stream, ConstDeltas deltas, ConstStates states, const AddedGradient& added,
           const ParameterUpdate& update, const Optimizer& optimizer, const Rates* rates,
           std::int32_t* zeros);
std::int64_t learn_zeros_count(std::int64_t receiving);

/// Of a conditional of `receiving` x `sending` weights; `inverse` as in Ops::natural_gradient.
void natural_gradient(cudaStream_t stream, const FisherInverse& inverse, std::int64_t receiving,
                      std::int64_t sending, const Rates* rates,
                      const GradientPair<const std::int32_t>& gradient, const GradientPair<float>& natural);

/// *clipped = *rates with its mean times the clip_factor of the integers given, which count in `units`. Works
/// in memory taken from `workspace`.
void clip(cudaStream_t stream, const std::int32_t* gradient, std::int64_t count,
          const std::int32_t* bias_gradient, std::int64_t bias_count, const GradientUnits& units, float limit,
          const Rates* rates, Rates* clipped, Workspace& workspace);

void importance(cudaStream_t stream, Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries);

void count(cudaStream_t stream, ConstStates states, std::int64_t* counts);

void importance_weights(cudaStream_t stream, Matrix<const std::int64_t> log_weights, int fraction_bits,
                        std::int32_t* relative, std::int64_t* totals);
/// Works in memory taken from `workspace`, as do those below that have one.
void vimco_weights(cudaStream_t stream, Matrix<const std::int64_t> log_weights, float* coefficients,
                   const Rates* rates, Rates* scaled, Workspace& workspace);

void recall(cudaStream_t stream, const DataRows& remembered, const std::uint32_t* order,
            const std::uint32_t* first, const std::uint32_t* epoch, std::uint32_t from_epoch, States states);
void remember(cudaStream_t stream, ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
              const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
              std::int64_t row_bytes);
void metropolis(cudaStream_t stream, Matrix<const std::int64_t> log_weights, const Draw& draw,
                std::int32_t* visits, std::int64_t* totals, std::uint32_t* last, std::int64_t* counts);

void sparsity(cudaStream_t stream, ConstStates states, const Sparsity& sparsity, float* activation,
              std::int32_t* penalty, Workspace& workspace);
void add(cudaStream_t stream, std::int32_t* sums, const std::int32_t* terms, std::int64_t count);

/// What the runtime says when it looks for this program's machine code for the current device.
cudaError_t find_kernel_image();

}  // namespace wakesleep::cuda
