#include "wakesleep/model_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>

#include "file.hpp"
#include "hash.hpp"
#include "refusals.hpp"
#include "sanitizers.hpp"
#include "small_data.hpp"
#include "temporary_folder.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using testing::Bytes;
using testing::bytes_of;
using testing::message_of;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  DIR* entries = ::opendir(folder.c_str());
  while (const dirent* entry = ::readdir(entries)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(entries);
  return names;
}

/// Runs `work` in a process of its own, which may limit itself without harm, and says whether it returned
/// true.
bool in_child(const std::function<bool()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      ::_exit(work() ? 0 : 1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(2);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class FileTest : public ::testing::Test {
 protected:
  std::string folder() const { return folder_.path(); }
  std::string in_folder(const std::string& name) const { return folder_ / name; }
  std::string path() const { return in_folder("model.safetensors"); }

  void put(const Bytes& bytes) const { testing::write_bytes(path(), bytes); }

 private:
  testing::TemporaryFolder folder_;
};

// ------------------------------------------------------------------------------------------ SHA-256

std::string sha256(const std::string& text) {
  Sha256 hash;
  hash.add(text.data(), text.size());
  return hash.finish();
}

TEST(Sha256Test, GivesThePublishedAnswers) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, DoesNotDependOnThePieces) {
  const std::string text(1000, 'a');
  for (const std::size_t piece : {1u, 31u, 33u, 64u, 999u}) {
    Sha256 hash;
    for (std::size_t begin = 0; begin < text.size(); begin += piece) {
      hash.add(text.data() + begin, std::min(piece, text.size() - begin));
    }
    EXPECT_EQ(hash.finish(), sha256(text));
  }
}

// ------------------------------------------------------------------------------------------ files

constexpr const char* no_room_for_the_sanitizer =
    "AddressSanitizer itself needs more address space than the limit leaves";

using Files = FileTest;

TEST_F(Files, AreWrittenAndReadWhole) {
  for (const std::size_t size : {0u, 1u, 31u, 33u, 100000u}) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 31 + size);
    write_file_atomically(path(), bytes.data(), bytes.size());
    EXPECT_EQ(read_file(path()), bytes);
    EXPECT_EQ(read_file(path(), size), bytes);
  }
  EXPECT_THAT(names_in(folder()), ElementsAre("model.safetensors"));
}

TEST_F(Files, AreWrittenIntoTheCurrentFolderAsWell) {
  const std::string name = path().substr(folder().size() + 1);
  EXPECT_TRUE(in_child([&] {
    if (::chdir(folder().c_str()) != 0) return false;
    write_file_atomically(name, "x", 1);
    return read_file("./" + name) == bytes_of("x");
  }));
  EXPECT_THAT(names_in(folder()), ElementsAre(name));
}

TEST_F(Files, ThatCannotBeReadAreDataErrors) {
  EXPECT_THAT(message_of<DataError>([&] { read_file(path()); }), HasSubstr("model.safetensors"));
  EXPECT_THAT(message_of<DataError>([&] { read_file(folder()); }), HasSubstr("folder"));
  EXPECT_THROW(read_file(path() + "/below"), DataError);
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_THAT(message_of<DataError>([&] { read_file(path()); }), HasSubstr("pipe"));
  ::unlink(path().c_str());
  put(Bytes(33));
  EXPECT_THAT(message_of<DataError>([&] { read_file(path(), 32); }), AllOf(HasSubstr("33"), HasSubstr("32")));
}

TEST_F(Files, LargerThanTheMemoryAreDataErrors) {
  if (testing::address_sanitizer) GTEST_SKIP() << no_room_for_the_sanitizer;
  put(Bytes(1));
  ASSERT_EQ(::truncate(path().c_str(), off_t{1} << 42), 0);
  EXPECT_TRUE(in_child([&] {
    const rlimit limit{rlim_t{1} << 32, rlim_t{1} << 32};
    ::setrlimit(RLIMIT_AS, &limit);
    try {
      read_file(path());
    } catch (const DataError& error) {
      return std::string(error.what()).find("memory") != std::string::npos;
    }
    return false;
  }));
}

TEST_F(Files, ThatCannotBeCreatedAreNamedWithTheCause) {
  const std::string missing = in_folder("missing/model.safetensors");
  put(Bytes(1));
  const std::string below_a_file = path() + "/model.safetensors";
  for (const std::string& bad : {missing, below_a_file, folder(), folder() + "/", std::string(),
                                 in_folder(".."), in_folder(std::string(256, 'n'))}) {
    EXPECT_THAT(message_of<CannotCreateError>([&] { write_file_atomically(bad, "x", 1); }), HasSubstr(bad));
  }
  for (const std::string& bad : {missing, below_a_file, folder(), folder() + "/", std::string()}) {
    EXPECT_THAT(message_of<CannotCreateError>([&] { check_writable(bad); }), HasSubstr(bad));
  }
  EXPECT_THAT(names_in(folder()), ElementsAre("model.safetensors"));
}

TEST_F(Files, ProbingLeavesNothingBehind) {
  EXPECT_NO_THROW(check_writable(path()));
  EXPECT_THAT(names_in(folder()), IsEmpty());
  put(Bytes(3));
  EXPECT_NO_THROW(check_writable(path()));
  EXPECT_EQ(read_file(path()), Bytes(3));
}

