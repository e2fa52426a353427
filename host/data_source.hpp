// The bytes of a data file in bounded pieces, decompressed on the way where the file is gz.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "wakesleep/error.hpp"

namespace wakesleep {

/// zlib's inflate is used directly, because gzread() takes bytes after the compressed data for the end of the
/// file.
class ByteSource {
 public:
  explicit ByteSource(const std::string& path) : path_(path) {
    open_regular_file();
    try {
      compressed_ = begins_like_gz();
      if (compressed_) start_inflating();
    } catch (...) {
      ::close(file_);
      throw;
    }
  }
  ~ByteSource() {
    if (compressed_) inflateEnd(&stream_);
    ::close(file_);
  }
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// Throws DataError about this file; `what` goes on after its name.
  [[noreturn]] void fail(const std::string& what) const { throw DataError("'" + path_ + "' " + what); }

  bool compressed() const { return compressed_; }
  /// Content bytes read so far.
  std::uint64_t position() const { return position_; }

  /// All content that is at hand, at least `count` bytes (of at most 64) unless the file ends before.
  std::span<const std::uint8_t> peek(std::size_t count) {
    while (end_ - begin_ < count && fetch()) {
    }
    return {content_.data() + begin_, end_ - begin_};
  }

  void skip(std::size_t count) {
    begin_ += count;
    position_ += count;
  }

  /// Fails as truncated when the content ends before.
  void read(std::uint8_t* to, std::size_t count) {
    while (count > 0) {
      const std::span<const std::uint8_t> at_hand = peek(1);
      if (at_hand.empty()) fail_truncated(position_);
      const std::size_t part = std::min(count, at_hand.size());
      std::memcpy(to, at_hand.data(), part);
      skip(part);
      to += part;
      count -= part;
    }
  }

  /// Says how long the whole content is by its own header. A plain file is measured at once, before anything
  /// is allocated for its values; a compressed one only shows it as it is read.
  void expect_size(std::uint64_t declared_bytes) {
    declared_ = declared_bytes;
    if (compressed_) return;
    if (stored_bytes_ < declared_) fail_truncated(stored_bytes_);
    if (stored_bytes_ > declared_) fail_over_long(std::to_string(stored_bytes_));
  }

  /// Fails unless everything has been read (which for gz includes the checksum at the end).
  void expect_end() {
    if (!peek(1).empty()) fail_over_long("more");
  }

 private:
  static constexpr std::size_t content_bytes = std::size_t{1} << 18;
  static constexpr std::size_t stored_piece_bytes = std::size_t{1} << 17;

  [[noreturn]] void fail_errno(const std::string& what, int error) const {
    fail(what + ": " + std::error_code(error, std::generic_category()).message() +
         "; check the file and its path");
  }
  [[noreturn]] void fail_truncated(std::uint64_t length) const {
    const std::string contents = compressed_ ? " decompressed" : "";
    const std::string ending =
        "is truncated: it ends after " + std::to_string(length) + contents + " bytes, ";
    fail(ending +
         (declared_ == 0 ? "within its header"
                         : "its header declares " + std::to_string(declared_) + " in all") +
         "; copy or download it again");
  }
  [[noreturn]] void fail_over_long(const std::string& length) const {
    fail("is over-long: it holds " + length + " bytes where its header declares " +
         std::to_string(declared_) + " in all; copy or download it again");
  }

  void open_regular_file() {
    // O_NONBLOCK: opening a named pipe must not wait for somebody to write into it.
    file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file_ < 0) fail_errno("cannot be opened for reading", errno);
    struct stat status {};
    const int error = ::fstat(file_, &status) == 0 ? 0 : errno;
    const bool regular = error == 0 && S_ISREG(status.st_mode);
    if (!regular || status.st_size == 0) ::close(file_);
    if (error != 0) fail_errno("cannot be examined", error);
    if (S_ISDIR(status.st_mode)) fail("is a folder; give a data file");
    if (!regular) fail("is not a regular file; give a data file");
    if (status.st_size == 0) fail("is empty; give a file with data");
    stored_bytes_ = static_cast<std::uint64_t>(status.st_size);
  }

  bool begins_like_gz() {
    std::array<std::uint8_t, 2> magic{};
    const std::size_t count = read_stored(magic.data(), magic.size());
    if (::lseek(file_, 0, SEEK_SET) != 0) fail_errno("cannot be read", errno);
    return count == 2 && magic[0] == 0x1F && magic[1] == 0x8B;
  }

  void start_inflating() {
    stored_.resize(stored_piece_bytes);
    constexpr int gz_with_largest_window = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, gz_with_largest_window) != Z_OK) throw std::bad_alloc();
  }

  /// Bytes as they are in the file; fewer than asked for only at its end.
  std::size_t read_stored(std::uint8_t* to, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      const ssize_t part = ::read(file_, to + done, count - done);
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) fail_errno("cannot be read", errno);
      if (part == 0) break;
      done += static_cast<std::size_t>(part);
    }
    return done;
  }

  /// Adds to the content at hand; false at the end of the file.
  bool fetch() {
    std::memmove(content_.data(), content_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    std::uint8_t* const to = content_.data() + end_;
    const std::size_t room = content_.size() - end_;
    const std::size_t count = compressed_ ? inflate_some(to, room) : read_stored(to, room);
    end_ += count;
    return count > 0;
  }

  std::size_t inflate_some(std::uint8_t* to, std::size_t room) {
    for (;;) {
      if (stream_.avail_in == 0) {
        stream_.next_in = stored_.data();
        stream_.avail_in = static_cast<uInt>(read_stored(stored_.data(), stored_.size()));
        if (stream_.avail_in == 0) {
          if (between_members_) return 0;
          if (after_whole_member()) fail_trailing_bytes();
          fail("is truncated: its gz data ends too early; copy or download it again");
        }
      }
      if (std::exchange(between_members_, false)) inflateReset(&stream_);
      stream_.next_out = to;
      stream_.avail_out = static_cast<uInt>(room);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        between_members_ = true;
        some_member_whole_ = true;
      } else if (status != Z_OK) {
        fail_inflating(status);
      }
      const std::size_t count = room - stream_.avail_out;
      if (count > 0) return count;
    }
  }

  /// What follows a whole compressed stream and gives nothing itself is no further one.
  bool after_whole_member() const { return some_member_whole_ && stream_.total_out == 0; }

  [[noreturn]] void fail_trailing_bytes() const {
    fail("is over-long: other bytes follow its gz data; copy or download it again");
  }
  [[noreturn]] void fail_inflating(int status) const {
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (after_whole_member()) fail_trailing_bytes();
    const std::string reason = stream_.msg != nullptr ? stream_.msg : "code " + std::to_string(status);
    fail("is a broken gz file (" + reason + "); copy or download it again");
  }

  std::string path_;
  int file_ = -1;
  std::uint64_t stored_bytes_ = 0;
  std::uint64_t declared_ = 0;  ///< 0 as long as the header has not been read
  std::uint64_t position_ = 0;

  std::vector<std::uint8_t> content_ = std::vector<std::uint8_t>(content_bytes);
  std::size_t begin_ = 0;  ///< content_[begin_, end_) is at hand
  std::size_t end_ = 0;

  bool compressed_ = false;
  std::vector<std::uint8_t> stored_;
  z_stream stream_{};
  bool between_members_ = false;  ///< a gz file may hold several compressed streams in a row
  bool some_member_whole_ = false;
};

}  // namespace wakesleep
