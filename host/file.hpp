// Files: read whole, or written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace wakesleep {

/// Reads a regular file. Throws DataError (missing, unreadable, a folder, larger than `limit` bytes).
std::vector<std::uint8_t> read_file(const std::string& path, std::size_t limit = SIZE_MAX);

/// Writes `path` atomically: temporary in the same folder (exclusive, never through a symbolic link),
/// written, synced, closed, renamed over `path`, folder synced. A symbolic link is replaced, but pipes and
/// devices, and links to them, are refused with CannotCreateError. On any failure the temporary is removed,
/// `path` is as it was, and CannotCreateError (folder missing, not writable) or OutputError (disk full,
/// quota, I/O error) names path and cause.
void write_file_atomically(const std::string& path, const void* bytes, std::size_t size);

/// Refuses early: throws CannotCreateError when a file could not be created beside `path`.
void check_writable(const std::string& path);

}  // namespace wakesleep