TEST_F(Files, InAFolderWithoutPermissionAreRefused) {
  ASSERT_EQ(::chmod(folder().c_str(), 0555), 0);
  EXPECT_TRUE(in_child([&] {
    constexpr uid_t nobody = 65534;
    if (::geteuid() == 0 && ::setuid(nobody) != 0) return false;
    for (const auto& attempt : {std::function<void()>([&] { check_writable(path()); }),
                                std::function<void()>([&] { write_file_atomically(path(), "x", 1); })}) {
      try {
        attempt();
        return false;
      } catch (const CannotCreateError&) {
      }
    }
    return true;
  }));
  ASSERT_EQ(::chmod(folder().c_str(), 0755), 0);
}

TEST_F(Files, KeepTheirContentWhenTheDiskIsFull) {
  const Bytes before = bytes_of("what stood there before");
  put(before);
  EXPECT_TRUE(in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Bytes large(10000);  // the first write is cut short at the limit, the next one fails
    try {
      write_file_atomically(path(), large.data(), large.size());
    } catch (const OutputError& error) {
      return std::string(error.what()).find(path()) != std::string::npos;
    }
    return false;
  }));
  EXPECT_EQ(read_file(path()), before);
  EXPECT_THAT(names_in(folder()), ElementsAre("model.safetensors"));
}

