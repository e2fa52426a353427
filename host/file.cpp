#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

/// Calls again while a signal interrupts. Never used for fsync or close, which must not be repeated.
template <class Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  bool valid() const { return number_ >= 0; }
  /// Closes early, so that the result can be looked at. Linux frees the number even when it reports an error.
  int close() { return ::close(std::exchange(number_, -1)); }

 private:
  int number_;
};

std::string cause_of(int error) { return std::generic_category().message(error); }

/// Whether the error says that a file cannot be there at all, rather than that writing it went wrong on the
/// way.
bool is_about_the_place(int error) {
  constexpr std::array place_errors = {ENOENT, EACCES, EPERM,  EROFS, ENOTDIR,
                                       EISDIR, ELOOP,  EEXIST, EBUSY, ENAMETOOLONG};
  return std::find(place_errors.begin(), place_errors.end(), error) != place_errors.end();
}

std::string remedy_for(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "create its folder first, or write elsewhere";
    case EACCES:
    case EPERM:
    case EROFS:
      return "make its folder writable for this user, or write elsewhere";
    case EISDIR:
      return "give the name of a file, not of a folder";
    case ENAMETOOLONG:
      return "give a shorter name";
    case ENOSPC:
    case EDQUOT:
      return "free some space there, or write elsewhere";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f), or write elsewhere";
    default:
      return "check the disk, or write elsewhere";
  }
}

[[noreturn]] void fail_to_write(const std::string& path, int error) {
  const std::string reason = path + ": " + cause_of(error) + "; " + remedy_for(error);
  if (is_about_the_place(error)) throw CannotCreateError("cannot create " + reason);
  throw OutputError("cannot write " + reason + " (what stood there before is untouched)");
}

/// A path's folder, opened once, so that creating, renaming and syncing concern the same folder whatever
/// happens to its name meanwhile.
class Target {
 public:
  explicit Target(const std::string& path)
      : path_(path),
        slash_(path.rfind('/')),
        name_(slash_ == std::string::npos ? path : path.substr(slash_ + 1)),
        folder_(uninterrupted(
            [&] { return ::open(folder_name().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); })) {
    if (!folder_.valid()) fail_to_write(path, errno);
    if (name_.empty() || name_ == "." || name_ == "..") fail_to_write(path, EISDIR);
    refuse_what_is_no_file();
  }

  const std::string& path() const { return path_; }
  const char* name() const { return name_.c_str(); }
  int folder() const { return folder_.number(); }

 private:
  std::string folder_name() const {
    if (slash_ == std::string::npos) return ".";
    return slash_ == 0 ? "/" : path_.substr(0, slash_);
  }
  /// The name of a device, or a symbolic link to one, must go on being that. What /dev/stdout and its like
  /// lead to may be a file, or nothing, for the moment.
  void refuse_what_is_no_file() const {
    struct stat itself, at_its_end;
    if (::fstatat(folder_.number(), name(), &itself, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISDIR(itself.st_mode)) fail_to_write(path_, EISDIR);
    bool is_special = !S_ISREG(itself.st_mode);
    if (S_ISLNK(itself.st_mode)) {
      const std::string to = link_text();
      is_special = to.starts_with("/dev/") || to.starts_with("/proc/") ||
                   (::fstatat(folder_.number(), name(), &at_its_end, 0) == 0 &&
                    !S_ISREG(at_its_end.st_mode) && !S_ISDIR(at_its_end.st_mode));
    }
    if (!is_special) return;
    throw CannotCreateError("cannot create " + path_ +
                            ": a pipe or a device is in its place; give the name of a file");
  }
  std::string link_text() const {
    std::array<char, 64> text;  // its beginning is enough
    const ssize_t length = ::readlinkat(folder_.number(), name(), text.data(), text.size());
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
  }

  std::string path_;
  std::size_t slash_;
  std::string name_;
  Descriptor folder_;
};

/// A new file in the target's folder that takes the target's name, or disappears.
class Temporary {
 public:
  explicit Temporary(const Target& target) : target_(target), file_(create()) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (exists_) ::unlinkat(target_.folder(), name_.c_str(), 0);
  }

