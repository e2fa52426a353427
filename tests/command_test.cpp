// The program `wakesleep` as its users meet it: run as a process, on small data, in folders of its own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "paths.hpp"
#include "sanitizers.hpp"
#include "small_data.hpp"
#include "temporary_folder.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/model_file.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {
namespace {

namespace fs = std::filesystem;
using namespace wakesleep::testing;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;
using std::chrono::milliseconds;

// ------------------------------------------------------------------------------ files

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string text_of(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

void write_text(const fs::path& path, const std::string& text) { write_bytes(path, bytes_of(text)); }

constexpr int image_height = 6;
constexpr int image_width = 5;
constexpr int image_units = image_height * image_width;

/// Grey images with structure: a bright bar whose place the row decides, and noise.
Bytes idx_images(int rows, std::uint32_t seed = 1) {
  std::minstd_rand random(seed);
  Bytes bytes = idx_header(8, {rows, image_height, image_width});
  for (int r = 0; r < rows; ++r) {
    const int bar = static_cast<int>(random() % image_height);
    for (int unit = 0; unit < image_units; ++unit) {
      const int base = unit / image_width == bar ? 180 : 20;
      bytes.push_back(static_cast<std::uint8_t>(base + static_cast<int>(random() % 70)));
    }
  }
  return bytes;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

/// Everything in a folder by name and content, but for times.
std::map<std::string, std::string> contents_of(const fs::path& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    contents[fs::relative(entry.path(), folder)] =
        entry.is_directory() ? "a folder" : read_text(entry.path());
  }
  return contents;
}

// ------------------------------------------------------------------------------ processes

struct Result {
  int exit_code = -1;  ///< -1 when a signal ended it
  int signal = 0;
  std::string out;
  std::string err;
};

/// What a process may use.
struct Limits {
  rlim_t file_bytes = RLIM_INFINITY;    ///< of any file that it writes
  rlim_t memory_bytes = RLIM_INFINITY;  ///< of its address space
};

class Process {
 public:
  Process(const fs::path& folder, const Words& words, const Limits& limits = {},
          const std::string& standard_output = "")
      : out_path_(folder / ("stdout-" + std::to_string(counter_))),
        err_path_(folder / ("stderr-" + std::to_string(counter_))) {
    ++counter_;
    if (!standard_output.empty()) out_path_ = standard_output;
    const std::string command = testing::command_path();
    std::vector<char*> arguments = {const_cast<char*>(command.c_str())};
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    child_ = ::fork();
    if (child_ == 0) become(folder, arguments, limits);
  }
  ~Process() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int number) const {
    if (child_ > 0) ::kill(child_, number);  // to 0 it would go to this process and its neighbours
  }

  bool running() {
    int status = 0;
    if (child_ <= 0 || ::waitpid(child_, &status, WNOHANG) != child_) return child_ > 0;
    child_ = 0;
    note(status);
    return false;
  }

  Result wait() {
    int status = 0;
    if (child_ > 0 && ::waitpid(child_, &status, 0) == child_) {
      child_ = 0;
      note(status);
    }
    if (fs::is_regular_file(out_path_)) result_.out = read_text(out_path_);  // /dev/full has no end
    result_.err = read_text(err_path_);
    return result_;
  }

 private:
  [[noreturn]] void become(const fs::path& folder, const std::vector<char*>& arguments,
                           const Limits& limits) const {
    for (const int number : {SIGINT, SIGTERM, SIGXFSZ}) ::signal(number, SIG_DFL);
    const int out = ::open(out_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int err = ::open(err_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(out, 1);
    ::dup2(err, 2);
    limit(RLIMIT_FSIZE, limits.file_bytes);
    limit(RLIMIT_AS, limits.memory_bytes);
    if (::chdir(folder.c_str()) == 0) ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }

  static void limit(decltype(RLIMIT_AS) resource, rlim_t value) {
    if (value == RLIM_INFINITY) return;  // stays as it is
    const rlimit both = {value, value};
    ::setrlimit(resource, &both);
  }

  void note(int status) {
    if (WIFEXITED(status)) result_.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  }

  static inline int counter_ = 0;
  fs::path out_path_;
  fs::path err_path_;
  pid_t child_ = 0;
  Result result_;
};

/// A folder with data, in which the commands run.
class CommandTest : public ::testing::Test {
 protected:
  void SetUp() override { write_bytes(path("images.idx"), idx_images(100)); }

  fs::path path(const std::string& name) const { return folder_ / name; }
  Result run(const Words& words, const Limits& limits = {}) const {
    return Process(folder(), words, limits).wait();
  }
  const fs::path& folder() const { return folder_.path(); }

  /// A training of 100 rows: 7 steps an epoch.
  static Words training(const std::string& out, const Words& more = {}) {
    Words words = {"train",        "images.idx", "--layers",        "9,5",  "--epochs",           "3",
                   "--batch-size", "16",         "--device",        "cpu",  "--threads",          "1",
                   "--out",        out,          "--learning-rate", "0.01", "--evaluate-samples", "3"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// The same training, long enough to be interrupted.
  static Words long_training(const std::string& out, const Words& more = {}) {
    Words words = {"train",        "images.idx", "--layers",           "9,5", "--epochs",     "60",
                   "--batch-size", "2",          "--device",           "cpu", "--threads",    "1",
                   "--out",        out,          "--evaluate-samples", "3",   "--validation", "0.2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// A trained model in run/model.safetensors.
  std::string trained() const { return trained_as("run"); }
  std::string trained_as(const std::string& out) const {
    const Result result = run(training(out));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return out + "/model.safetensors";
  }

  nlohmann::json json_of(const Words& words) const {
    const Result result = run(words);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  }
  std::string hash_of(const std::string& model) const {
    return json_of({"info", model, "--json"}).at("hash");
  }

  /// The run's metrics without what measures time.
  std::vector<nlohmann::json> timeless_metrics(const std::string& run_folder) const {
    std::vector<nlohmann::json> records;
    for (const std::string& line : lines_of(path(run_folder) / "metrics.jsonl")) {
      nlohmann::json record = nlohmann::json::parse(line);
      EXPECT_EQ(record.erase("seconds"), 1u);
      EXPECT_EQ(record.erase("images_per_second"), 1u);
      records.push_back(record);
    }
    return records;
  }

  /// A failure: one sentence with `words` on standard error, nothing on standard output.
  void expect_failure(const Words& command, int exit_code, const std::vector<std::string>& words) const {
    const Result result = run(command);
    expect_failed(result, exit_code, words, ::testing::PrintToString(command));
  }
  static void expect_failed(const Result& result, int exit_code, const std::vector<std::string>& words,
                            const std::string& what) {
    SCOPED_TRACE(what);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    const std::size_t sentence = result.err.rfind("wakesleep: ");
    ASSERT_NE(sentence, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find('\n', sentence), result.err.size() - 1) << result.err;
    for (const std::string& word : words) EXPECT_THAT(result.err.substr(sentence), HasSubstr(word));
  }

  /// Waits until the run has done some epochs.
  void wait_for_epochs(Process& process, const std::string& run_folder, std::size_t epochs) const {
    while (process.running() && lines_of(path(run_folder) / "metrics.jsonl").size() < epochs) {
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

  TemporaryFolder folder_;
};

const Words all_commands = {"train", "evaluate", "sample", "encode", "reconstruct", "info", "bench"};

// ------------------------------------------------------------------------------ help and usage

TEST_F(CommandTest, HelpListsCommandsAndOptions) {
  const Result overview = run({"--help"});
  EXPECT_EQ(overview.exit_code, 0);
  for (const std::string& command : all_commands) {
    EXPECT_THAT(overview.out, HasSubstr(command));
    const Result help = run({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out, HasSubstr("Usage: wakesleep " + command));
  }
  EXPECT_THAT(run({"--version"}).out, HasSubstr("wakesleep-exact-1"));
}

/// Line breaks and runs of spaces made one space.
std::string on_one_line(const std::string& text) {
  std::string flat;
  for (const char c : text) {
    const char flattened = c == '\n' ? ' ' : c;
    if (flattened != ' ' || flat.empty() || flat.back() != ' ') flat += flattened;
  }
  return flat;
}

TEST_F(CommandTest, EveryLearningRateHelpSaysThatItMultipliesTheMean) {
  const std::string flat = on_one_line(run({"train", "--help"}).out);
  for (const std::string option :
       {"--learning-rate", "--generative-learning-rate", "--recognition-learning-rate", "--schedule "}) {
    const std::size_t begin = flat.find(option);
    ASSERT_NE(begin, std::string::npos);
    const std::string entry = flat.substr(begin, flat.find(" --", begin + 2) - begin);
    EXPECT_THAT(entry, HasSubstr("mean gradient over the batch")) << option;
  }
}

TEST_F(CommandTest, EverySettingOfATrainingIsAnOptionWithItsDefault) {
  const std::string help = on_one_line(run({"train", "--help"}).out);
  for (const auto& [name, value] : to_pairs(TrainingSettings{})) {
    EXPECT_THAT(help, HasSubstr("--" + name + " "));
    EXPECT_THAT(help, HasSubstr("(default " + value + ")"));
  }
  for (const std::string name :
       {"samples", "insomnia", "control-variate", "fisher", "fisher-damping", "fisher-refresh", "prior",
        "visible", "visible-deviation"}) {  // not of the default algorithm, or in no file
    EXPECT_THAT(help, HasSubstr("--" + name + " "));
    EXPECT_THAT(help, HasSubstr("(default " + setting_text(TrainingSettings{}, name) + ")"));
  }
}

TEST_F(CommandTest, UsageErrorsNameTheOptionTheValueAndTheNearest) {
  const struct {
    Words words;
    std::vector<std::string> expected;
  } cases[] = {
      {{}, {"needs a command"}},
      {{"trian"}, {"unknown command 'trian'", "did you mean train?"}},
      {{"train", "images.idx", "--out", "r", "--learing-rate", "3"},
       {"unknown option --learing-rate of `wakesleep train`", "did you mean --learning-rate?"}},
      {{"evaluate", "m", "d", "--sampels=3"}, {"unknown option --sampels", "did you mean --samples?"}},
      {{"train", "images.idx"}, {"needs --out RUN"}},
      {{"train", "--out", "r"}, {"needs DATA"}},
      {{"evaluate"}, {"needs MODEL"}},
      {{"sample", "m"}, {"needs --out FILE"}},
      {{"train", "images.idx", "--out"}, {"--out", "needs a value"}},
      {{"train", "images.idx", "--out", "--resume"}, {"--out", "needs a value before --resume"}},
      {{"train", "images.idx", "more", "--out", "r"}, {"no further argument 'more'"}},
      {{"train", "images.idx", "--out", "r", "--epochs", "3", "--epochs", "4"}, {"--epochs", "2 times"}},
      {{"train", "images.idx", "--out", "r", "--epochs", "ten"},
       {"--epochs", "'ten'", "a whole number of at least 1"}},
      {{"train", "images.idx", "--out", "r", "--epochs", "0"}, {"--epochs", "'0'"}},
      {{"train", "images.idx", "--out", "r", "--epochs", "99999999999999999999"}, {"--epochs"}},
      {{"train", "images.idx", "--out", "r", "--learning-rate", "0"}, {"--learning-rate", "'0'", "above 0"}},
      {{"train", "images.idx", "--out", "r", "--learning-rate", "-1"},
       {"--learning-rate", "'-1'", "above 0"}},
      {{"train", "images.idx", "--out", "r", "--learning-rate", "nan"},
       {"--learning-rate", "'nan'", "above 0"}},
      {{"train", "images.idx", "--out", "r", "--learning-rate", "inf"}, {"--learning-rate", "'inf'"}},
      {{"train", "images.idx", "--out", "r", "--learning-rate", "1e-300"}, {"learning-rate"}},
      {{"train", "images.idx", "--out", "r", "--generative-learning-rate", "0,1"},
       {"--generative-learning-rate"}},
      {{"train", "images.idx", "--out", "r", "--optimizer", "adamm"},
       {"--optimizer", "'adamm'", "did you mean adam?"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "reweighted-wake-slep"},
       {"--algorithm", "'reweighted-wake-slep'", "did you mean reweighted-wake-sleep?"}},
      {{"train", "images.idx", "--out", "r", "--samples", "5"},
       {"--samples", "of no use to the algorithm wake-sleep", "another --algorithm"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "wake-sleep", "--insomnia", "1"}, {"--insomnia"}},
      {{"train", "images.idx", "--out", "r", "--control-variate"}, {"--control-variate"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "reweighted-wake-sleep", "--samples", "0"},
       {"--samples", "'0'"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "reweighted-wake-sleep", "--insomnia", "1.5"},
       {"--insomnia", "'1.5'"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "reweighted-wake-sleep", "--control-variate=yes"},
       {"option --control-variate", "'yes'", "true or false"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "reweighted-wake-sleep", "--samples", "8388608"},
       {"batch-size 100 times samples 8388608"}},
      {{"train", "images.idx", "--out", "r", "--algorithm", "vimco", "--samples", "1"},
       {"option --samples is 1, but vimco compares"}},
      {{"train", "images.idx", "--out", "r", "--warm-up", "0"}, {"--warm-up", "'0'"}},
      {{"train", "images.idx", "--out", "r", "--clip-gradient", "0"}, {"--clip-gradient", "'0'", "above 0"}},
      {{"train", "images.idx", "--out", "r", "--clip-gradient", "-1"}, {"--clip-gradient", "'-1'"}},
      {{"train", "images.idx", "--out", "r", "--clip-gradient", "nan"}, {"--clip-gradient", "'nan'"}},
      {{"train", "images.idx", "--out", "r", "--early-stopping", "0"}, {"--early-stopping", "'0'"}},
      {{"train", "images.idx", "--out", "r", "--patience", "2"},
       {"--patience", "of no use", "--schedule plateau"}},
      {{"train", "images.idx", "--out", "r", "--min-improvement", "2"},
       {"--min-improvement", "of no use", "--early-stopping"}},
      {{"train", "images.idx", "--out", "r", "--schedule", "plateau", "--patience", "0"},
       {"--patience", "'0'"}},
      {{"train", "images.idx", "--out", "r", "--schedule", "plateau"}, {"plateau", "--validation"}},
      {{"train", "images.idx", "--out", "r", "--early-stopping", "3"}, {"--early-stopping", "--validation"}},
      {{"train", "images.idx", "--out", "r", "--weight-bits", "7"}, {"--weight-bits", "'7'", "16, 12 or 8"}},
      {{"train", "images.idx", "--out", "r", "--layers", "20,,3"}, {"--layers", "200,200,200"}},
      {{"train", "images.idx", "--out", "r", "--layers", "20,0"}, {"--layers"}},
      {{"train", "images.idx", "--out", "r", "--momentum", "1"}, {"--momentum", "below 1"}},
      {{"train", "images.idx", "--out", "r", "--seed", "-1"}, {"--seed", "18446744073709551615"}},
      {{"train", "images.idx", "--out", "r", "--device", "gpu"}, {"--device", "'gpu'", "cuda:N"}},
      {{"train", "images.idx", "--out", "r", "--device", "cpu", "--route", "fp16"}, {"fp16", "reference"}},
      {{"train", "images.idx", "--out", "r", "--image-shape", "6"}, {"--image-shape", "28x28"}},
      {{"train", "images.idx", "--out", "r", "--threshold", "256"}, {"--threshold", "1 to 255"}},
      {{"train", "images.idx", "--out", "r", "--threshold", "9", "--binarize", "dynamic"},
       {"option --threshold is of no use", "choose --binarize threshold"}},
      {{"train", "images.idx", "--out", "r", "--optimizer", "sgd", "--momentum", "0.3"},
       {"option --momentum is of no use", "choose --optimizer momentum or adam"}},
      {{"train", "images.idx", "--out", "r", "--optimizer", "momentum", "--second-momentum", "0.3"},
       {"option --second-momentum is of no use", "choose --optimizer adam"}},
      {{"train", "images.idx", "--out", "r", "--optimizer", "momentum", "--epsilon", "0.3"},
       {"option --epsilon is of no use", "choose --optimizer adam"}},
      {{"train", "images.idx", "--out", "r", "--schedule", "plateau", "--schedule-every", "3"},
       {"option --schedule-every is of no use", "choose --schedule step"}},
      {{"train", "images.idx", "--out", "r", "--schedule-factor", "0.3"},
       {"option --schedule-factor is of no use", "choose --schedule step or plateau"}},
      {{"train", "images.idx", "--out", "r", "--batch-size", "101", "--device", "cpu"}, {"101", "100"}},
      {{"train", "images.idx", "--out", "r", "--validation", "1.5"}, {"--validation", "1.5"}},
      {{"train", "images.idx", "--out", "r", "--validation", "0"}, {"--validation"}},
      {{"train", "images.idx", "--out", "r", "--validation", "0.001"}, {"--validation"}},
      {{"train", "images.idx", "--out", "r", "--resume", "--force"}, {"--resume", "--force"}},
      {{"sample", "m", "--out", "dreams.jpg"}, {"--out", "'dreams.jpg'", ".png", ".npy"}},
      {{"encode", "m", "images.idx", "--out", "codes.png"}, {"--out", ".npy"}},
      {{"sample", "m", "--out", "d.png", "--count", "0"}, {"--count"}},
      {{"bench", "--layers", "30"}, {"--layers", "'30'"}},
      {{"bench", "--layers", "30,9", "--samples", "7"},
       {"--samples", "of no use to the algorithm wake-sleep"}},
      {{"train", "images.idx", "--out", "r", "--quiet=maybe"},
       {"option --quiet", "'maybe'", "true or false"}},
      {{"train", "images.idx", "--out", "r", "--resume=1"}, {"option --resume", "'1'", "true or false"}},
      {{"info", "m", "--json=yes"}, {"option --json", "'yes'", "true or false"}},
  };
  for (const auto& c : cases) expect_failure(c.words, 64, c.expected);
  EXPECT_FALSE(fs::exists(path("r")));
}

// ------------------------------------------------------------------------------ data

TEST_F(CommandTest, BadDataIsRefusedAndLeavesNothing) {
  const std::string good = text_of(idx_images(20));
  write_text(path("empty.idx"), "");
  write_text(path("truncated.idx"), good.substr(0, good.size() - 7));
  write_text(path("long.idx"), good + "x");
  write_text(path("magic.idx"), "not data at all: " + good);
  write_bytes(path("no-rows.idx"), idx_header(8, {0, 6, 5}));
  write_bytes(path("absurd.idx"), idx_header(8, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}));
  write_text(path("labels.idx"), text_of(idx_header(8, {3})) + std::string(3, '\1'));
  const std::string packed = text_of(gz(idx_images(20)));
  write_text(path("broken.idx.gz"), packed.substr(0, packed.size() / 2));
  write_bytes(path("dtype.npy"), npy_with_dictionary(npy_dictionary("<f8", "(2, 2)"), Bytes(32)));
  const float values[] = {0.0f, 1.0f, 0.5f, std::numeric_limits<float>::quiet_NaN()};
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(values);
  write_bytes(path("nan.npy"),
              npy_with_dictionary(npy_dictionary("<f4", "(2, 2)"), Bytes(bytes, bytes + sizeof values)));
  write_text(path("range.amat"), "0 1 0\n0 2 1\n");
  fs::create_directory(path("folder"));
  const struct {
    std::string file;
    std::vector<std::string> expected;
  } cases[] = {
      {"missing.idx", {"missing.idx"}},
      {"empty.idx", {"empty.idx"}},
      {"truncated.idx", {"truncated.idx"}},
      {"long.idx", {"long.idx"}},
      {"magic.idx", {"magic.idx"}},
      {"no-rows.idx", {"no-rows.idx"}},
      {"absurd.idx", {"absurd.idx"}},
      {"labels.idx", {"labels"}},
      {"broken.idx.gz", {"broken.idx.gz"}},
      {"dtype.npy", {"dtype.npy"}},
      {"nan.npy", {"nan.npy", "row"}},
      {"range.amat", {"range.amat", "line 2, column 2"}},
      {"folder", {"folder"}},
  };
  for (const auto& c : cases)
    expect_failure({"train", c.file, "--out", "r", "--device", "cpu"}, 65, c.expected);
  EXPECT_FALSE(fs::exists(path("r")));
}

TEST_F(CommandTest, ReadsCompressedDataAndBitPackedRows) {
  write_bytes(path("images.idx.gz"), gz(idx_images(100)));
  Words words = training("compressed");
  words[1] = "images.idx.gz";
  ASSERT_EQ(run(words).exit_code, 0);
  EXPECT_EQ(hash_of("compressed/model.safetensors"), hash_of(trained()));

  Bytes bits;
  for (int r = 0; r < 40; ++r) {
    for (const int byte : {0x5A, 0xC3, 0x0F, r % 2 == 0 ? 0x80 : 0x40}) {
      bits.push_back(static_cast<std::uint8_t>(byte));
    }
  }
  write_bytes(path("packed.npy"), npy_with_dictionary(npy_dictionary("|u1", "(40, 4)"), bits));
  Words packed = training("packed", {"--row-length", "30", "--image-shape", "5x6"});
  packed[1] = "packed.npy";
  ASSERT_EQ(run(packed).exit_code, 0);
  const nlohmann::json info = json_of({"info", "packed/model.safetensors", "--json"});
  EXPECT_EQ(info.at("layers"), nlohmann::json({30, 9, 5}));
  EXPECT_EQ(info.at("image_height"), 5);
}

TEST_F(CommandTest, ValidationOfAnotherSizeIsRefused) {
  write_text(path("wide.idx"), text_of(idx_header(8, {2, 2, 2})) + std::string(8, '\0'));
  expect_failure(training("r", {"--validation", "wide.idx"}), 65, {"wide.idx", "4 units", "30"});
  EXPECT_FALSE(fs::exists(path("r")));
}

// ------------------------------------------------------------------------------ models

TEST_F(CommandTest, DamagedModelsAreRefused) {
  const std::string model = read_text(path(trained()));
  write_text(path("truncated"), model.substr(0, model.size() - 1));
  write_text(path("empty"), "");
  std::string flipped = model;
  flipped[flipped.size() - 10] = static_cast<char>(flipped[flipped.size() - 10] ^ 1);
  write_text(path("flipped"), flipped);
  std::string hostile = model;
  for (std::size_t i = 0; i < 8; ++i) hostile[i] = '\xFF';  // a header of 2^64 - 1 bytes
  write_text(path("hostile"), hostile);
  for (const std::string file : {"truncated", "empty", "flipped", "hostile", "missing"}) {
    expect_failure({"info", file}, 65, {file});
    expect_failure({"sample", file, "--out", "dreams.png"}, 65, {file});
  }
  EXPECT_FALSE(fs::exists(path("dreams.png")));
}

TEST_F(CommandTest, ModelOfAnotherSizeThanTheDataIsRefused) {
  const std::string model = trained();
  write_text(path("small.idx"), text_of(idx_header(8, {2, 3, 3})) + std::string(18, '\0'));
  for (const std::string command : {"evaluate", "encode", "reconstruct"}) {
    Words words = {command, model, "small.idx"};
    if (command != "evaluate") words.insert(words.end(), {"--out", "codes.npy"});
    expect_failure(words, 65, {"small.idx", "9 units", "30 visible units"});
  }
  EXPECT_FALSE(fs::exists(path("codes.npy")));
}

TEST_F(CommandTest, InfoDescribesModelsAndCheckpoints) {
  const nlohmann::json info = json_of({"info", trained(), "--json"});
  EXPECT_EQ(info.at("layers"), nlohmann::json({30, 9, 5}));
  EXPECT_EQ(info.at("step"), 21);
  EXPECT_EQ(info.at("seed"), 1);
  EXPECT_EQ(info.at("algorithm"), "wake-sleep");
  EXPECT_EQ(info.at("parameters"), 30 * 9 * 2 + 9 + 30 + 9 * 5 * 2 + 5 + 9 + 5);
  EXPECT_EQ(info.at("contract"), arithmetic_contract);
  EXPECT_EQ(info.at("has_optimizer_state"), false);
  EXPECT_EQ(info.at("settings").at("generative-learning-rate"), "0.01");
  EXPECT_EQ(info.at("hash").get<std::string>().size(), 64u);
  const nlohmann::json checkpoint = json_of({"info", "run/checkpoints/step-000000021.safetensors", "--json"});
  EXPECT_EQ(checkpoint.at("hash"), info.at("hash"));
  EXPECT_EQ(checkpoint.at("has_optimizer_state"), true);
  EXPECT_EQ(checkpoint.at("checkpoint"), true);
  EXPECT_EQ(info.at("checkpoint"), false);
  EXPECT_THAT(info.at("promise").get<std::string>(), Not(HasSubstr("outside")));
  const std::string text = run({"info", "run/model.safetensors"}).out;
  EXPECT_THAT(text, HasSubstr(info.at("hash").get<std::string>()));
  EXPECT_THAT(text, HasSubstr("30-9-5"));
}

TEST_F(CommandTest, InfoTellsACheckpointWithoutOptimiserStateFromAModel) {
  ASSERT_EQ(run(training("sgd", {"--optimizer", "sgd"})).exit_code, 0);
  const std::string file = "sgd/checkpoints/step-000000021.safetensors";
  const nlohmann::json checkpoint = json_of({"info", file, "--json"});
  EXPECT_EQ(checkpoint.at("has_optimizer_state"), false);
  EXPECT_EQ(checkpoint.at("checkpoint"), true);
  EXPECT_THAT(run({"info", file}).out,
              AllOf(ContainsRegex("file +a checkpoint"), ContainsRegex("optimiser state +none")));
  EXPECT_EQ(json_of({"info", "sgd/model.safetensors", "--json"}).at("checkpoint"), false);
  EXPECT_THAT(run({"info", "sgd/model.safetensors"}).out, ContainsRegex("file +a finished model"));
}

TEST_F(CommandTest, InfoShowsTheAlgorithmAndItsSettings) {
  write_text(path("reweighted.toml"),
             "algorithm = \"reweighted-wake-sleep\"\nsamples = 4\ncontrol-variate = true\n");
  const Result result = run(training("run", {"--config", "reweighted.toml"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json info = json_of({"info", "run/model.safetensors", "--json"});
  EXPECT_EQ(info.at("algorithm"), "reweighted-wake-sleep");
  EXPECT_EQ(info.at("settings").at("samples"), "4");
  EXPECT_EQ(info.at("settings").at("insomnia"), "0.5");
  EXPECT_EQ(info.at("settings").at("control-variate"), "true");
  EXPECT_THAT(run({"info", "run/model.safetensors"}).out, HasSubstr("reweighted-wake-sleep"));
  const nlohmann::json settings = json_of({"info", trained_as("plain"), "--json"}).at("settings");
  for (const std::string name : {"samples", "insomnia", "control-variate"}) {
    EXPECT_FALSE(settings.contains(name)) << name << " is of no use to wake-sleep";
  }
  // The options of a run are those of its configuration file.
  const Result again = run({"train", "--config", "run/config.toml", "--out", "again"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(hash_of("again/model.safetensors"), hash_of("run/model.safetensors"));
}

TEST_F(CommandTest, AnAutoregressivePriorIsTrainedDescribedEvaluatedAndReadOut) {
  ASSERT_EQ(run(training("run", {"--prior", "autoregressive"})).exit_code, 0);
  const std::string model = "run/model.safetensors";
  const nlohmann::json info = json_of({"info", model, "--json"});
  EXPECT_EQ(info.at("prior"), "autoregressive");
  EXPECT_EQ(info.at("settings").at("prior"), "autoregressive");
  EXPECT_EQ(info.at("parameters"), 30 * 9 * 2 + 9 + 30 + 9 * 5 * 2 + 5 + 9 + 5 + 5 * 5);
  EXPECT_THAT(run({"info", model}).out, HasSubstr("autoregressive"));
  const nlohmann::json plain = json_of({"info", trained_as("plain"), "--json"});
  EXPECT_EQ(plain.at("prior"), "factorial");
  EXPECT_FALSE(plain.at("settings").contains("prior"));
  EXPECT_NE(plain.at("hash"), info.at("hash"));
  ASSERT_EQ(run(training("explicit", {"--prior", "factorial"})).exit_code, 0);
  EXPECT_EQ(hash_of("explicit/model.safetensors"), plain.at("hash"));

  const double exact =
      json_of({"evaluate", model, "images.idx", "--exact", "--json"}).at("exact_log_likelihood");
  const double estimate =
      json_of({"evaluate", model, "images.idx", "--samples", "2000", "--json"}).at("log_likelihood");
  EXPECT_NEAR(estimate, exact, 0.1);
  ASSERT_EQ(run({"sample", model, "--count", "7", "--out", "dreams.png"}).exit_code, 0);
  ASSERT_EQ(run({"reconstruct", model, "images.idx", "--out", "again.png", "--limit", "5"}).exit_code, 0);
  EXPECT_THAT(read_text(path("run/report.html")), HasSubstr("autoregressive"));

  write_text(path("prior.toml"), "prior = \"autoregressive\"\n");
  ASSERT_EQ(run(training("config", {"--config", "prior.toml"})).exit_code, 0);
  EXPECT_EQ(hash_of("config/model.safetensors"), info.at("hash"));
  expect_failure(training("none", {"--prior", "regressive"}), 64, {"--prior", "'regressive'"});
}

TEST_F(CommandTest, GaussianVisibleUnitsAreTrainedDescribedEvaluatedAndReadOut) {
  const Words gaussian = {"--visible", "gaussian", "--visible-deviation", "0.25"};
  const Result trained = run(training("run", gaussian));
  ASSERT_EQ(trained.exit_code, 0);
  EXPECT_THAT(trained.out, AllOf(HasSubstr("log-density estimate"), Not(HasSubstr("likelihood"))));
  const std::string model = "run/model.safetensors";
  const nlohmann::json info = json_of({"info", model, "--json"});
  EXPECT_EQ(info.at("visible"), "gaussian");
  EXPECT_EQ(info.at("settings").at("visible-deviation"), "0.25");
  EXPECT_FALSE(info.at("settings").contains("binarize"));
  EXPECT_THAT(run({"info", model}).out, HasSubstr("gaussian, deviation 0.25"));
  EXPECT_EQ(json_of({"info", trained_as("plain"), "--json"}).at("visible"), "bernoulli");
  EXPECT_THAT(read_text(path("run/report.html")),
              AllOf(HasSubstr("log-density estimate"), HasSubstr("<h2>Log-density</h2>"),
                    HasSubstr("Visible means of"), Not(HasSubstr("ikelihood"))));

  const double exact =
      json_of({"evaluate", model, "images.idx", "--exact", "--json"}).at("exact_log_likelihood");
  const double estimate =
      json_of({"evaluate", model, "images.idx", "--samples", "2000", "--json"}).at("log_likelihood");
  EXPECT_NEAR(estimate, exact, 0.3);
  EXPECT_THAT(run({"evaluate", model, "images.idx", "--exact"}).out,
              AllOf(HasSubstr("log-density estimate (K="), HasSubstr("exact log-density")));
  EXPECT_THAT(run({"sample", model, "--count", "7", "--out", "dreams.npy"}).out, HasSubstr("visible means"));
  ASSERT_EQ(run({"reconstruct", model, "images.idx", "--out", "again.png", "--limit", "5"}).exit_code, 0);

  ASSERT_EQ(run({"train", "--config", "run/config.toml", "--out", "again"}).exit_code, 0);
  EXPECT_EQ(hash_of("again/model.safetensors"), info.at("hash"));
  fs::remove(path(model));
  expect_failure({"train", "--resume", "--out", "run", "--visible-deviation", "0.5"}, 64,
                 {"visible-deviation 0.5", "the run has 0.25"});
  ASSERT_EQ(run({"train", "--resume", "--out", "run"}).exit_code, 0);
  EXPECT_EQ(hash_of(model), info.at("hash"));

  expect_failure(training("none", {"--visible", "gauss"}), 64, {"--visible", "'gauss'"});
  expect_failure(training("none", {"--visible", "gaussian", "--visible-deviation", "0"}), 64,
                 {"--visible-deviation", "'0'"});
  expect_failure(training("none", {"--visible-deviation", "0.2"}), 64, {"--visible gaussian"});
  expect_failure(training("none", {"--visible", "gaussian", "--algorithm", "natural-reweighted-wake-sleep"}),
                 64, {"visible is gaussian", "Fisher"});
}

TEST_F(CommandTest, ARunOutsideTheContractSaysSo) {
  const Words natural = {
      "--algorithm", "natural-reweighted-wake-sleep", "--fisher", "woodbury", "--samples", "2"};
  const Result result = run(training("run", natural));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string outside = "natural gradients are outside it";
  EXPECT_THAT(result.err, HasSubstr(outside));
  EXPECT_THAT(run({"info", "run/model.safetensors"}).out, HasSubstr(outside));
  const nlohmann::json info = json_of({"info", "run/model.safetensors", "--json"});
  EXPECT_THAT(info.at("promise").get<std::string>(), HasSubstr(outside));
  EXPECT_EQ(info.at("settings").at("fisher"), "woodbury");
  EXPECT_EQ(info.at("settings").at("fisher-damping"), "0.2");
  EXPECT_EQ(info.at("settings").at("fisher-refresh"), "100");
  const nlohmann::json plain = json_of({"info", trained_as("plain"), "--json"});
  EXPECT_THAT(plain.at("promise").get<std::string>(), HasSubstr("on every device"));
}

// ------------------------------------------------------------------------------ results

TEST_F(CommandTest, EvaluateNamesItsNumbers) {
  const std::string model = trained();
  const Words words = {"evaluate", model, "images.idx", "--samples", "200", "--limit", "50", "--exact"};
  Words as_json = words;
  as_json.push_back("--json");
  const nlohmann::json json = json_of(as_json);
  for (const std::string key :
       {"nll", "log_likelihood", "standard_error", "bound", "bound_standard_error", "effective_sample_size",
        "rows", "samples", "layer_kl", "active_units", "layer_mismatch", "images_per_second", "seconds",
        "visible", "hash", "exact_log_likelihood"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json.size(), 16u);
  EXPECT_EQ(json.at("rows"), 50);
  EXPECT_EQ(json.at("samples"), 200);
  EXPECT_EQ(json.at("nll"), -json.at("log_likelihood").get<double>());
  EXPECT_LT(json.at("bound"), json.at("log_likelihood"));
  // The estimate is below the exact value by less than a nat here, and by no more than noise above it.
  EXPECT_NEAR(json.at("exact_log_likelihood").get<double>(), json.at("log_likelihood").get<double>(), 1.0);
  EXPECT_GT(json.at("exact_log_likelihood"), json.at("bound"));

  const std::string text = run(words).out;
  EXPECT_THAT(text, HasSubstr("log-likelihood estimate (K=200)"));
  EXPECT_THAT(text, HasSubstr("bound (K=1)"));
  EXPECT_THAT(text, HasSubstr("exact log-likelihood (enumeration)"));
}

TEST_F(CommandTest, ExactLikelihoodOfWideLayersIsRefused) {
  Words words = training("wide");
  words[3] = "20,20";
  ASSERT_EQ(run(words).exit_code, 0);
  expect_failure({"evaluate", "wide/model.safetensors", "images.idx", "--exact"}, 64, {"24"});
  expect_failure({"evaluate", "wide/model.safetensors", "images.idx", "--dreams", "10"}, 64,
                 {"--dreams is for models trained as bidirectional-helmholtz", "wake-sleep"});
}

TEST_F(CommandTest, WhereTheRowsAreKeptChangesNoBitAndIsSaid) {
  const Result by_itself = run(training("run"));
  EXPECT_THAT(by_itself.err, HasSubstr("of rows resident on the device: auto"));
  const Result streamed =
      run(training("streamed", {"--data-placement", "streamed", "--binarize", "dynamic"}));
  EXPECT_THAT(streamed.err, HasSubstr("of rows stay in host memory, streamed through"));
  const Result resident =
      run(training("resident", {"--data-placement", "resident", "--binarize", "dynamic"}));
  EXPECT_THAT(resident.err, HasSubstr("of rows resident on the device: --data-placement resident"));
  EXPECT_EQ(hash_of("streamed/model.safetensors"), hash_of("resident/model.safetensors"));
  EXPECT_NE(hash_of("streamed/model.safetensors"), hash_of("run/model.safetensors"));
}

TEST_F(CommandTest, BenchStreamsRows) {
  const Words words = {"bench",    "--layers", "30,9", "--batch-size", "8",   "--seconds",
                       "0.05",     "--rounds", "3",    "--device",     "cpu", "--data-placement",
                       "streamed", "--json"};
  const Result result = run(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("streamed data"));
  EXPECT_EQ(nlohmann::json::parse(result.out).at("streamed"), true);
}

TEST_F(CommandTest, BenchHasGaussianVisibleUnits) {
  const Words words = {"bench",    "--layers", "30,9", "--batch-size", "8",   "--seconds",
                       "0.05",     "--rounds", "3",    "--device",     "cpu", "--visible",
                       "gaussian", "--json"};
  const Result result = run(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("visible"), "gaussian");
  EXPECT_THAT(result.err, HasSubstr("resident data 9.0 KB"));  // of 128 rows, 30 bytes and 40 to order them
}

TEST_F(CommandTest, BenchReportsItsKeys) {
  const nlohmann::json json =
      json_of({"bench", "--layers", "30,9,5", "--batch-size", "8", "--seconds", "0.05", "--rounds", "3",
               "--device", "cpu", "--threads", "1", "--json"});
  for (const std::string key :
       {"images_per_second", "step_ms", "products_ms", "step_over_products", "multiply_adds_per_step",
        "peak_multiply_adds_per_second", "peak_width", "products_share_of_peak", "step_share_of_peak",
        "rounds", "layers", "batch_size", "weight_bits", "optimizer", "streamed", "threads", "device",
        "memory_bytes"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json.at("layers"), nlohmann::json({30, 9, 5}));
  EXPECT_EQ(json.at("rounds"), 3);
  EXPECT_GT(json.at("images_per_second"), 0);
}

TEST_F(CommandTest, BenchTrainsOnTheRowsOfAFile) {
  const Words words = {"bench", "--batch-size", "8", "--seconds", "0.05", "--rounds", "2", "--device", "cpu"};
  const auto with = [&](const Words& more) {
    Words all = words;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const Result result =
      run(with({"--layers", "30,9", "--data", "images.idx", "--after", "107", "--learning-rate", "0.25",
                "--recognition-learning-rate", "0.5", "--json"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("resident data 4.4 KB"));  // of 100 rows, 4 bytes and 40 to order them
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("data"), "images.idx");
  EXPECT_EQ(json.at("after"), 107);
  EXPECT_EQ(json.at("generative_learning_rate"), 0.25);
  EXPECT_EQ(json.at("recognition_learning_rate"), 0.5);
  EXPECT_THAT(run(with({"--layers", "30,9", "--data", "images.idx"})).out,
              ContainsRegex("data +images.idx, after 0 steps"));

  expect_failure(with({"--layers", "31,9", "--data", "images.idx"}), 64,
                 {"--layers", "31", "images.idx", "30"});
  expect_failure(with({"--layers", "30,9", "--data", "none.idx"}), 65, {"none.idx"});
  expect_failure(with({"--layers", "30,9", "--image-shape", "5x6"}), 64, {"--image-shape", "--data"});
}

TEST_F(CommandTest, BenchLearnsAtItsRatesHoweverManyStepsItTrainsBefore) {
  // An epoch of random data has 16 steps, so these are 60 epochs.
  const nlohmann::json json =
      json_of({"bench", "--layers", "30,9", "--batch-size", "8", "--after", "960", "--learning-rate", "0.25",
               "--seconds", "0.05", "--rounds", "1", "--device", "cpu", "--threads", "1", "--json"});
  EXPECT_EQ(json.at("generative_learning_rate"), 0.25);
  EXPECT_EQ(json.at("recognition_learning_rate"), 0.25);
}

TEST_F(CommandTest, BenchTakesManySamplesAndReportsTheMemoryOfTheTraining) {
  const auto bench = [&](const std::string& batch_size, const std::string& samples) {
    return json_of({"bench", "--layers", "5,3", "--algorithm", "reweighted-wake-sleep", "--batch-size",
                    batch_size, "--samples", samples, "--seconds", "0.05", "--rounds", "1", "--device", "cpu",
                    "--threads", "1", "--json"});
  };
  const double many = bench("1", "40000").at("memory_bytes");  // twice 128 rows would be too many
  EXPECT_LT(many, 100e6);
  const double as_many_images = bench("40000", "1").at("memory_bytes");
  EXPECT_LT(many, 3 * as_many_images);
}

TEST_F(CommandTest, BenchReportsSharesOfThePeak) {
  Words words = {"bench",    "--layers", "30,9,5",   "--batch-size", "8",         "--seconds", "0.05",
                 "--rounds", "3",        "--device", "cpu",          "--threads", "1"};
  const Result text = run(words);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.err, HasSubstr("products for the peak "));
  EXPECT_THAT(
      text.out,
      ContainsRegex("peak of integer products +[0-9.]+ billion multiply-adds/s, by a square of [0-9,]+"));
  EXPECT_THAT(text.out, ContainsRegex("share of the peak +products [0-9.]+ %, step [0-9.]+ %"));

  words.push_back("--json");
  const nlohmann::json json = json_of(words);
  const double multiply_adds = 6 * 8 * (30 * 9 + 9 * 5);
  EXPECT_EQ(json.at("multiply_adds_per_step"), multiply_adds);
  const double peak = json.at("peak_multiply_adds_per_second");
  EXPECT_GT(peak, 0);
  EXPECT_GE(json.at("peak_width"), 256);
  EXPECT_GT(json.at("step_share_of_peak"), 0);
  EXPECT_NEAR(json.at("step_share_of_peak"), 1e3 * multiply_adds / json.at("step_ms").get<double>() / peak,
              1e-9);
  EXPECT_NEAR(json.at("products_share_of_peak"),
              1e3 * multiply_adds / json.at("products_ms").get<double>() / peak, 1e-9);
}

/// The header of an NPY file as numpy writes it for this type and shape.
void expect_npy(const fs::path& file, const std::string& type, std::int64_t rows, std::int64_t columns,
                std::size_t item_bytes) {
  const std::string bytes = read_text(file);
  ASSERT_GT(bytes.size(), 10u);
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\0", 8));
  const std::size_t header =
      static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  EXPECT_EQ((10 + header) % 64, 0u);
  EXPECT_THAT(bytes.substr(10, header), HasSubstr("'descr': '" + type + "'"));
  EXPECT_THAT(bytes.substr(10, header),
              HasSubstr("'shape': (" + std::to_string(rows) + ", " + std::to_string(columns) + ")"));
  EXPECT_EQ(bytes.size(), 10 + header + static_cast<std::size_t>(rows * columns) * item_bytes);
}

TEST_F(CommandTest, ReadsAModelOutToArraysAndPictures) {
  const std::string model = trained();
  ASSERT_EQ(run({"sample", model, "--count", "7", "--out", "dreams.npy"}).exit_code, 0);
  expect_npy(path("dreams.npy"), "<f4", 7, 30, 4);
  ASSERT_EQ(run({"encode", model, "images.idx", "--out", "codes.npy"}).exit_code, 0);
  expect_npy(path("codes.npy"), "<f4", 100, 5, 4);
  ASSERT_EQ(
      run({"encode", model, "images.idx", "--layer", "1", "--states", "--limit", "33", "--out", "states.npy"})
          .exit_code,
      0);
  expect_npy(path("states.npy"), "|u1", 33, 9, 1);
  ASSERT_EQ(run({"reconstruct", model, "images.idx", "--limit", "31", "--out", "again.npy"}).exit_code, 0);
  expect_npy(path("again.npy"), "<f4", 31, 30, 4);
  ASSERT_EQ(run({"reconstruct", model, "images.idx", "--out", "again.png", "--limit", "13"}).exit_code, 0);
  ASSERT_EQ(run({"sample", model, "--count", "7", "--out", "dreams.png"}).exit_code, 0);
  for (const std::string picture : {"again.png", "dreams.png"}) {
    EXPECT_EQ(read_text(path(picture)).substr(1, 3), "PNG");
  }
  expect_failure({"encode", model, "images.idx", "--layer", "3", "--out", "none.npy"}, 64,
                 {"--layer", "1 to 2"});
  EXPECT_FALSE(fs::exists(path("none.npy")));
}

TEST_F(CommandTest, TheSeedDecidesTheSamples) {
  const std::string model = trained();
  const auto dreams = [&](const std::string& seed, const std::string& threads) {
    EXPECT_EQ(
        run({"sample", model, "--out", "d.npy", "--seed", seed, "--threads", threads, "--device", "cpu"})
            .exit_code,
        0);
    return read_text(path("d.npy"));
  };
  const std::string one = dreams("1", "1");
  EXPECT_EQ(dreams("1", "2"), one);
  EXPECT_NE(dreams("2", "1"), one);
}

TEST_F(CommandTest, QuietPrintsResultsOnly) {
  const Result result = run(training("run", {"--quiet"}));
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("hash"));
  const Result evaluated = run({"evaluate", "run/model.safetensors", "images.idx", "--quiet"});
  EXPECT_EQ(evaluated.err, "");
  EXPECT_THAT(evaluated.out, HasSubstr("bound (K=1)"));
}

// ------------------------------------------------------------------------------ output

TEST_F(CommandTest, AFileInPlaceOfTheRunFolderIsRefused) {
  write_text(path("afile"), "content");
  for (const std::string out : {"afile", "afile/", "afile/x", "afile/x/y"}) {
    for (const Words& more : {Words{}, Words{"--resume"}, Words{"--force"}}) {
      const Result result = run(training(out, more));
      expect_failed(result, 73, {"the run folder afile", "afile is no folder", "give another --out"}, out);
      EXPECT_THAT(result.err, Not(HasSubstr("config.toml")));
    }
  }
  EXPECT_EQ(read_text(path("afile")), "content");
}

TEST_F(CommandTest, UnwritableOutputIsRefusedBeforeComputing) {
  const std::string model = trained();
  expect_failure(training("images.idx/run"), 73, {"images.idx"});
  expect_failure(training("images.idx"), 73, {"images.idx"});
  expect_failure({"sample", model, "--out", "nowhere/dreams.png"}, 73, {"nowhere/dreams.png"});
  expect_failure({"sample", model, "--out", "images.idx/dreams.npy"}, 73, {"images.idx/dreams.npy"});
}

// Without privileges: no file may grow beyond a limit. The signal for that, which ends a process that does
// not ignore it, must come out as an error, too.
TEST_F(CommandTest, AFileThatMayNotGrowIsAnErrorAndLeavesNothingBehind) {
  const std::string model = trained();
  const Result sampled = run({"sample", model, "--out", "dreams.npy", "--quiet"}, {.file_bytes = 1024});
  expect_failed(sampled, 74, {"dreams.npy", "File too large", "ulimit -f"}, "sample");
  EXPECT_FALSE(fs::exists(path("dreams.npy")));

  const struct {
    rlim_t limit;
    std::string file;
  } cases[] = {{512, "config.toml"}, {4096, "checkpoints/step-000000000.safetensors"}};
  for (const auto& c : cases) {
    fs::create_directory(path("empty"));
    fs::create_directories(path("killed/checkpoints"));
    write_text(path("killed/.lock"), "");
    const auto killed = contents_of(path("killed"));
    for (const std::string out : {"run-1", "new/folders/run-2", "empty", "killed", "empty/run-3"}) {
      const Result result = run(training(out, {"--quiet"}), {.file_bytes = c.limit});
      expect_failed(result, 74, {out + "/" + c.file, "File too large", "ulimit -f"}, out);
    }
    EXPECT_FALSE(fs::exists(path("run-1")));
    EXPECT_FALSE(fs::exists(path("new")));
    EXPECT_TRUE(fs::is_empty(path("empty"))) << "what was there before stays, and nothing else";
    EXPECT_EQ(contents_of(path("killed")), killed);
  }
  EXPECT_EQ(run(training("empty")).exit_code, 0);
}

TEST_F(CommandTest, AModelTooDeepForAFileLeavesNothingBehind) {
  std::string widths = "1";
  for (int layer = 1; layer < 6000; ++layer) widths += ",1";
  Words words = training("deep/run", {"--quiet"});
  words[3] = widths;
  // Without expect_failure, which would show all these layers.
  const Result result = run(words);
  EXPECT_EQ(result.exit_code, 64);
  EXPECT_THAT(result.err, HasSubstr("6000 hidden layers"));
  EXPECT_FALSE(fs::exists(path("deep")));
}

TEST_F(CommandTest, AFailingResumedRunKeepsWhatIsThere) {
  const std::string expected = hash_of(trained());
  const Result failed = run(training("new", {"--resume", "--quiet"}), {.file_bytes = 4096});
  expect_failed(failed, 74, {"new/checkpoints"}, "train");
  EXPECT_TRUE(fs::exists(path("new/config.toml")));
  EXPECT_EQ(run({"train", "--resume", "--out", "new"}).exit_code, 0);
  EXPECT_EQ(hash_of("new/model.safetensors"), expected);
}

TEST_F(CommandTest, AFailingForcedRunKeepsTheOldOne) {
  // The old run still has its first checkpoint, whose name the new one's is to take.
  ASSERT_EQ(run(training("run", {"--checkpoint-every", "1000"})).exit_code, 0);
  const auto before = contents_of(path("run"));
  const Result failed = run(training("run", {"--force", "--seed", "5", "--quiet"}), {.file_bytes = 4096});
  expect_failed(failed, 74, {"run/checkpoints/step-000000000.safetensors"}, "train");
  EXPECT_EQ(contents_of(path("run")), before);
  ASSERT_TRUE(fs::remove(path("run/model.safetensors")));
  ASSERT_EQ(run(training("run", {"--force", "--seed", "5"})).exit_code, 0);
  EXPECT_EQ(json_of({"info", "run/model.safetensors", "--json"}).at("seed"), 5);
}

/// A file system of its own, as small as wanted; only where this process may mount one.
class SmallDisk {
 public:
  SmallDisk(const fs::path& place, const std::string& bytes) : place_(place) {
    fs::create_directory(place);
    mounted_ = ::mount("wakesleep-test", place.c_str(), "tmpfs", 0, ("size=" + bytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(place_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  fs::path place_;
  bool mounted_;
};

TEST_F(CommandTest, AFullDiskAtTheFirstCheckpointLeavesNothingBehind) {
  const SmallDisk disk(path("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "this process may not mount a small disk";
  const auto fill_but = [&](std::uintmax_t bytes) {
    write_text(path("disk/ballast"), std::string(fs::space(path("disk")).available - bytes, 'b'));
  };
  fill_but(8192);  // room for the configuration, not for a checkpoint
  const Result full = run(training("disk/new/run"));
  EXPECT_EQ(full.exit_code, 74);
  EXPECT_THAT(full.err, HasSubstr("disk/new/run/checkpoints/step-000000000.safetensors: No space left"));
  EXPECT_FALSE(fs::exists(path("disk/new")));

  fs::remove(path("disk/ballast"));
  ASSERT_EQ(run(training("disk/new/run")).exit_code, 0) << "the next call must not find a folder in use";
  const auto before = contents_of(path("disk/new/run"));
  fill_but(8192);
  EXPECT_EQ(run(training("disk/new/run", {"--force", "--seed", "5"})).exit_code, 74);
  EXPECT_EQ(contents_of(path("disk/new/run")), before) << "the old run is lost";

  fs::remove(path("disk/ballast"));
  EXPECT_EQ(run(training("disk/new/run", {"--force", "--seed", "5"})).exit_code, 0);
  EXPECT_EQ(json_of({"info", "disk/new/run/model.safetensors", "--json"}).at("seed"), 5);
}

TEST_F(CommandTest, MoreSamplesThanMemoryHoldsAreAnError) {
  if (address_sanitizer) GTEST_SKIP() << "AddressSanitizer reserves more address space than the limit";
  Limits limits;
  limits.memory_bytes = rlim_t{512} << 20;
  const Result result = run({"sample", trained(), "--count", "16777216", "--out", "dreams.npy", "--device",
                             "cpu", "--threads", "1", "--quiet"},
                            limits);
  expect_failed(result, 70, {"not enough memory", "--count"}, "too many samples");
  EXPECT_FALSE(fs::exists(path("dreams.npy")));
}

TEST_F(CommandTest, ThreadsThatCannotBeStartedAreAnError) {
  if (address_sanitizer) GTEST_SKIP() << "AddressSanitizer itself needs more address space than any limit";
  Words words = training("r", {"--quiet"});
  words[11] = "3000";
  // Every thread takes address space for its stack, so this limit holds for every user.
  const Result result = run(words, {.memory_bytes = rlim_t{3} << 30});
  if (result.exit_code == 0) GTEST_SKIP() << "3000 threads fit here";
  expect_failed(result, 69, {"cannot start 3000 threads", "--threads"}, "train");
  EXPECT_FALSE(fs::exists(path("r")));
}

TEST_F(CommandTest, ResultsThatCannotBePrintedAreAnError) {
  const std::string model = trained();
  const Result result = Process(folder(), {"info", model}, {}, "/dev/full").wait();
  EXPECT_EQ(result.exit_code, 74);
  EXPECT_THAT(result.err, HasSubstr("standard output"));
}

TEST_F(CommandTest, AskingForAMissingGpuIsAnError) {
  if (cuda_available()) GTEST_SKIP() << "there is a GPU here";
  expect_failure({"train", "images.idx", "--out", "r", "--device", "cuda"}, 69, {"CUDA"});
  EXPECT_FALSE(fs::exists(path("r")));
  EXPECT_THAT(run(Words{"train", "images.idx", "--layers", "3", "--epochs", "1", "--out", "auto"}).err,
              HasSubstr("CPU, because "));
}

// ------------------------------------------------------------------------------ configuration

TEST_F(CommandTest, CommandLineGoesOverFileOverDefault) {
  write_text(path("run.toml"),
             "data = \"images.idx\"\nlayers = [9, 5]\nepochs = 2\nbatch-size = 20\nlearning-rate = 0.02\n"
             "optimizer = \"sgd\"\ndevice = \"cpu\"\nout = \"run\"\nquiet = true\nvalidation = 0.25\n");
  const Result result =
      run({"train", "--config", "run.toml", "--batch-size", "25", "--recognition-learning-rate", "0.5"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json settings = json_of({"info", "run/model.safetensors", "--json"}).at("settings");
  EXPECT_EQ(settings.at("batch-size"), "25");
  EXPECT_EQ(settings.at("layers"), "9,5");
  EXPECT_EQ(settings.at("epochs"), "2");
  EXPECT_EQ(settings.at("generative-learning-rate"), "0.02");
  EXPECT_EQ(settings.at("recognition-learning-rate"), "0.5");
  EXPECT_EQ(settings.at("optimizer"), "sgd");
  EXPECT_EQ(settings.at("schedule"), "cosine");
  EXPECT_FALSE(settings.contains("momentum"));  // which sgd has no use for
  EXPECT_EQ(nlohmann::json::parse(lines_of(path("run/metrics.jsonl")).front()).at("evaluated_on"),
            "validation");

  // A specific rate of the file gives way to --learning-rate of the command line.
  write_text(path("specific.toml"), "generative-learning-rate = 0.02\n");
  ASSERT_EQ(run(training("specific", {"--config", "specific.toml"})).exit_code, 0);
  EXPECT_EQ(
      json_of({"info", "specific/model.safetensors", "--json"}).at("settings").at("generative-learning-rate"),
      "0.01");
}

TEST_F(CommandTest, TheResolvedConfigurationGivesTheSameModel) {
  ASSERT_EQ(
      run(training("run", {"--schedule", "step", "--seed", "18446744073709551615", "--validation", "0.1"}))
          .exit_code,
      0);
  const Result again = run({"train", "--config", "run/config.toml", "--out", "again"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(hash_of("again/model.safetensors"), hash_of("run/model.safetensors"));
  EXPECT_EQ(read_text(path("again/config.toml")), read_text(path("run/config.toml")));
}

TEST_F(CommandTest, BadConfigurationNamesLineAndColumn) {
  const struct {
    std::string text;
    std::vector<std::string> expected;
    int exit_code = 64;
  } cases[] = {
      {"epochs = 3\nlearing-rate = 0.1\n",
       {"bad.toml:2:1", "unknown key learing-rate", "did you mean learning-rate?"}},
      {"epochs = 3\n\n  batch-size = \"many\"\n",
       {"bad.toml:3:16", "batch-size", "a string", "a whole number"}},
      {"epochs = 2.5\n", {"bad.toml:1:10", "epochs", "floating-point"}},
      {"layers = [3, 4.5]\n", {"bad.toml:1:", "layers", "an array"}},
      {"resume = 1\n", {"bad.toml:1:", "resume", "an integer", "true or false"}},
      {"weight-bits = 9\n", {"bad.toml:1:", "weight-bits", "'9'", "16, 12 or 8"}},
      {"learning-rate = nan\n", {"bad.toml:1:", "learning-rate", "above 0"}},
      {"algorithm = \"vimco\"\nsamples = 1\n", {"bad.toml:2:11: key samples is 1, but vimco compares"}},
      {"learning-rate = 0.5\nweight-decay = 3\n", {"bad.toml:2:16: key weight-decay is 3; choose a smaller"}},
      {"epochs = \n", {"bad.toml:1:", "not valid TOML"}, 65},
      {"epochs = 3\nepochs = 4\n", {"bad.toml:2:"}, 65},
      {"[train]\nepochs = 3\n", {"bad.toml:1:", "unknown key train"}},
      {"config = \"other.toml\"\n", {"bad.toml:1:1", "unknown key config"}},
  };
  for (const auto& c : cases) {
    write_text(path("bad.toml"), c.text);
    expect_failure({"train", "images.idx", "--out", "r", "--config", "bad.toml"}, c.exit_code, c.expected);
  }
  expect_failure({"train", "images.idx", "--out", "r", "--config", "missing.toml"}, 65, {"missing.toml"});
  EXPECT_FALSE(fs::exists(path("r")));
}

// ------------------------------------------------------------------------------ the run folder

TEST_F(CommandTest, ARunLeavesItsFiles) {
  Words words = training("run");
  words[5] = "5";  // epochs
  ASSERT_EQ(run(words).exit_code, 0);
  std::vector<std::string> names;
  for (const auto& [name, content] : contents_of(path("run"))) names.push_back(name);
  EXPECT_THAT(names,
              ::testing::ElementsAre(".lock", "checkpoints", "checkpoints/step-000000028.safetensors",
                                     "checkpoints/step-000000035.safetensors", "config.toml", "metrics.jsonl",
                                     "model.safetensors", "report.html", "samples", "samples/epoch-0001.png",
                                     "samples/epoch-0002.png", "samples/epoch-0005.png"));
  const std::vector<std::string> lines = lines_of(path("run/metrics.jsonl"));
  ASSERT_EQ(lines.size(), 5u);
  const nlohmann::json record = nlohmann::json::parse(lines.back());
  for (const std::string key : {"epoch", "step", "seconds", "images_per_second", "generative_learning_rate",
                                "recognition_learning_rate", "evaluated_on", "rows", "samples",
                                "log_likelihood", "standard_error", "bound", "bound_standard_error",
                                "effective_sample_size", "layer_kl", "active_units", "layer_mismatch"}) {
    EXPECT_TRUE(record.contains(key)) << key;
  }
  EXPECT_EQ(record.at("epoch"), 5);
  EXPECT_EQ(record.at("step"), 35);
  EXPECT_EQ(record.at("evaluated_on"), "training");
  EXPECT_EQ(record.at("samples"), 3);
  EXPECT_EQ(record.at("layer_kl").size(), 2u);
  const std::string report = read_text(path("run/report.html"));
  EXPECT_THAT(report, HasSubstr("<svg"));
  EXPECT_THAT(report, HasSubstr(hash_of("run/model.safetensors")));
}

/// With a true minus sign, as the report writes it.
std::string report_number(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, std::fabs(value));
  return (value < 0 ? "\xE2\x88\x92" : "") + std::string(text.data());
}

/// What follows a heading of the page, up to the next one.
std::string part_of(const std::string& page, const std::string& heading) {
  const std::size_t begin = page.find("<h3>" + heading);
  return begin == std::string::npos ? "" : page.substr(begin, page.find("<h3>", begin + 1) - begin);
}

TEST_F(CommandTest, MetricsAndReportSayWhatTheLibraryMeasuresOfTheFinalModel) {
  const Model model = load_model(path(trained()));
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  Machine machine(*ops, model.sizes, model.settings.weight_bits);
  machine.upload(model.tensors);
  EvaluationSettings settings;
  settings.samples = 3;
  settings.seed = model.settings.seed;
  const Evaluation e =
      evaluate(machine, binarize(read_data(path("images.idx")), Binarization::threshold, 128, settings.seed),
               settings);

  const nlohmann::json record = nlohmann::json::parse(lines_of(path("run/metrics.jsonl")).back());
  EXPECT_EQ(record.at("rows"), e.rows);
  EXPECT_EQ(record.at("samples"), e.samples);
  EXPECT_EQ(record.at("log_likelihood"), e.log_likelihood);
  EXPECT_EQ(record.at("standard_error"), e.standard_error);
  EXPECT_EQ(record.at("bound"), e.bound);
  EXPECT_EQ(record.at("bound_standard_error"), e.bound_standard_error);
  EXPECT_EQ(record.at("effective_sample_size"), e.effective_sample_size);
  EXPECT_EQ(record.at("layer_kl"), nlohmann::json(e.layer_kl));
  EXPECT_EQ(record.at("layer_mismatch"), nlohmann::json(e.layer_mismatch));
  EXPECT_EQ(record.at("active_units"), nlohmann::json(e.active_units));

  const std::string page = read_text(path("run/report.html"));
  const auto cell = [](const std::string& text) { return "<td class=\"number\">" + text + "</td>"; };
  const auto point = [](const std::string& name, double value, int digits, const std::string& unit) {
    return name + ": " + report_number(value, digits) + unit + " at 3.0 epochs<";
  };
  EXPECT_THAT(page, HasSubstr(point("log-likelihood estimate", e.log_likelihood, 2, " nats")));
  EXPECT_THAT(page, HasSubstr(point("bound", e.bound, 2, " nats")));
  EXPECT_THAT(part_of(page, "Effective sample size"),
              HasSubstr(point("effective sample size", e.effective_sample_size, 3, "")));
  for (std::size_t l = 0; l < 2; ++l) {
    const std::string layer = "layer " + std::to_string(l + 1);
    const auto active = static_cast<double>(e.active_units.at(l));
    EXPECT_THAT(part_of(page, "Kullback-Leibler"), HasSubstr(point(layer, e.layer_kl.at(l), 3, " nats")));
    EXPECT_THAT(part_of(page, "Active units"), HasSubstr(point(layer, active, 1, "")));
    EXPECT_THAT(part_of(page, "Mismatch"), HasSubstr(point(layer, e.layer_mismatch.at(l), 5, "")));
    EXPECT_THAT(page,
                ContainsRegex("<td>recognition." + std::to_string(l + 1) + "</td>[^\n]*" +
                              cell(report_number(e.layer_kl.at(l), 2)) + cell(report_number(active, 0)) +
                              cell(report_number(e.layer_mismatch.at(l), 4))));
  }
}

TEST_F(CommandTest, TrainingIsTheSameByEveryRoute) {
  const std::string expected = hash_of(trained());
  const Words variants[] = {{"--route", "reference"}, {"--route", "float32"}, {"--instructions", "baseline"}};
  int number = 0;
  for (const Words& variant : variants) {
    const std::string out = "variant-" + std::to_string(number++);
    ASSERT_EQ(run(training(out, variant)).exit_code, 0);
    EXPECT_EQ(hash_of(out + "/model.safetensors"), expected) << ::testing::PrintToString(variant);
  }
}

TEST_F(CommandTest, LearnsItsData) {
  Words words = training("run", {"--checkpoint-every", "1000"});
  words[5] = "300";  // epochs
  ASSERT_EQ(run(words).exit_code, 0);
  const std::vector<nlohmann::json> records = timeless_metrics("run");
  ASSERT_EQ(records.size(), 300u);
  // One bar among six places: independent units reach -13.5 nats, the truth is -1.8.
  EXPECT_LT(records.front().at("log_likelihood").get<double>(), -11.0);
  EXPECT_GT(records.back().at("log_likelihood").get<double>(), -8.0);
}

TEST_F(CommandTest, RowsThatAreAllTheSameAreWarnedOf) {
  Bytes dark = idx_header(8, {40, image_height, image_width});
  for (int i = 0; i < 40 * image_units; ++i) dark.push_back(static_cast<std::uint8_t>(i % 17));
  write_bytes(path("dark.idx"), dark);
  const auto train = [&](const std::string& data, const std::string& out, const std::string& threshold) {
    const Result result = run({"train", data, "--layers", "3", "--epochs", "1", "--batch-size", "10", "--out",
                               out, "--threshold", threshold, "--device", "cpu", "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.err;
  };
  EXPECT_THAT(train("dark.idx", "dark", "128"),
              AllOf(HasSubstr("WARNING"), HasSubstr("dark.idx"), HasSubstr("on from 128 upward"),
                    HasSubstr("largest grey value there is 16"), HasSubstr("--threshold")));
  EXPECT_THAT(train("dark.idx", "light", "8"), Not(HasSubstr("WARNING")));
}

TEST_F(CommandTest, PicturesOfWideRowsHoldFewerImages) {
  constexpr int units = 1000001;  // 100 of them are more pixels than a run draws
  Bytes wide = idx_header(8, {2, 1, units});
  for (int i = 0; i < 2 * units; ++i) wide.push_back(i % 3 == 0 ? 255 : 0);
  write_bytes(path("wide.idx"), wide);
  const Result result = run({"train", "wide.idx", "--layers", "1", "--epochs", "1", "--batch-size", "1",
                             "--out", "wide", "--device", "cpu", "--evaluate-samples", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(read_text(path("wide/report.html")), HasSubstr(" 34 dreams: "));
  EXPECT_TRUE(fs::exists(path("wide/samples/epoch-0001.png")));
  // More than a PNG file takes is refused before anything is computed.
  expect_failure({"sample", "wide/model.safetensors", "--count", "16777216", "--out", "x.png"}, 64,
                 {"too large for a PNG file", "fewer images"});
}

TEST_F(CommandTest, AUsedFolderIsRefusedAndForcedOnRequest) {
  trained();
  const auto before = contents_of(path("run"));
  expect_failure(training("run"), 64, {"run", "not empty", "--resume", "--force"});
  EXPECT_EQ(contents_of(path("run")), before);

  write_text(path("run/notes.txt"), "mine");
  ASSERT_EQ(run(training("run", {"--force", "--seed", "5"})).exit_code, 0);
  EXPECT_EQ(json_of({"info", "run/model.safetensors", "--json"}).at("seed"), 5);
  EXPECT_EQ(read_text(path("run/notes.txt")), "mine");
  EXPECT_EQ(lines_of(path("run/metrics.jsonl")).size(), 3u);

  fs::create_directory(path("other"));
  write_text(path("other/notes.txt"), "mine");
  expect_failure(training("other"), 64, {"other", "not empty"});
  expect_failure(training("other", {"--resume"}), 64, {"other", "no run to resume"});
  EXPECT_EQ(contents_of(path("other")).size(), 1u);
}

TEST_F(CommandTest, ForceReplacesNoFolderWithoutARun) {
  fs::create_directories(path("foreign/checkpoints/old"));
  fs::create_directories(path("foreign/samples"));
  write_text(path("foreign/model.safetensors"), "somebody's");
  write_text(path("foreign/metrics.jsonl"), "{}\n");
  write_text(path("foreign/checkpoints/best.safetensors"), "somebody's");
  write_text(path("foreign/samples/epoch-0001.png"), "somebody's");
  const auto before = contents_of(path("foreign"));
  expect_failure(training("foreign", {"--force"}), 64, {"foreign", "holds no run", "--force", "--out"});
  EXPECT_EQ(contents_of(path("foreign")), before);
}

// Runs that fail take back what they created; what another run has put there meanwhile must survive that.
TEST_F(CommandTest, RunsThatFailTogetherDoNotHarmOneThatSucceeds) {
  const std::string expected = hash_of(trained());
  const auto finished = contents_of(path("run"));
  for (int round = 0; round < 15; ++round) {
    std::vector<std::unique_ptr<Process>> failing;
    const auto begin_failing = [&] {
      failing.push_back(std::make_unique<Process>(folder(), training("new/shared", {"--quiet"}),
                                                  Limits{.file_bytes = 4096}));
    };
    const auto begin_whole = [&] {
      return std::make_unique<Process>(folder(), training("new/shared", {"--quiet"}));
    };
    for (int i = 0; i < 2; ++i) begin_failing();
    std::unique_ptr<Process> whole = begin_whole();
    for (int i = 0; i < 2; ++i) begin_failing();
    // A run that finds the folder held, or what another has just put there, is begun again at once, so
    // that it meets the others while they clear away what they created. Whatever the order in which the
    // machine runs them, none of them is left in the end, and one more try has to succeed.
    Result result = whole->wait();
    for (bool others = true; result.exit_code != 0 && others;) {
      EXPECT_THAT(result.exit_code, ::testing::AnyOf(64, 73)) << result.err;
      others =
          std::any_of(failing.begin(), failing.end(), [](const auto& process) { return process->running(); });
      whole = begin_whole();
      result = whole->wait();
    }
    for (const auto& process : failing) {
      const Result failed = process->wait();
      EXPECT_THAT(failed.exit_code, ::testing::AnyOf(64, 73, 74)) << failed.err;
    }
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(hash_of("new/shared/model.safetensors"), expected);
    const auto contents = contents_of(path("new/shared"));
    for (const auto& [name, content] : finished) EXPECT_EQ(contents.count(name), 1u) << name;
    EXPECT_EQ(contents.size(), finished.size());
    fs::remove_all(path("new"));
  }
}

TEST_F(CommandTest, TwoRunsCannotShareAFolder) {
  Words endless = long_training("run");
  endless[5] = "100000";  // epochs
  Process first(folder(), endless);
  wait_for_epochs(first, "run", 1);
  ASSERT_TRUE(first.running());
  for (const Words& more : {Words{}, Words{"--resume"}, Words{"--force"}}) {
    expect_failure(training("run", more), 73, {"run", "held by another run"});
  }
  EXPECT_TRUE(first.running());
  first.send(SIGKILL);
  first.wait();
  EXPECT_EQ(run(training("run", {"--force"})).exit_code, 0) << "a lock must not outlive its process";
}

TEST_F(CommandTest, ALockThatIsALinkIsNotFollowed) {
  fs::create_directory(path("run"));
  write_text(path("precious"), "content");
  fs::create_symlink(path("precious"), path("run/.lock"));
  expect_failure(training("run"), 73, {".lock", "symbolic link"});
  EXPECT_EQ(read_text(path("precious")), "content");
}

TEST_F(CommandTest, LeftoversOfKilledWritersAreRemoved) {
  fs::create_directories(path("run/checkpoints"));
  write_text(path("run/.wakesleep-1-0.tmp"), "half");
  write_text(path("run/checkpoints/.wakesleep-1-1.tmp"), "half");
  Words words = training("run", {"--resume"});
  ASSERT_EQ(run(words).exit_code, 0);
  for (const auto& [name, content] : contents_of(path("run")))
    EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
}

// ------------------------------------------------------------------------------ resuming

/// What a run that nothing disturbed ends with.
struct Untouched {
  std::string hash;
  std::vector<nlohmann::json> metrics;
};

class ResumeTest : public CommandTest {
 protected:
  Untouched untouched(const Words& words = {}) {
    const Result result = run(long_training("untouched", words));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return {hash_of("untouched/model.safetensors"), timeless_metrics("untouched")};
  }

  void expect_same_end(const Untouched& expected) {
    EXPECT_EQ(hash_of("run/model.safetensors"), expected.hash);
    EXPECT_EQ(timeless_metrics("run"), expected.metrics);
    for (const auto& entry : fs::recursive_directory_iterator(path("untouched/samples"))) {
      const std::string name = entry.path().filename();
      EXPECT_EQ(read_text(path("run/samples") / name), read_text(entry.path())) << name;
    }
  }

  /// Until the run is up to 14 epochs further and up to 5 ms into the next: counted in epochs, since machines
  /// differ in how many of them fit into a second.
  void wait_for_a_moment(Process& process, std::minstd_rand& random) const {
    wait_for_epochs(process, "run", lines_of(path("run/metrics.jsonl")).size() + random() % 15);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
  }

  /// What a run in the folder "run" said when a signal ended it after some of its epochs. A machine that is
  /// busy with other things may let it come to its end first; then it is begun anew.
  Result stopped(const Words& words, std::size_t epochs, int signal) {
    for (int attempt = 0; attempt < 20; ++attempt) {
      fs::remove_all(path("run"));
      Process process(folder(), words);
      wait_for_epochs(process, "run", epochs);
      process.send(signal);
      const Result result = process.wait();
      if (!fs::exists(path("run/model.safetensors"))) return result;
    }
    ADD_FAILURE() << "the run is always finished before the signal arrives";
    return {};
  }

  void finish_run(const Words& more = {}) {
    Words words = {"train", "--resume", "--out", "run"};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = run(words);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
};

TEST_F(ResumeTest, KilledAtAnyMomentEndsInTheSameModel) {
  const Untouched expected = untouched();
  std::minstd_rand random(20240);
  int kills = 0;
  for (int round = 0; round < 4; ++round) {
    fs::remove_all(path("run"));
    // The first moments may fall before the folder exists; from the second on --resume alone knows
    // everything.
    for (int attempt = 0; attempt < 5; ++attempt) {
      Process process(folder(), long_training("run", {"--resume"}));
      wait_for_a_moment(process, random);
      if (!process.running()) break;
      process.send(SIGKILL);
      process.wait();
      ++kills;
    }
    Words words = long_training("run", {"--resume"});
    const Result result = run(words);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    expect_same_end(expected);
  }
  EXPECT_GT(kills, 4) << "too few kills to mean anything";
}

TEST_F(ResumeTest, SignalsFinishTheStepAndSave) {
  const Untouched expected = untouched();
  for (const int number : {SIGTERM, SIGINT}) {
    const Result result = stopped(long_training("run"), 3, number);
    ASSERT_EQ(result.exit_code, 128 + number) << result.err;
    EXPECT_THAT(result.err, HasSubstr(number == SIGTERM ? "SIGTERM" : "SIGINT"));
    EXPECT_THAT(result.err, HasSubstr("--resume"));
    EXPECT_FALSE(fs::exists(path("run/model.safetensors")));
    finish_run();
    expect_same_end(expected);
  }
}

TEST_F(ResumeTest, ASignalAtTheBeginningLeavesACheckpointOrNothing) {
  Words endless = long_training("run");
  endless[5] = "100000";  // epochs
  for (int delay = 0; delay < 40; delay += 2) {
    fs::remove_all(path("run"));
    Process process(folder(), endless);
    std::this_thread::sleep_for(milliseconds(delay));
    process.send(SIGTERM);
    const Result result = process.wait();
    EXPECT_EQ(fs::exists(path("run")), result.exit_code == 143) << result.err;
    if (result.exit_code != 143) {
      EXPECT_EQ(result.signal, SIGTERM) << result.err;
      continue;
    }
    EXPECT_FALSE(fs::is_empty(path("run/checkpoints")));
  }
}

// A resumed run takes the last line of metrics as proof that the pictures are there, and the model as proof
// of everything.
TEST_F(ResumeTest, KilledAroundTheLastEvaluationLeavesNothingOut) {
  const auto words = [](const std::string& out) {
    Words slow = long_training(out);  // but two epochs, and most of the time in their evaluation
    slow[5] = "2";
    slow[15] = "20000";
    return slow;
  };
  ASSERT_EQ(run(words("untouched")).exit_code, 0);
  const Untouched expected = {hash_of("untouched/model.safetensors"), timeless_metrics("untouched")};
  const std::string last_step = std::to_string(expected.metrics.back().at("step").get<int>());

  // Into the last evaluation: the last step is done, its line is not there yet. How long after the first line
  // that is depends on the machine, so the delay is searched.
  double delay = 10;  // milliseconds
  const auto stop_in_the_last_evaluation = [&] {
    fs::remove_all(path("run"));
    Process process(folder(), words("run"));
    wait_for_epochs(process, "run", 1);
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(delay));
    process.send(SIGTERM);
    const Result result = process.wait();
    const bool too_late = lines_of(path("run/metrics.jsonl")).size() > 1;
    const bool too_early = !too_late && result.err.find("after step " + last_step) == std::string::npos;
    if (too_late) delay *= 0.6;
    if (too_early) delay = 1.5 * delay + 1;
    return result.exit_code == 143 && !too_late && !too_early;
  };
  const auto kill_resumed_run_when = [&](const auto& moment) {
    Process process(folder(), {"train", "--resume", "--out", "run"});
    while (process.running() && !moment()) {
    }
    process.send(SIGKILL);
    process.wait();
  };
  const auto expect_proofs_hold = [&] {
    const bool measured = lines_of(path("run/metrics.jsonl")).size() == 2;
    const bool finished = fs::exists(path("run/model.safetensors"));
    EXPECT_TRUE(measured || !finished);
    if (!measured) return;
    EXPECT_EQ(read_text(path("run/samples/epoch-0002.png")),
              read_text(path("untouched/samples/epoch-0002.png")));
    EXPECT_THAT(read_text(path("run/report.html")), HasSubstr(expected.hash));
  };

  std::minstd_rand random(7);
  for (int round = 0; round < 4; ++round) {
    int attempts = 0;
    while (!stop_in_the_last_evaluation()) ASSERT_LT(++attempts, 50) << "the evaluation is never met";
    const auto end = std::chrono::steady_clock::now() + milliseconds(random() % 100);
    kill_resumed_run_when([&] { return std::chrono::steady_clock::now() > end; });
    expect_proofs_hold();
    kill_resumed_run_when([&] { return lines_of(path("run/metrics.jsonl")).size() == 2; });
    expect_proofs_hold();
    kill_resumed_run_when([&] { return fs::exists(path("run/model.safetensors")); });
    expect_proofs_hold();
    finish_run();
    expect_proofs_hold();
    expect_same_end(expected);
  }
}

TEST_F(ResumeTest, SparseCheckpointsResumeExactly) {
  const Words sparse = {"--checkpoint-every", "7"};
  const Untouched expected = untouched(sparse);
  EXPECT_EQ(stopped(long_training("run", sparse), 10, SIGKILL).signal, SIGKILL);
  finish_run();
  expect_same_end(expected);
}

TEST_F(ResumeTest, AReweightedRunResumesExactly) {
  const Words reweighted = {"--algorithm", "reweighted-wake-sleep", "--samples", "3", "--insomnia", "0.3"};
  const Untouched expected = untouched(reweighted);
  EXPECT_EQ(stopped(long_training("run", reweighted), 10, SIGKILL).signal, SIGKILL);
  const auto before = contents_of(path("run"));
  expect_failure({"train", "--resume", "--out", "run", "--samples", "4"}, 64, {"samples 4", "the run has 3"});
  expect_failure({"train", "--resume", "--out", "run", "--algorithm", "wake-sleep"}, 64,
                 {"algorithm wake-sleep", "the run has reweighted-wake-sleep"});
  EXPECT_EQ(contents_of(path("run")), before);
  finish_run();
  expect_same_end(expected);
}

TEST_F(ResumeTest, ARunThatBeganWithAModelResumesExactly) {
  for (const std::string name : {"begin", "other"}) {
    const Result result = run(long_training(name, {"--seed", name == "begin" ? "7" : "8"}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  const Words from = {"--initial-model", "begin/model.safetensors", "--algorithm", "vimco", "--samples", "2"};
  const Untouched expected = untouched(from);
  EXPECT_NE(expected.hash, hash_of("begin/model.safetensors"));
  EXPECT_THAT(run({"info", "untouched/model.safetensors"}).out,
              HasSubstr(hash_of("begin/model.safetensors")));
  EXPECT_EQ(stopped(long_training("run", from), 10, SIGKILL).signal, SIGKILL);
  const auto before = contents_of(path("run"));
  expect_failure({"train", "--resume", "--out", "run", "--initial-model", "other/model.safetensors"}, 64,
                 {"initial-hash " + hash_of("other/model.safetensors"), "--initial-model",
                  "the run has " + hash_of("begin/model.safetensors")});
  EXPECT_EQ(contents_of(path("run")), before);
  fs::remove_all(path("begin"));  // what has begun goes on without it
  finish_run();
  expect_same_end(expected);
}

TEST_F(ResumeTest, AnInitialModelThatDoesNotFitIsRefused) {
  const Result result = run(long_training("begin"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Words from = {"--initial-model", "begin/model.safetensors", "--prior", "autoregressive"};
  expect_failure(long_training("run", from), 65,
                 {"the initial model has the prior factorial", "where the run has autoregressive"});
  EXPECT_FALSE(fs::exists(path("run")));
  expect_failure(long_training("run", {"--initial-model", "nowhere.safetensors"}), 65,
                 {"nowhere.safetensors"});
  expect_failure(long_training("run", {"--initial-model", "begin/config.toml"}), 65, {"begin/config.toml"});
}

/// What is watched and has to go on where it was: rates that fall at plateaus, and a stop before the last
/// epoch.
const Words watched = {"--schedule",        "plateau", "--patience",         "2",    "--early-stopping", "6",
                       "--min-improvement", "0.05",    "--learning-rate",    "0.03", "--warm-up",        "50",
                       "--clip-gradient",   "0.3",     "--checkpoint-every", "4"};

TEST_F(ResumeTest, PlateausAndEarlyStoppingResumeExactly) {
  const Untouched expected = untouched(watched);
  ASSERT_LT(expected.metrics.size(), 60u) << "it is to stop early";
  ASSERT_GT(expected.metrics.size(), 6u);
  const double first_rate = expected.metrics[2].at("generative_learning_rate");
  EXPECT_LT(expected.metrics.back().at("generative_learning_rate").get<double>(), 0.6 * first_rate);
  std::minstd_rand random(3);
  int kills = 0;
  for (int round = 0; round < 6; ++round) {
    fs::remove_all(path("run"));
    for (int attempt = 0; attempt < 4; ++attempt) {
      Words words = long_training("run", watched);
      words.push_back("--resume");
      Process process(folder(), words);
      wait_for_a_moment(process, random);
      if (!process.running()) break;
      process.send(attempt % 2 == 0 ? SIGKILL : SIGTERM);
      process.wait();
      ++kills;
    }
    Words words = long_training("run", watched);
    words.push_back("--resume");
    const Result result = run(words);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    expect_same_end(expected);
  }
  EXPECT_GT(kills, 5) << "too few kills to mean anything";
}

// Between an epoch's line of metrics and its checkpoint there may be a checkpoint of the same step that has
// not counted the line's estimate: a signal saved it during the evaluation, and then the resumed run was
// killed.
TEST_F(ResumeTest, AnEstimateThatStandsInTheMetricsAloneIsCounted) {
  Words words = long_training("untouched", {"--early-stopping", "60"});
  words[5] = "3";
  ASSERT_EQ(run(words).exit_code, 0);
  const std::string expected = hash_of("untouched/model.safetensors");
  const std::vector<nlohmann::json> metrics = timeless_metrics("untouched");
  for (int round = 0; round < 4; ++round) {
    words[13] = "run";
    ASSERT_EQ(stopped(words, 1 + static_cast<std::size_t>(round) % 2, SIGTERM).exit_code, 143);
    // All lines of the finished run, as if the evaluation had come through: those that are too new are cut.
    fs::copy_file(path("untouched/metrics.jsonl"), path("run/metrics.jsonl"),
                  fs::copy_options::overwrite_existing);
    const Result result = run({"train", "--resume", "--out", "run"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(hash_of("run/model.safetensors"), expected);
    EXPECT_EQ(timeless_metrics("run"), metrics);
  }
}

TEST_F(ResumeTest, EarlyStoppingEndsWithTheBestModel) {
  const Result result = run(long_training("run", watched));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<nlohmann::json> metrics = timeless_metrics("run");
  // The best by the rule: an estimate counts that exceeds the best by more than 0.05 nats.
  std::size_t best = 0;
  for (std::size_t i = 1; i < metrics.size(); ++i) {
    const double estimate = metrics[i].at("log_likelihood");
    if (estimate > metrics[best].at("log_likelihood").get<double>() + 0.05) best = i;
  }
  EXPECT_EQ(metrics.size(), best + 7);  // six more epochs
  const std::string epoch = std::to_string(best + 1);
  EXPECT_THAT(result.err, HasSubstr("stopping early after epoch " + std::to_string(metrics.size())));
  EXPECT_THAT(result.err, HasSubstr("plateau: "));
  EXPECT_THAT(result.out, HasSubstr("model of epoch " + epoch + ", the best of the "));
  const nlohmann::json info = json_of({"info", "run/model.safetensors", "--json"});
  EXPECT_EQ(info.at("step"), metrics[best].at("step"));
  EXPECT_EQ(info.at("has_optimizer_state"), false);
  EXPECT_EQ(info.at("settings").at("early-stopping"), "6");
  // The same epochs without stopping end with that model.
  Words words = long_training("plain", watched);
  words.erase(words.begin() + 22, words.begin() + 24);  // --early-stopping 6
  words[5] = epoch;
  ASSERT_EQ(run(words).exit_code, 0);
  EXPECT_EQ(hash_of("plain/model.safetensors"), hash_of("run/model.safetensors"));
  const std::string report = read_text(path("run/report.html"));
  EXPECT_THAT(report, HasSubstr(hash_of("run/model.safetensors")));
  EXPECT_THAT(report, HasSubstr(epoch + " of 60 (the best of the "));

  const auto before = contents_of(path("run"));
  EXPECT_THAT(run({"train", "--resume", "--out", "run"}).out,
              ::testing::AllOf(HasSubstr("is finished"), HasSubstr(hash_of("run/model.safetensors"))));
  EXPECT_EQ(contents_of(path("run")), before);
  fs::remove(path("run/model.safetensors"));
  finish_run();
  EXPECT_EQ(read_text(path("run/model.safetensors")), before.at("model.safetensors"));
  EXPECT_EQ(read_text(path("run/report.html")), before.at("report.html"));
}

TEST_F(ResumeTest, SettingsThatTheRunDoesWithoutAreRefused) {
  trained();
  fs::remove(path("run/model.safetensors"));
  const auto before = contents_of(path("run"));
  expect_failure({"train", "--resume", "--out", "run", "--clip-gradient", "0.5", "--warm-up", "9"}, 64,
                 {"clip-gradient 0.5", "warm-up 9", "the run has none"});
  EXPECT_EQ(contents_of(path("run")), before);
}

TEST_F(ResumeTest, AnotherPriorIsRefused) {
  trained();
  ASSERT_EQ(run(training("ordered", {"--prior", "autoregressive"})).exit_code, 0);
  for (const std::string folder : {"run", "ordered"}) fs::remove(path(folder + "/model.safetensors"));
  expect_failure({"train", "--resume", "--out", "run", "--prior", "autoregressive"}, 64,
                 {"prior autoregressive", "the run has factorial"});
  expect_failure({"train", "--resume", "--out", "ordered", "--prior", "factorial"}, 64,
                 {"prior factorial", "the run has autoregressive"});
  EXPECT_EQ(run({"train", "--resume", "--out", "ordered"}).exit_code, 0);
  EXPECT_EQ(run({"train", "--resume", "--out", "run", "--prior", "factorial"}).exit_code, 0);
}

TEST_F(ResumeTest, AcceptanceRatesCountTheWholeEpoch) {
  const Words chains = {"--algorithm", "joint-stochastic-approximation", "--samples", "3"};
  const Untouched expected = untouched(chains);
  EXPECT_GT(expected.metrics.back().at("diagnostics").at("acceptance_rate").get<double>(), 0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(stopped(long_training("run", chains), 3, SIGTERM).exit_code, 143);
    finish_run();
    expect_same_end(expected);
  }
}

TEST_F(ResumeTest, ADamagedCheckpointFallsBackLoudly) {
  const Untouched expected = untouched();
  ASSERT_EQ(stopped(long_training("run"), 4, SIGTERM).exit_code, 143);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path("run/checkpoints"))) files.push_back(entry.path());
  ASSERT_EQ(files.size(), 2u);
  std::sort(files.begin(), files.end());
  std::string bytes = read_text(files.back());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_text(files.back(), bytes);

  const Result result = run({"train", "--resume", "--out", "run", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("WARNING"));
  EXPECT_THAT(result.err, HasSubstr(files.back().filename().string()));
  expect_same_end(expected);
}

TEST_F(ResumeTest, WithoutAnyReadableCheckpointNothingIsTouched) {
  trained();
  fs::remove(path("run/model.safetensors"));
  for (const auto& entry : fs::directory_iterator(path("run/checkpoints")))
    write_text(entry.path(), "damaged");
  const auto before = contents_of(path("run"));
  const Result result = run({"train", "--resume", "--out", "run"});
  EXPECT_EQ(result.exit_code, 65);
  EXPECT_THAT(result.err, HasSubstr("no checkpoint"));
  EXPECT_EQ(contents_of(path("run")), before);
}

TEST_F(ResumeTest, OtherSettingsAreRefusedByName) {
  trained();
  fs::remove(path("run/model.safetensors"));
  const auto before = contents_of(path("run"));
  write_text(path("other.toml"), "seed = 9\n");
  expect_failure({"train", "--resume", "--out", "run", "--epochs", "4", "--learning-rate", "0.5", "--config",
                  "other.toml", "--evaluate-samples", "4"},
                 64,
                 {"epochs 4", "the run has 3", "generative-learning-rate 0.5", "recognition-learning-rate",
                  "seed 9 (other.toml:1:8", "evaluate-samples 4"});
  EXPECT_EQ(contents_of(path("run")), before);
  // The same values written otherwise, and another number of threads, are no difference.
  EXPECT_EQ(
      run({"train", "--resume", "--out", "run", "--epochs", "3", "--learning-rate", "1e-2", "--threads", "2"})
          .exit_code,
      0);
}

TEST_F(CommandTest, ResumingElsewhereSaysWhatPathsAreRelativeTo) {
  trained();
  fs::remove(path("run/model.safetensors"));
  fs::create_directory(path("elsewhere"));
  const auto resume = [&](const Words& more) {
    Words words = {"train", "--resume", "--out", "../run"};
    words.insert(words.end(), more.begin(), more.end());
    return Process(path("elsewhere"), words).wait();
  };
  expect_failed(resume({}), 65, {"images.idx", "../run/config.toml", "relative to the folder", "give DATA"},
                "without DATA");
  const Result result = resume({"../images.idx"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(ResumeTest, NumbersThatTomlWouldNotReadAreKeptAsNumbers) {
  for (const std::string fraction : {".2", "0.2"}) {
    const Words words = {"--validation", fraction, "--evaluate-rows",    "010",
                         "--row-length", "00",     "--checkpoint-every", "01"};
    ASSERT_EQ(run(training(fraction, words)).exit_code, 0);
  }
  const std::string expected = hash_of("0.2/model.safetensors");
  EXPECT_EQ(hash_of(".2/model.safetensors"), expected);
  const std::string config = read_text(path(".2/config.toml"));
  for (const std::string line :
       {"validation = 0.2", "evaluate-rows = 10", "row-length = 0", "checkpoint-every = 1", "threads = 1"}) {
    EXPECT_THAT(config, HasSubstr("\n" + line + "\n"));
  }
  fs::remove(path(".2/model.safetensors"));
  const Result result = run({"train", "--resume", "--out", ".2", "--evaluate-rows", "0010"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(hash_of(".2/model.safetensors"), expected);
}

TEST_F(ResumeTest, LessDataIsRefusedAsOtherData) {
  trained();
  fs::remove(path("run/model.safetensors"));
  const auto before = contents_of(path("run"));
  write_bytes(path("less.idx"), idx_images(5));  // fewer rows than a batch has
  expect_failure({"train", "less.idx", "--resume", "--out", "run"}, 65, {"other data", "less.idx"});
  EXPECT_EQ(contents_of(path("run")), before);
}

TEST_F(ResumeTest, OtherDataIsRefused) {
  trained();
  fs::remove(path("run/model.safetensors"));
  const auto before = contents_of(path("run"));
  write_bytes(path("other.idx"), idx_images(100, 2));
  expect_failure({"train", "other.idx", "--resume", "--out", "run"}, 65, {"other data"});
  expect_failure({"train", "--resume", "--out", "run", "--validation", "other.idx"}, 65, {"evaluate"});
  EXPECT_EQ(contents_of(path("run")), before);
}

TEST_F(ResumeTest, AnEmptyOrMissingFolderStartsFresh) {
  const std::string expected = hash_of(trained());
  const Result result = run(training("fresh", {"--resume"}));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("no checkpoint in fresh yet"));
  EXPECT_EQ(hash_of("fresh/model.safetensors"), expected);
}

TEST_F(ResumeTest, AFinishedRunSaysSo) {
  trained();
  const auto before = contents_of(path("run"));
  const Result result = run({"train", "--resume", "--out", "run"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("finished"));
  EXPECT_EQ(contents_of(path("run")), before);
}

TEST_F(ResumeTest, ALostModelIsWrittenAgain) {
  const std::string expected = hash_of(trained());
  fs::remove(path("run/model.safetensors"));
  finish_run();
  EXPECT_EQ(hash_of("run/model.safetensors"), expected);
}

TEST_F(ResumeTest, ADamagedModelIsWrittenAgainLoudly) {
  const std::string expected = hash_of(trained());
  const std::string whole = read_text(path("run/model.safetensors"));
  std::string flipped = whole;
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  for (const std::string& damaged : {flipped, whole.substr(0, whole.size() / 2), std::string()}) {
    write_text(path("run/model.safetensors"), damaged);
    const Result result = run({"train", "--resume", "--out", "run", "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("run/model.safetensors"));
    EXPECT_THAT(result.err, HasSubstr("written again from the checkpoint"));
    EXPECT_EQ(read_text(path("run/model.safetensors")), whole);
    EXPECT_EQ(hash_of("run/model.safetensors"), expected);
  }
}

TEST_F(ResumeTest, TornMetricsAreCutToTheCheckpoint) {
  trained();
  const std::string whole = read_text(path("run/metrics.jsonl"));
  const std::vector<nlohmann::json> expected = timeless_metrics("run");
  fs::remove(path("run/model.safetensors"));
  write_text(path("run/metrics.jsonl"), whole + "{\"epoch\":4,\"st");
  finish_run();
  EXPECT_EQ(read_text(path("run/metrics.jsonl")), whole);
  // A line that is missing at the end is computed again.
  fs::remove(path("run/model.safetensors"));
  write_text(path("run/metrics.jsonl"), whole.substr(0, whole.size() - 20));
  finish_run();
  EXPECT_EQ(timeless_metrics("run"), expected);
}

TEST_F(ResumeTest, MetricsOfAnotherNumberOfLayersAreDropped) {
  ASSERT_EQ(run(long_training("run", watched)).exit_code, 0);
  const std::string hash = hash_of("run/model.safetensors");
  const std::string whole = read_text(path("run/metrics.jsonl"));
  const std::vector<nlohmann::json> last = {timeless_metrics("run").back()};
  for (const std::string key : {"layer_kl", "active_units", "layer_mismatch"}) {
    for (const nlohmann::json& value :
         {nlohmann::json::array(), nlohmann::json{1}, nlohmann::json{1, 2, 3}}) {
      if (key == "layer_mismatch" && value.empty()) continue;  // as an older version left it out
      std::string damaged;
      for (const std::string& line : lines_of(path("run/metrics.jsonl"))) {
        nlohmann::json record = nlohmann::json::parse(line);
        record[key] = value;
        damaged += record.dump() + "\n";
      }
      write_text(path("run/metrics.jsonl"), damaged);
      fs::remove(path("run/model.safetensors"));
      const Result result = run({"train", "--resume", "--out", "run"});
      ASSERT_EQ(result.exit_code, 0) << key << " " << value << ": " << result.err;
      EXPECT_THAT(result.err, HasSubstr("dropped"));
      EXPECT_EQ(hash_of("run/model.safetensors"), hash);
      EXPECT_EQ(timeless_metrics("run"), last);
      write_text(path("run/metrics.jsonl"), whole);
    }
  }
}

TEST_F(CommandTest, ADivergingRunStopsAndKeepsTheLastGoodCheckpoint) {
  const Result result = run(training(
      "run", {"--generative-learning-rate", "1e37", "--optimizer", "sgd", "--schedule", "constant"}));
  EXPECT_EQ(result.exit_code, 70);
  EXPECT_THAT(result.err, HasSubstr("diverged"));
  EXPECT_THAT(result.err, HasSubstr("step"));
  EXPECT_THAT(result.err, ::testing::AnyOf(HasSubstr("generative."), HasSubstr("prior")));
  EXPECT_THAT(result.err, HasSubstr("last good checkpoint is run/checkpoints/step-"));
  EXPECT_FALSE(fs::exists(path("run/model.safetensors")));
  for (const auto& entry : fs::directory_iterator(path("run/checkpoints"))) {
    EXPECT_EQ(run({"info", entry.path()}).exit_code, 0) << entry.path();
  }
}

TEST_F(CommandTest, ADivergingResumedRunNamesACheckpointThatCanBeLoaded) {
  const Words words =
      training("run", {"--generative-learning-rate", "1e37", "--optimizer", "sgd", "--schedule", "constant"});
  ASSERT_EQ(run(words).exit_code, 70);
  write_text(path("run/checkpoints/step-000000020.safetensors"), "damaged");
  const Result result = run({"train", "--resume", "--out", "run"});
  EXPECT_EQ(result.exit_code, 70);
  EXPECT_THAT(result.err, HasSubstr("WARNING"));
  const std::string announced = "last good checkpoint is ";
  const std::size_t begin = result.err.find(announced);
  ASSERT_NE(begin, std::string::npos) << result.err;
  const std::size_t name = begin + announced.size();
  const std::string file = result.err.substr(name, result.err.find('\n', name) - name);
  EXPECT_EQ(run({"info", file}).exit_code, 0) << file;
}

}  // namespace
}  // namespace wakesleep