TEST_F(Files, AreNeverWrittenThroughASymbolicLink) {
  const std::string victim = in_folder("victim");
  write_file_atomically(victim, "untouched", 9);
  ASSERT_EQ(::symlink(victim.c_str(), path().c_str()), 0);
  // The temporary's next names, as somebody who can write here might plant them.
  for (int i = 0; i < 500; ++i) {
    const std::string planted =
        in_folder(".wakesleep-" + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp");
    ASSERT_EQ(::symlink(victim.c_str(), planted.c_str()), 0);
  }
  write_file_atomically(path(), "new", 3);
  EXPECT_EQ(read_file(victim), bytes_of("untouched"));
  EXPECT_EQ(read_file(path()), bytes_of("new"));
  struct stat status;
  ASSERT_EQ(::lstat(path().c_str(), &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
}

// Whoever runs as root and writes to /dev/null must still have one afterwards.
TEST_F(Files, ThatAreDevicesOrPipesStayWhatTheyAre) {
  const auto refused = [&](const std::string& name, mode_t kind) {
    EXPECT_THAT(message_of<CannotCreateError>([&] { write_file_atomically(name, "new", 3); }),
                AllOf(HasSubstr(name), HasSubstr("a pipe or a device is in its place")));
    struct stat status;
    ASSERT_EQ(::lstat(name.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & S_IFMT, kind) << name;
  };
  ASSERT_EQ(::mkfifo(path().c_str(), 0644), 0);
  refused(path(), S_IFIFO);
  for (const std::string& to : std::vector<std::string>{"/dev/null", "/proc/self/fd/99", path()}) {
    const std::string link = in_folder("link");
    ASSERT_EQ(::symlink(to.c_str(), link.c_str()), 0);
    refused(link, S_IFLNK);
    ASSERT_EQ(::unlink(link.c_str()), 0);
  }
  const std::string dangling = in_folder("dangling");
  ASSERT_EQ(::symlink(in_folder("nowhere").c_str(), dangling.c_str()), 0);
  write_file_atomically(dangling, "new", 3);
  EXPECT_EQ(read_file(dangling), bytes_of("new"));
}

TEST_F(Files, AreOldOrNewAfterAKillAtAnyMoment) {
  const Bytes versions[2] = {Bytes(200000, 'a'), Bytes(300000, 'b')};
  put(versions[0]);
  std::mt19937 random(1);
  for (int kill = 0; kill < 50; ++kill) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0) << "no second process; and a signal to process -1 would go to all";
    if (child == 0) {
      for (std::size_t i = 1;; ++i)
        write_file_atomically(path(), versions[i % 2].data(), versions[i % 2].size());
    }
    ::usleep(random() % 10000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const Bytes found = read_file(path());
    ASSERT_TRUE(found == versions[0] || found == versions[1]) << found.size() << " bytes";
  }
}

// ------------------------------------------------------------------------------------------ tensor files

using TensorFiles = FileTest;

bool same(const Tensors& first, const Tensors& second) {
  return std::equal(
      first.begin(), first.end(), second.begin(), second.end(), [](const auto& a, const auto& b) {
        const std::size_t size = a.second.values.size();
        return a.first == b.first && a.second.shape == b.second.shape && size == b.second.values.size() &&
               (size == 0 ||
                std::memcmp(a.second.values.data(), b.second.values.data(), size * sizeof(float)) == 0);
      });
}

TEST_F(TensorFiles, HaveTheSpecifiedBytes) {
  const TensorFile file = {{{"b", {{2, 1}, {1.0f, -0.5f}}}, {"a", {{}, {2.0f}}}}, {{"note", "x\"y\u00e9!"}}};
  write_tensor_file(path(), file);
  // The hashes were computed with Python's hashlib.
  const std::string header =
      R"({"__metadata__":{"format":"wakesleep","format_version":"1","note":"x\"y)"
      "\u00e9"
      R"(!","sha256":"2f67092eb8c03c19e08176bdaca828266e32ac48e929cebc85eaf8e39c04e294",)"
      R"("sha256.a":"249cccdfe741190f1d762a3f6e83178f8cb79434ccb9a74155300912b185299b",)"
      R"("sha256.b":"815b9afc3e91f28a443799dec69224257e921e9e78499cc692e062e7085e66dc"},)"
      R"("a":{"data_offsets":[0,4],"dtype":"F32","shape":[]},)"
      R"("b":{"data_offsets":[4,12],"dtype":"F32","shape":[2,1]}})"
      "       ";
  ASSERT_EQ(header.size(), 424u);
  const std::string length("\xA8\x01\0\0\0\0\0\0", 8);
  const std::string values("\0\0\0\x40\0\0\x80\x3F\0\0\0\xBF", 12);
  const Bytes found = read_file(path());
  EXPECT_EQ(std::string(found.begin(), found.end()), length + header + values);
}

TEST_F(TensorFiles, ReadBackBitForBit) {
  const float tiny = 1e-45f;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<TensorFile> files = {
      {{}, {}},
      {{{"empty", {{0}, {}}}}, {}},
      {{{"empty", {{3, 0, 2}, {}}}, {"scalar", {{}, {-0.0f}}}}, {{"note", ""}}},
      {{{"x", {{1, 1, 1, 1, 1, 1, 1, 2}, {tiny, nan}}}}, {{"path", "C:\\a/\u20ac"}}},
      {{{std::string(256, 'n'), {{31}, std::vector<float>(31, 0.1f)}},
        {"Z", {{3, 11}, std::vector<float>(33, -3e38f)}}},
       {{"run.data", "x=y"}}}};
  for (const TensorFile& file : files) {
    write_tensor_file(path(), file);
    const TensorFile read = read_tensor_file(path());
    EXPECT_TRUE(same(read.tensors, file.tensors));
    EXPECT_EQ(read.metadata, file.metadata);
  }
}

TEST_F(TensorFiles, ThatCouldNotBeReadAreNotWritten) {
  const Tensor one = {{1}, {1.0f}};
  const std::vector<TensorFile> files = {
      {{{"", one}}, {}},
      {{{"a b", one}}, {}},
      {{{"a\n", one}}, {}},
      {{{"\u00e9", one}}, {}},
      {{{"__metadata__", one}}, {}},
      {{{std::string(257, 'n'), one}}, {}},
      {{{"a", {{2}, {1.0f}}}}, {}},
      {{{"a", {{-1}, {}}}}, {}},
      {{{"a", {{1, 1, 1, 1, 1, 1, 1, 1, 1}, {1.0f}}}}, {}},
      {{{"a", {{std::int64_t{1} << 62, 4}, {}}}}, {}},
      {{{"a", one}}, {{"format", "x"}}},
      {{{"a", one}}, {{"format_version", "1"}}},
      {{{"a", one}}, {{"sha256", "x"}}},
      {{{"a", one}}, {{"sha256.b", "x"}}},
      {{{"a", one}}, {{"", "x"}}},
      {{{"a", one}}, {{"x=y", "x"}}},
      {{{"a", one}}, {{"x", "two\nlines"}}},
      {{{"a", one}}, {{"x", "\x7f"}}},
      {{{"a", one}}, {{"x", "not UTF-8: \xff"}}},
      {{{"a", one}}, {{"x", std::string(std::size_t{16} << 20, 'x')}}},
  };
  for (const TensorFile& file : files) {
    EXPECT_THAT(message_of<UsageError>([&] { write_tensor_file(path(), file); }), HasSubstr(path()));
  }
  TensorFile many;
  for (int i = 0; i <= 65536; ++i) many.tensors[std::to_string(i)] = {{0}, {}};
  EXPECT_THAT(message_of<UsageError>([&] { write_tensor_file(path(), many); }), HasSubstr("65537"));
  many = {};
  for (int i = 0; i < 131072; ++i) many.metadata[std::to_string(i)] = "";
  EXPECT_THAT(message_of<UsageError>([&] { write_tensor_file(path(), many); }), HasSubstr("131075"));
  EXPECT_THAT(names_in(folder()), IsEmpty());
}

// ------------------------------------------------------------------------------------------ hostile files

Bytes file_with(std::uint64_t header_length, const std::string& header, std::size_t data_bytes) {
  Bytes bytes(8 + header.size() + data_bytes);
  std::memcpy(bytes.data(), &header_length, 8);
  std::copy(header.begin(), header.end(), bytes.begin() + 8);
  return bytes;
}

struct HostileFile {
  const char* what;
  Bytes bytes;
  const char* message;  ///< what the refusal must say, so that the file is refused for its own fault
};

constexpr const char* plain_metadata = R"("__metadata__":{"format":"wakesleep","format_version":"1"})";

/// A header with one tensor entry of the given fields.
std::string header_with(const std::string& fields) {
  return std::string("{") + plain_metadata + ",\"a\":{" + fields + "}}";
}
std::string shape_and_offsets(const std::string& shape, const std::string& offsets) {
  return header_with(R"("dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets);
}
std::string two_tensors(const std::string& first_offsets, const std::string& second_offsets) {
  return std::string("{") + plain_metadata + R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":)" +
         first_offsets + R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + second_offsets + "}}";
}

std::vector<HostileFile> hostile_files() {
  std::vector<HostileFile> files = {
      {"nothing", {}, "too few"},
      {"7 bytes", Bytes(7), "too few"},
      {"header length 2^63", file_with(std::uint64_t{1} << 63, "{}", 0), "at most 16777216"},
      {"header length 2^64 - 1", file_with(~std::uint64_t{0}, "{}", 0), "at most 16777216"},
      {"header length 16 MiB + 1", file_with((16u << 20) + 1, "{}", 0), "at most 16777216"},
      {"header length beyond the file", file_with(3, "{}", 0), "the file has 10"},
      {"many tensors", {}, "more than 65536 tensors"},
      {"much metadata", {}, "more than 131072 entries"}};
  std::string many = "{";
  for (int i = 0; i <= 65536; ++i) {
    many += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) +
            R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  }
  files[6].bytes = file_with(many.size() + 1, many + "}", 0);
  std::string much = R"({"__metadata__":{)";
  for (int i = 0; i <= 131072; ++i) much += (i > 0 ? ",\"m" : "\"m") + std::to_string(i) + "\":\"\"";
  files[7].bytes = file_with(much.size() + 2, much + "}}", 0);

  const auto add = [&](const char* what, const std::string& header, std::size_t data_bytes,
                       const char* message) {
    files.push_back({what, file_with(header.size(), header, data_bytes), message});
  };
  add("no header", "", 0, "not JSON");
  add("no JSON", "hello", 0, "not JSON");
  add("cut JSON", R"({"a":{"dtype":)", 0, "not JSON");
  add("two values", "{}{}", 0, "not JSON");
  add("bytes that are not UTF-8", "{\"\xff\":{}}", 0, "not JSON");
  add("a list", "[]", 0, "a list");
  add("a number", "5", 0, "the number 5");
  add("a text", "\"x\"", 0, "the text");
  add("null", "null", 0, "null");
  add("null as a tensor", R"({"a":null})", 0, "null");
  add("a number as a tensor", R"({"a":1})", 0, "the number 1");
  add("a list as a tensor", R"({"a":[1]})", 0, "a list");
  add("nothing in it", "{}", 0, "format=wakesleep");
  add("no format", R"({"__metadata__":{}})", 0, "format=wakesleep");
  add("another format", R"({"__metadata__":{"format":"pt"}})", 0, "format=wakesleep");
  add("no version", R"({"__metadata__":{"format":"wakesleep"}})", 0, "no entry format_version");
  add("a later version", R"({"__metadata__":{"format":"wakesleep","format_version":"2"}})", 0,
      "reads version 1");
  add("metadata as text", R"({"__metadata__":"x"})", 0, "the text");
  add("a number in the metadata", R"({"__metadata__":{"a":1}})", 0, "the number 1");
  add("an object in the metadata", R"({"__metadata__":{"a":{}}})", 0, "an object");
  add("a list in the metadata", R"({"__metadata__":{"a":[]}})", 0, "a list");
  add("a control character in the metadata", R"({"__metadata__":{"a":"\u0000"}})", 0, "control character");
  add("a nameless metadata entry", R"({"__metadata__":{"":"x"}})", 0, "the name \"\"");
  add("a metadata entry twice", R"({"__metadata__":{"a":"x","a":"x"}})", 0, "twice");
  add("metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "twice");

  add("a tensor without a name", R"({"":{}})", 0, "tensor name \"\"");
  add("a name of 300 bytes", "{\"" + std::string(300, 'n') + "\":{}}", 0, "300 bytes");
  add("a name with a newline", R"({"a\nb":{}})", 0, "tensor name \"a?b\"");
  add("a name that is not ASCII", "{\"\u00e9\":{}}", 0, "tensor name");
  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  add("a tensor twice", "{\"a\":" + tensor + ",\"a\":" + tensor + "}", 4, "a twice");
  add("an escaped name twice", "{\"a\":" + tensor + R"(,"\u0061":)" + tensor + "}", 4, "a twice");
  add("a field twice", header_with(R"("dtype":"F32","dtype":"F32")"), 4, "dtype twice");
  add("an unknown field", header_with(R"("strides":[1])"), 4, "strides");
  add("no dtype", header_with(R"("shape":[1],"data_offsets":[0,4])"), 4, "no dtype");
  add("no shape", header_with(R"("dtype":"F32","data_offsets":[0,4])"), 4, "no shape");
  add("no offsets", header_with(R"("dtype":"F32","shape":[1])"), 4, "no data_offsets");
  add("an unknown dtype", header_with(R"("dtype":"F37","shape":[1],"data_offsets":[0,4])"), 4,
      "dtype \"F37\"");
  add("half precision", header_with(R"("dtype":"F16","shape":[2],"data_offsets":[0,4])"), 4, "dtype \"F16\"");
  add("a number as dtype", header_with(R"("dtype":32,"shape":[1],"data_offsets":[0,4])"), 4, "the number 32");
  add("a text as shape", header_with(R"("shape":"1")"), 4, "the text");
  add("an object as shape", header_with(R"("shape":{})"), 4, "an object");

  add("a negative shape", shape_and_offsets("[-1]", "[0,4]"), 4, "negative number -1");
  add("a fraction as shape", shape_and_offsets("[1.5]", "[0,4]"), 4, "the number \"1.5\"");
  add("an exponent in a shape", shape_and_offsets("[1e0]", "[0,4]"), 4, "the number \"1e0\"");
  add("a truth value in a shape", shape_and_offsets("[true]", "[0,4]"), 4, "truth value");
  add("shape 2^63", shape_and_offsets("[9223372036854775808]", "[0,4]"), 4, "9223372036854775808");
  add("shape 2^64", shape_and_offsets("[18446744073709551616]", "[0,4]"), 4, "18446744073709551616");
  add("a shape of 2^64 values", shape_and_offsets("[4294967296,4294967296]", "[0,0]"), 0, "too large");
  add("a shape of 2^64 bytes", shape_and_offsets("[4611686018427387904]", "[0,0]"), 0, "too large");
  add("a shape of 2^64 + 4 bytes", shape_and_offsets("[4611686018427387905]", "[0,4]"), 4, "too large");
  add("a shape of no values beyond 2^64", shape_and_offsets("[4294967296,4294967296,0]", "[0,0]"), 0,
      "too large");
  add("rank 9", shape_and_offsets("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions");
  add("a million dimensions",
      shape_and_offsets(
          "[1" +
              [] {
                std::string ones;
                for (int i = 0; i < 1000000; ++i) ones += ",1";
                return ones;
              }() +
              "]",
          "[0,4]"),
      4, "more than 8 dimensions");
  add("a nested shape", shape_and_offsets("[[1]]", "[0,4]"), 4, "a list");
  add("deep lists", std::string(1000000, '['), 0, "a list");
  add(
      "deep objects",
      [] {
        std::string deep;
        for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
        return deep;
      }(),
      0, "field \"a\"");

  add("offsets for another shape", shape_and_offsets("[2]", "[0,4]"), 4, "0 to 8");
  add("offsets that begin late", shape_and_offsets("[1]", "[4,8]"), 8, "0 to 4");
  add("offsets backwards", shape_and_offsets("[1]", "[4,0]"), 4, "0 to 4");
  add("one offset", shape_and_offsets("[1]", "[4]"), 4, "not two");
  add("three offsets", shape_and_offsets("[1]", "[0,4,8]"), 4, "the number 8");
  add("negative offsets", shape_and_offsets("[1]", "[-4,0]"), 4, "negative number -4");
  add("offset 2^64 - 1", shape_and_offsets("[1]", "[0,18446744073709551615]"), 4, "18446744073709551615");
  add("offset 2^64", shape_and_offsets("[1]", "[0,18446744073709551616]"), 4, "18446744073709551616");
  add("overlapping tensors", two_tensors("[0,4]", "[0,4]"), 4, "4 to 8");
  add("a hole", two_tensors("[0,4]", "[8,12]"), 12, "4 to 8");
  add("tensors in another order", two_tensors("[4,8]", "[0,4]"), 8, "0 to 4");
  add("tensors beyond the file", two_tensors("[0,4]", "[4,8]"), 7, "the file holds 7");
  add("a file beyond its tensors", two_tensors("[0,4]", "[4,8]"), 9, "the file holds 9");
  add("tensors of 2^63 bytes together",
      std::string("{") + plain_metadata +
          R"(,"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]})" +
          R"(,"b":{"dtype":"F32","shape":[1152921504606846976],)" +
          R"("data_offsets":[4611686018427387904,9223372036854775808]}})",
      0, "too large");
  return files;
}