  void write(const std::uint8_t* bytes, std::size_t size) {
    while (size > 0) {
      const ssize_t written = uninterrupted([&] { return ::write(file_.number(), bytes, size); });
      if (written < 0) fail_to_write(target_.path(), errno);
      if (written == 0) fail_to_write(target_.path(), EIO);
      bytes += written;
      size -= static_cast<std::size_t>(written);
    }
  }

  /// A failed fsync is final: the kernel may have marked the pages clean, so a second one would lie.
  void sync_and_close() {
    if (::fsync(file_.number()) != 0) fail_to_write(target_.path(), errno);
    if (file_.close() != 0 && errno != EINTR) fail_to_write(target_.path(), errno);
  }

  void take_name() {
    if (::renameat(target_.folder(), name_.c_str(), target_.folder(), target_.name()) != 0) {
      fail_to_write(target_.path(), errno);
    }
    exists_ = false;
  }

 private:
  /// The name is short whatever the target's length, and unique among processes and calls; one that a killed
  /// process of the same number left behind is passed over.
  int create() {
    static std::atomic<unsigned> counter{0};
    constexpr int attempts = 1000;
    int error = EEXIST;
    for (int attempt = 0; attempt < attempts && error == EEXIST; ++attempt) {
      name_ = ".wakesleep-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
      const int number = uninterrupted([&] {
        return ::openat(target_.folder(), name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                        0666);
      });
      if (number >= 0) {
        exists_ = true;
        return number;
      }
      error = errno;
    }
    fail_to_write(target_.path(), error);
  }

  const Target& target_;
  std::string name_;
  bool exists_ = false;
  Descriptor file_;
};

/// Makes the rename durable. EINVAL: this file system has no such thing as syncing a folder.
void sync_folder(const Target& target) {
  if (::fsync(target.folder()) == 0 || errno == EINVAL) return;
  throw OutputError(target.path() + " is written, but its folder cannot be synced (" + cause_of(errno) +
                    "), so that the file may be lost if the machine stops now; check the disk");
}

[[noreturn]] void fail_to_read(const std::string& path, int error) {
  const char* remedy = error == ENOENT || error == ENOTDIR ? "check the path"
                       : error == EACCES || error == EPERM ? "make it readable for this user"
                                                           : "check the disk";
  throw DataError("cannot read " + path + ": " + cause_of(error) + "; " + remedy);
}

std::size_t regular_file_size(const Descriptor& file, const std::string& path) {
  struct stat status;
  if (::fstat(file.number(), &status) != 0) fail_to_read(path, errno);
  if (S_ISDIR(status.st_mode))
    throw DataError(path + " is a folder where a file is expected; name a file in it");
  if (!S_ISREG(status.st_mode)) {
    throw DataError(path +
                    " is a pipe or a device where a regular file is expected; write it to a file first");
  }
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

std::vector<std::uint8_t> read_file(const std::string& path, std::size_t limit) {
  // Without O_NONBLOCK, opening a pipe would wait for its writer before it can be refused.
  const Descriptor file(
      uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  if (!file.valid()) fail_to_read(path, errno);
  const std::size_t size = regular_file_size(file, path);
  if (size > limit) {
    throw DataError(path + " has " + std::to_string(size) + " bytes where at most " + std::to_string(limit) +
                    " are expected; check that it is the right file");
  }
  std::vector<std::uint8_t> bytes;
  try {
    bytes.resize(size);
  } catch (const std::bad_alloc&) {
    throw DataError(path + " has " + std::to_string(size) +
                    " bytes, more than there is memory for; read it on a larger machine");
  }
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count =
        uninterrupted([&] { return ::read(file.number(), bytes.data() + done, size - done); });
    if (count < 0) fail_to_read(path, errno);
    if (count == 0) {
      throw DataError(path + " became shorter while it was read (" + std::to_string(done) + " of " +
                      std::to_string(size) + " bytes); wait until nothing writes to it, and read it again");
    }
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

void write_file_atomically(const std::string& path, const void* bytes, std::size_t size) {
  const Target target(path);
  Temporary temporary(target);
  temporary.write(static_cast<const std::uint8_t*>(bytes), size);
  temporary.sync_and_close();
  temporary.take_name();
  sync_folder(target);
}

void check_writable(const std::string& path) {
  try {
    const Target target(path);
    const Temporary temporary(target);
  } catch (const OutputError& error) {
    throw CannotCreateError(error.what());
  }
}

}  // namespace wakesleep
