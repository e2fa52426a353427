// Reading a machine out: dreams, codes, reconstructions.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/data.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep {

// Where data is read, all of them throw UsageError when it is grey where the visible units are Bernoulli, or
// has more than max_data_rows rows; DataError when its rows have other units than the visible layer or there
// are none.
// All throw std::bad_alloc, before anything is drawn, where the system refuses the memory for what they
// return. All block.

/// Visible probabilities [count x n_0] of `count` dreams: states sampled from the prior downward, and the
/// probabilities of the visible units given the lowest hidden states. Of Gaussian visible units, here and
/// below, their means, within [0, 1]. Throws UsageError when `count` is outside 0 .. 2^32.
std::vector<float> dream(const Machine& machine, std::int64_t count, std::uint64_t seed);

/// Probabilities [rows x n_layer] of the units of hidden layer `layer` (1..L) given sampled states below.
/// Throws UsageError for a layer that there is not.
std::vector<float> encode(const Machine& machine, const DataSet& data, int layer, std::uint64_t seed);
/// The same, sampled: 0/1 bytes [rows x n_layer].
std::vector<std::uint8_t> encode_states(const Machine& machine, const DataSet& data, int layer,
                                        std::uint64_t seed);

/// Visible probabilities [rows x n_0]: up to the top by sampled recognition states, down again by sampled
/// generative states.
std::vector<float> reconstruct(const Machine& machine, const DataSet& data, std::uint64_t seed);

}  // namespace wakesleep