TEST_F(TensorFiles, FromStrangersAreRefusedForTheirFault) {
  for (const HostileFile& file : hostile_files()) {
    put(file.bytes);
    EXPECT_THAT(message_of<DataError>([&] { read_tensor_file(path()); }),
                AllOf(HasSubstr(path()), HasSubstr(file.message)))
        << file.what;
  }
}

TEST_F(TensorFiles, FromStrangersAreRefusedWithLittleMemory) {
  if (testing::address_sanitizer) GTEST_SKIP() << no_room_for_the_sanitizer;
  const std::vector<HostileFile> files = hostile_files();
  EXPECT_TRUE(in_child([&] {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    constexpr std::size_t allowance = std::size_t{64} << 20;  // the largest of the files has 4 MB
    const rlim_t bytes = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + allowance;
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_AS, &limit);
    for (const HostileFile& file : files) {
      put(file.bytes);
      try {
        read_tensor_file(path());
        return false;
      } catch (const DataError&) {
      }
    }
    return true;
  }));
}

TEST_F(TensorFiles, InAnyOtherSpellingAreRefused) {
  write_tensor_file(path(), {{{"a", {{1}, {1.0f}}}, {"b", {{1}, {2.0f}}}}, {{"note", "x/y"}}});
  const Bytes original = read_file(path());
  std::uint64_t length = 0;
  std::memcpy(&length, original.data(), 8);
  const std::string header(original.begin() + 8, original.begin() + 8 + static_cast<std::ptrdiff_t>(length));
  const std::string compact = header.substr(0, header.find_last_of('}') + 1);
  const auto with = [&](std::string text, const std::string& from, const std::string& to) {
    const std::size_t place = text.find(from);
    if (place == std::string::npos) throw std::runtime_error("the header has no " + from);
    return text.replace(place, from.size(), to);
  };
  const std::string entry_a = R"("a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]})";
  const std::string entry_b = R"("b":{"data_offsets":[4,8],"dtype":"F32","shape":[1]})";
  std::vector<std::string> spellings = {
      with(compact, ":{", ": {"),
      " " + compact,
      compact + "\n",
      compact + "\t",
      "\xEF\xBB\xBF" + compact,
      with(compact, "x/y", R"(x\/y)"),
      with(compact, "x/y", R"(\u0078/y)"),
      with(compact, R"("dtype":"F32","shape":[1])", R"("shape":[1],"dtype":"F32")"),
      with(compact, entry_a + "," + entry_b, entry_b + "," + entry_a),
  };
  for (std::string& text : spellings) text.resize((text.size() + 7) / 8 * 8, ' ');
  spellings.push_back(header + "        ");
  if (compact != header) spellings.push_back(compact);
  for (const std::string& text : spellings) {
    Bytes bytes = file_with(text.size(), text, 0);
    bytes.insert(bytes.end(), original.end() - 8, original.end());
    put(bytes);
    EXPECT_THAT(message_of<DataError>([&] { read_tensor_file(path()); }), HasSubstr("byte for byte")) << text;
  }
}

