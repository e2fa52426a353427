// The program `wakesleep`: finds the command, runs it, and turns what goes wrong into one sentence and an
// exit code.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "command/arguments.hpp"
#include "command/commands.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"

namespace {

using namespace wakesleep;
using namespace wakesleep::command;

struct Command {
  const CommandSpec& (*spec)();
  int (*run)(const Arguments&);
};

constexpr Command commands[] = {
    {train_spec, train},
    {evaluate_spec, command::evaluate},
    {sample_spec, sample},
    {encode_spec, command::encode},
    {reconstruct_spec, command::reconstruct},
    {info_spec, info},
    {bench_spec, bench},
};

constexpr int internal_error = 70;

std::string overview() {
  std::string text =
      "wakesleep trains Helmholtz machines by wake-sleep and related algorithms, in exact integer "
      "arithmetic.\n\n"
      "Usage: wakesleep COMMAND ...\n\n";
  for (const Command& command : commands) {
    const CommandSpec& spec = command.spec();
    text += "  " + spec.name + std::string(14 - spec.name.size(), ' ') + spec.summary + "\n";
  }
  return text +
         "\n`wakesleep COMMAND --help` lists a command's options; `wakesleep --version` names this build.\n";
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (command.spec().name == name) return command;
    names.push_back(command.spec().name);
  }
  throw UsageError("unknown command '" + name + "' of `wakesleep`; the commands are " + listed(names) +
                   did_you_mean(name, names));
}

bool asks_for_help(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const auto& word) { return word == "--help" || word == "-h"; });
}

int run(const std::vector<std::string>& words) {
  if (words.empty()) throw UsageError("`wakesleep` needs a command; see `wakesleep --help`");
  const std::string& first = words.front();
  if (first == "--help" || first == "-h" || first == "help") {
    std::fputs(overview().c_str(), stdout);
    return 0;
  }
  if (first == "--version") {
    std::printf("wakesleep %s (arithmetic contract %s)\n", WAKESLEEP_VERSION, arithmetic_contract);
    return 0;
  }
  const Command& command = find_command(first);
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (asks_for_help(rest)) {
    std::fputs(help_text(command.spec()).c_str(), stdout);
    return 0;
  }
  Arguments arguments(command.spec());
  arguments.add_layer(read_command_line(command.spec(), rest));
  return command.run(arguments);
}

/// Results that never reached their reader must not look like success.
void flush_results() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw OutputError("cannot write to standard output: " + std::generic_category().message(errno) +
                    "; send the results somewhere else");
}

int fail(const std::string& sentence, int exit_code) {
  std::fprintf(stderr, "wakesleep: %s\n", sentence.c_str());
  return exit_code;
}

}  // namespace

int main(int count, char** words) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of write(), which has a sentence
  try {
    const int exit_code = run(std::vector<std::string>(words + 1, words + count));
    flush_results();
    return exit_code;
  } catch (const Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return fail(
        "there is not enough memory; use smaller layers, a smaller batch, less data or a smaller --count",
        internal_error);
  } catch (const std::exception& error) {
    return fail(std::string("an unexpected error: ") + error.what() + "; please report it", internal_error);
  }
}
