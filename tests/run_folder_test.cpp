// The run folder among processes that begin and fail at the same moment. The moments are met by standing in
// for two functions of the C library, which the program calls between its own steps.
#include "command/run_folder.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include "refusals.hpp"
#include "temporary_folder.hpp"
#include "wakesleep/error.hpp"

namespace {
// What happens just before the function of the name does its work.
std::function<void()> before_flock;
std::function<void(const std::string&)> before_remove;
}  // namespace

extern "C" int flock(int file, int operation) noexcept {
  if (before_flock) std::exchange(before_flock, nullptr)();
  return static_cast<int>(::syscall(SYS_flock, file, operation));
}

extern "C" int remove(const char* path) noexcept {
  if (before_remove) before_remove(path);
  return ::unlink(path) == 0 ? 0 : ::rmdir(path);
}

namespace wakesleep::command {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

class RunFolderTest : public ::testing::Test {
 protected:
  void TearDown() override {
    before_flock = nullptr;
    before_remove = nullptr;
  }

  std::string path(const std::string& name) const { return folder_ / name; }
  void put(const std::string& name) const { std::ofstream(path(name)) << "content"; }
  bool exists(const std::string& name) const { return fs::exists(path(name)); }

  /// Whether a process that comes now is kept out.
  bool is_held(const std::string& name) const {
    const int file = ::open(path(name + "/.lock").c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_GE(file, 0);
    const bool held = ::flock(file, LOCK_EX | LOCK_NB) != 0;
    ::close(file);
    return held;
  }

 private:
  testing::TemporaryFolder folder_;
};

TEST_F(RunFolderTest, TakesBackWhatItCreatedAndNothingElse) {
  fs::create_directory(path("before"));
  put("before/notes.txt");
  {
    RunFolder folder(path("before/new//above/run/"));
    folder.create();
    folder.save_config("epochs = 1\n");
    EXPECT_TRUE(exists("before/new/above/run/samples"));
    put("before/new/foreign.txt");
  }
  EXPECT_FALSE(exists("before/new/above"));
  EXPECT_TRUE(exists("before/new/foreign.txt")) << "somebody else has put it there meanwhile";
  EXPECT_TRUE(exists("before/notes.txt"));
}

TEST_F(RunFolderTest, KeepsFoldersAndLocksThatWereThere) {
  fs::create_directories(path("run/samples"));
  put("run/.lock");
  {
    RunFolder folder(path("run"));
    folder.create();
    folder.save_config("epochs = 1\n");
  }
  EXPECT_TRUE(exists("run/.lock"));
  EXPECT_TRUE(exists("run/samples"));
  EXPECT_FALSE(exists("run/checkpoints"));
  EXPECT_FALSE(exists("run/config.toml"));
}

TEST_F(RunFolderTest, KeepsEverythingOnceItIsToldTo) {
  {
    RunFolder folder(path("new/run"));
    folder.keep();
    folder.create();
    folder.save_config("epochs = 1\n");
  }
  EXPECT_TRUE(exists("new/run/config.toml"));
  EXPECT_TRUE(exists("new/run/checkpoints"));
}

TEST_F(RunFolderTest, RemovesTheLockWhileItIsHeld) {
  bool lock_removed = false;
  {
    RunFolder folder(path("run"));
    folder.create();
    before_remove = [&](const std::string& removed) {
      if (removed != path("run/.lock")) return;
      lock_removed = true;
      EXPECT_TRUE(is_held("run"));
    };
  }
  EXPECT_TRUE(lock_removed);
  EXPECT_FALSE(exists("run"));
}

// Another run takes its lock back after this one has opened it: a lock on what it opened would keep nobody
// out.
TEST_F(RunFolderTest, ALockThatIsTakenBackMeanwhileIsNotReliedOn) {
  fs::create_directory(path("run"));
  put("run/.lock");
  before_flock = [&] { fs::remove(path("run/.lock")); };
  RunFolder folder(path("run"));
  EXPECT_FALSE(exists("run/.lock"));
  folder.create();
  EXPECT_TRUE(is_held("run"));
  EXPECT_THAT(message_of<CannotCreateError>([&] { RunFolder second(path("run")); }), HasSubstr("held"));
}

TEST_F(RunFolderTest, AFolderThatIsTakenBackMeanwhileIsCreatedAnew) {
  RunFolder folder(path("run"));
  before_flock = [&] { fs::remove_all(path("run")); };
  folder.create();
  EXPECT_TRUE(exists("run/checkpoints"));
  EXPECT_TRUE(is_held("run"));
}

}  // namespace
}  // namespace wakesleep::command