// ------------------------------------------------------------------------------------------ models

using Models = FileTest;

Tensor random_tensor(const std::vector<std::int64_t>& shape, std::mt19937& random) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  Tensor tensor = {shape, std::vector<float>(count)};
  for (float& value : tensor.values) value = static_cast<float>(random()) / 2147483648.0f - 1.0f;
  return tensor;
}

Model random_model(const std::vector<std::int64_t>& sizes, bool with_optimizer) {
  std::mt19937 random(1);
  Model model;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    model.tensors[name] = random_tensor(shape, random);
    for (const char* moment : {".first", ".second"}) {
      if (with_optimizer) model.optimizer["optimizer." + name + moment] = random_tensor(shape, random);
    }
  };
  for (std::size_t l = 1; l < sizes.size(); ++l) {
    const std::string layer = std::to_string(l);
    add("recognition." + layer + ".weight", {sizes[l], sizes[l - 1]});
    add("recognition." + layer + ".bias", {sizes[l]});
    add("generative." + layer + ".weight", {sizes[l - 1], sizes[l]});
    add("generative." + layer + ".bias", {sizes[l - 1]});
  }
  add("prior.bias", {sizes.back()});
  model.sizes = sizes;
  model.settings.layers.assign(sizes.begin() + 1, sizes.end());
  model.settings.seed = 18446744073709551615ull;
  model.settings.generative_learning_rate = 0.1;
  model.step = 123456789012;
  model.hash = hash_of(model.tensors);
  if (with_optimizer) model.run = {{"data", "mnist \u00e9 \"x\" \\ y"}, {"rows", "60000"}};
  return model;
}

