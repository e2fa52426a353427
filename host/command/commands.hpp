// The commands. Each prints its results to standard output, everything else to standard error, and returns
// the exit code of the program; what goes wrong is thrown as an Error.
#pragma once

#include "command/arguments.hpp"

namespace wakesleep::command {

const CommandSpec& evaluate_spec();
const CommandSpec& sample_spec();
const CommandSpec& encode_spec();
const CommandSpec& reconstruct_spec();
const CommandSpec& info_spec();
const CommandSpec& bench_spec();

int train(const Arguments& command_line);
int evaluate(const Arguments& arguments);
int sample(const Arguments& arguments);
int encode(const Arguments& arguments);
int reconstruct(const Arguments& arguments);
int info(const Arguments& arguments);
int bench(const Arguments& arguments);

}  // namespace wakesleep::command
