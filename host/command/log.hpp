// What a command says on standard error while it works.
#pragma once

#include <cstdio>
#include <string>

namespace wakesleep::command {

class Log {
 public:
  explicit Log(bool quiet) : quiet_(quiet) {}
  void line(const std::string& text) const {
    if (!quiet_) warning(text);
  }
  /// Shown even when quiet.
  static void warning(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }
  void field(const std::string& name, const std::string& text) const {
    line(name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + text);
  }

 private:
  bool quiet_;
};

}  // namespace wakesleep::command