void expect_same(const Model& found, const Model& expected) {
  EXPECT_TRUE(same(found.tensors, expected.tensors));
  EXPECT_TRUE(same(found.optimizer, expected.optimizer));
  EXPECT_EQ(to_pairs(found.settings), to_pairs(expected.settings));
  EXPECT_EQ(found.sizes, expected.sizes);
  EXPECT_EQ(found.step, expected.step);
  EXPECT_EQ(found.height, expected.height);
  EXPECT_EQ(found.width, expected.width);
  EXPECT_EQ(found.hash, expected.hash);
  EXPECT_EQ(found.run, expected.run);
}

TEST_F(Models, ReadBackWhole) {
  const std::vector<std::vector<std::int64_t>> machines = {
      {1, 1},
      {3, 2},
      {33, 31, 1},
      {5, 64, 7, 2},
      std::vector<std::int64_t>(13, 3)};  // layer 10 sorts before 2
  for (const auto& sizes : machines) {
    for (const bool with_optimizer : {false, true}) {
      const Model model = random_model(sizes, with_optimizer);
      save_model(path(), model);
      expect_same(load_model(path()), model);
    }
  }
}

TEST_F(Models, KeepTheShapeOfTheirImages) {
  Model model = random_model({6, 2}, false);
  model.height = 2;
  model.width = 3;
  save_model(path(), model);
  expect_same(load_model(path()), model);
}

TEST_F(Models, MayHaveAThousandLayersAndAdam) {
  const Model model = random_model(std::vector<std::int64_t>(1001, 1), true);
  save_model(path(), model);
  expect_same(load_model(path()), model);
  EXPECT_EQ(model.tensors.size() + model.optimizer.size(), 12003u);
}

TEST_F(Models, AreSavedToTheSameBytes) {
  const Model model = random_model({3, 2}, true);
  save_model(path(), model);
  const Bytes first = read_file(path());
  save_model(path(), load_model(path()));
  EXPECT_EQ(read_file(path()), first);
}

