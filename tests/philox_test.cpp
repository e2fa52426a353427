// Philox4x32-10 against the known answers published with Random123 (kat_vectors), and the vectorised forms
// against the plain one.
#include "wakesleep/philox.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "backends.hpp"
#include "paths.hpp"

namespace wakesleep {
namespace {

TEST(Philox, PublishedKnownAnswers) {
  std::ifstream file(testing::test_file("data/philox_known_answers.txt"));
  ASSERT_TRUE(file) << "tests/data/philox_known_answers.txt is missing";
  int checked = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::uint32_t word[10];
    words >> std::hex;
    for (std::uint32_t& w : word) ASSERT_TRUE(words >> w) << line;
    const std::uint64_t key = word[4] | static_cast<std::uint64_t>(word[5]) << 32;
    const PhiloxBlock block = philox4x32_10({{word[0], word[1], word[2], word[3]}}, key);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], word[6 + i]) << line;
    ++checked;
  }
  EXPECT_EQ(checked, 3);
}

TEST(Philox, DomainsAreDistinctAndBelow256) {
  const std::set<Domain> domains = {Domain::wake_sample,
                                    Domain::wake_generative_rounding,
                                    Domain::wake_recognition_rounding,
                                    Domain::sleep_sample,
                                    Domain::sleep_rounding,
                                    Domain::initial_recognition,
                                    Domain::initial_generative,
                                    Domain::shuffle,
                                    Domain::held_out,
                                    Domain::binarize_fixed,
                                    Domain::binarize_dynamic,
                                    Domain::evaluation_sample,
                                    Domain::evaluation_binarize,
                                    Domain::generate_sample,
                                    Domain::encode_sample,
                                    Domain::chain_acceptance,
                                    Domain::partition_dream,
                                    Domain::partition_sample};
  EXPECT_EQ(domains.size(), 18u);
  for (const Domain domain : domains) EXPECT_LT(static_cast<std::uint32_t>(domain), 256u);
  EXPECT_EQ(domain_word(Domain::wake_sample, 5), 0x10000005u);
}

// Sampling a prior of logit 0 shows the words themselves: a unit is on when its word is below 2^31.
class PhiloxOnBackend : public testing::BackendTest {};

TEST_P(PhiloxOnBackend, EveryUnitGetsTheWordOfItsAddress) {
  for (const std::int64_t units : {1, 3, 4, 5, 31, 33, 64, 70, 100, 130, 200, 1023, 1024, 1025, 2500}) {
    const std::int64_t rows = 3;
    auto bias = testing::to_device(ops(), std::vector<float>(static_cast<std::size_t>(units), 0.0f));
    Conditional prior;
    prior.bias = bias.data();
    prior.receiving = units;
    Buffer<std::uint8_t> states(ops(), rows * padded_units(units));
    states.fill_zero();
    auto step = testing::to_device(ops(), std::vector<std::uint32_t>{7});
    Draw draw;
    draw.seed = 0x0123456789ABCDEFull;
    draw.domain = Domain::sleep_sample;
    draw.layer = 3;
    draw.first_row = 0xFFFFFFF0u;
    draw.first_step = 2;
    draw.step = step.data();
    ops().sample(prior, {}, draw, 1, {states.data(), rows, units, padded_units(units)});
    const std::vector<std::uint8_t> found = testing::to_host(states);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t u = 0; u < units; ++u) {
        const PhiloxBlock block =
            philox4x32_10({{static_cast<std::uint32_t>(u / 4), 0xFFFFFFF0u + static_cast<std::uint32_t>(r),
                            9u, domain_word(Domain::sleep_sample, 3)}},
                          0x0123456789ABCDEFull);
        EXPECT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)],
                  block.word[u % 4] < 0x80000000u)
            << "unit " << u << " of " << units << ", row " << r;
      }
    }
  }
}

WAKESLEEP_ON_EVERY_BACKEND(PhiloxOnBackend);

}  // namespace
}  // namespace wakesleep