TEST(HashOf, IsWhatPythonComputes) {
  const Tensors tensors = {{"recognition.1.weight", {{1, 1}, {0.25f}}},
                           {"recognition.1.bias", {{1}, {-1.0f}}},
                           {"generative.1.weight", {{1, 1}, {0.5f}}},
                           {"generative.1.bias", {{1}, {2.0f}}},
                           {"prior.bias", {{1}, {-3.0f}}}};
  EXPECT_EQ(hash_of(tensors), "1b8dfb7ef664623e6b563a98bde668d4067c7042e3d026cfb69b804d5fa21fc3");
}

TEST(HashOf, SeesNamesShapesAndEveryBit) {
  const Tensors tensors = {{"a", {{2, 3}, std::vector<float>(6, 0.0f)}}};
  const std::string hash = hash_of(tensors);
  EXPECT_NE(hash_of({{"b", tensors.at("a")}}), hash);
  EXPECT_NE(hash_of({{"a", {{3, 2}, std::vector<float>(6, 0.0f)}}}), hash);
  Tensors negative_zero = tensors;
  negative_zero["a"].values[5] = -0.0f;
  EXPECT_NE(hash_of(negative_zero), hash);
}

TEST(SizesOf, SaysWhichTensorIsWrong) {
  const Model model = random_model({4, 3, 2}, false);
  EXPECT_EQ(sizes_of(model.tensors), (std::vector<std::int64_t>{4, 3, 2}));
  EXPECT_THAT(message_of<DataError>([] { sizes_of({}); }), HasSubstr("recognition.1.weight"));
  for (const auto& [name, tensor] : model.tensors) {
    // Without its recognition weights a layer is not there at all: its other tensors are then too many.
    const std::string expected = name == "recognition.2.weight" ? "prior.bias" : name;
    Tensors missing = model.tensors;
    missing.erase(name);
    EXPECT_THAT(message_of<DataError>([&] { sizes_of(missing); }), HasSubstr(expected));
    Tensors scalar = model.tensors;
    scalar[name] = {{}, {1.0f}};
    EXPECT_THAT(message_of<DataError>([&] { sizes_of(scalar); }), HasSubstr(name));
    Tensors cut = model.tensors;
    cut[name].values.pop_back();
    EXPECT_THAT(message_of<DataError>([&] { sizes_of(cut); }), HasSubstr(name));
  }
  Tensors extra = model.tensors;
  extra["generative.3.bias"] = {{2}, {0.0f, 0.0f}};
  EXPECT_THAT(message_of<DataError>([&] { sizes_of(extra); }), HasSubstr("10 parameter tensors"));
  Tensors empty = model.tensors;
  empty["recognition.1.weight"] = {{0, 4}, {}};
  EXPECT_THAT(message_of<DataError>([&] { sizes_of(empty); }), HasSubstr("[0, 4]"));
}

struct WrongContent {
  const char* message;
  std::function<void(TensorFile&)> change;
};

TEST_F(Models, WithIntactHashesButWrongContentAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinite = std::numeric_limits<float>::infinity();
  const std::vector<WrongContent> cases = {
      {"wakesleep-exact-2", [](auto& f) { f.metadata["arithmetic"] = "wakesleep-exact-2"; }},
      {"no entry arithmetic", [](auto& f) { f.metadata.erase("arithmetic"); }},
      {"a step is at least 0", [](auto& f) { f.metadata["step"] = "-1"; }},
      {"step=\"9223372036854775808\"", [](auto& f) { f.metadata["step"] = "9223372036854775808"; }},
      {"step=\"1 \"", [](auto& f) { f.metadata["step"] = "1 "; }},
      {"no entry step", [](auto& f) { f.metadata.erase("step"); }},
      {"seed=\"7\"", [](auto& f) { f.metadata["seed"] = "7"; }},
      {"sizes=\"3,3\"", [](auto& f) { f.metadata["sizes"] = "3,3"; }},
      {"no entry sizes", [](auto& f) { f.metadata.erase("sizes"); }},
      {"hash=\"0\"", [](auto& f) { f.metadata["hash"] = "0"; }},
      {"hash=", [](auto& f) { f.tensors["prior.bias"].values[0] = 7.0f; }},
      {"2 x 2", [](auto& f) { f.metadata["height"] = f.metadata["width"] = "2"; }},
      {"-1 x -3", [](auto& f) { f.metadata["height"] = "-1", f.metadata["width"] = "-3"; }},
      {"3 x 0", [](auto& f) { f.metadata["height"] = "3"; }},
      {"layers", [](auto& f) { f.metadata["setting.layers"] = "4"; }},
      {"epochs", [](auto& f) { f.metadata.erase("setting.epochs"); }},
      {"epsilon", [](auto& f) { f.metadata["setting.epsilon"] = "0"; }},
      {"colour", [](auto& f) { f.metadata["setting.colour"] = "green"; }},
      {"colour", [](auto& f) { f.metadata["colour"] = "green"; }},
      {"prior.bias", [](auto& f) { f.tensors.erase("prior.bias"); }},
      {"6 parameter tensors", [](auto& f) { f.tensors["x"] = f.tensors["prior.bias"]; }},
      {"recognition.1.weight is not finite at [1, 2]",
       [=](auto& f) {
         f.tensors["recognition.1.weight"].values[5] = nan;
         Tensors parameters;
         for (const auto& [name, tensor] : f.tensors) {
           if (name.rfind("optimizer.", 0) != 0) parameters[name] = tensor;
         }
         f.metadata["hash"] = hash_of(parameters);
       }},
      {"optimizer.prior.bias.second is not finite at [0]",
       [=](auto& f) { f.tensors["optimizer.prior.bias.second"].values[0] = infinite; }},
  };
  save_model(path(), random_model({3, 2}, true));
  const TensorFile original = read_tensor_file(path());
  for (const WrongContent& wrong : cases) {
    TensorFile file = original;
    wrong.change(file);
    write_tensor_file(path(), file);
    EXPECT_THAT(message_of<DataError>([&] { load_model(path()); }),
                AllOf(HasSubstr(path()), HasSubstr(wrong.message)));
  }
}

TEST_F(Models, ThatCouldNotBeReadAreNotSaved) {
  const auto refused = [&](const std::function<void(Model&)>& change) {
    Model model = random_model({3, 2}, true);
    change(model);
    try {
      save_model(path(), model);
    } catch (const DataError&) {
      return true;
    } catch (const UsageError&) {
      return true;
    }
    return false;
  };
  EXPECT_TRUE(refused([](Model& m) { m.step = -1; }));
  EXPECT_TRUE(refused([](Model& m) { m.sizes = {3, 3}; }));
  EXPECT_TRUE(refused([](Model& m) { m.settings.layers = {3}; }));
  EXPECT_TRUE(refused([](Model& m) { m.settings.epsilon = 0; }));
  EXPECT_TRUE(refused([](Model& m) { m.height = 2; }));
  EXPECT_TRUE(refused([](Model& m) { m.tensors.erase("prior.bias"); }));
  EXPECT_TRUE(refused([](Model& m) { m.tensors["prior.bias"].values[0] = infinity; }));
  EXPECT_TRUE(refused([](Model& m) { m.optimizer.begin()->second.values[0] = not_a_number; }));
  EXPECT_TRUE(refused([](Model& m) { m.optimizer["momentum"] = m.tensors["prior.bias"]; }));
  EXPECT_TRUE(refused([](Model& m) { m.run["note"] = "two\nlines"; }));
  EXPECT_THAT(names_in(folder()), IsEmpty());
}

TEST_F(Models, StatesOfAlgorithmsHaveTheNamesThatTheRefusalOfOthersLists) {
  const Tensor state = {{2}, {0.0f, 1.0f}};
  Model model = random_model({3, 2}, false);
  const std::vector<std::string> beginnings = {"chain.", "activation.", "fisher."};
  for (const std::string& beginning : beginnings) model.algorithm[beginning + "1"] = state;
  save_model(path(), model);
  EXPECT_EQ(load_model(path()).algorithm.size(), beginnings.size());
  model.algorithm["memory.1"] = state;
  const std::string refusal = message_of<UsageError>([&] { save_model(path(), model); });
  for (const std::string& beginning : beginnings) EXPECT_THAT(refusal, HasSubstr(beginning));
}

// ------------------------------------------------------------------------------------------ damage

/// A saved checkpoint, kept open so that it can be damaged in place.
class Damage : public FileTest {
 protected:
  void SetUp() override {
    save_model(path(), random_model({3, 2}, true));
    original_ = read_file(path());
    file_ = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(file_, 0);
    ASSERT_LT(original_.size(), 16384u);
  }
  void TearDown() override { ::close(file_); }

  void set(std::size_t position, std::uint8_t byte) {
    ASSERT_EQ(::pwrite(file_, &byte, 1, static_cast<off_t>(position)), 1);
  }
  bool is_refused() const {
    try {
      load_model(path());
    } catch (const DataError&) {
      return true;
    }
    return false;
  }

  Bytes original_;
  int file_ = -1;
};

TEST_F(Damage, EverySingleBitFlipIsFound) {
  for (std::size_t position = 0; position < original_.size(); ++position) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      set(position, static_cast<std::uint8_t>(original_[position] ^ (1u << bit)));
      ASSERT_TRUE(is_refused()) << "bit " << bit << " of byte " << position;
    }
    set(position, original_[position]);
  }
  EXPECT_FALSE(is_refused());
}

TEST_F(Damage, EveryTruncationIsFound) {
  for (std::size_t size = original_.size(); size-- > 0;) {
    ASSERT_EQ(::ftruncate(file_, static_cast<off_t>(size)), 0);
    ASSERT_TRUE(is_refused()) << size << " bytes";
  }
}

TEST_F(Damage, EveryExtensionIsFound) {
  for (std::size_t more = 1; more <= 33; ++more) {
    ASSERT_EQ(::ftruncate(file_, static_cast<off_t>(original_.size() + more)), 0);
    ASSERT_TRUE(is_refused()) << more << " more bytes";
  }
}

TEST_F(Damage, RandomDamageIsFound) {
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    const unsigned changes = 1 + random() % 8;
    std::vector<std::size_t> positions;
    for (unsigned change = 0; change < changes; ++change) {
      positions.push_back(random() % original_.size());
      set(positions.back(), static_cast<std::uint8_t>(random()));
    }
    ASSERT_EQ(is_refused(), read_file(path()) != original_);
    for (const std::size_t position : positions) set(position, original_[position]);
  }
}

}  // namespace
}  // namespace wakesleep
