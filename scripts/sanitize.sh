#!/usr/bin/env bash
# Runs the whole test suite under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, without CUDA.
#
# usage: scripts/sanitize.sh [--no-install]
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  --no-install) ;;
  '') scripts/install_dependencies.sh --tests ;;
  -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
  *) echo "sanitize.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
esac

readonly build=build/sanitize
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1

cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
  -DWAKESLEEP_SANITIZE=address,undefined -DWAKESLEEP_CUDA=OFF -DWAKESLEEP_WARNINGS_AS_ERRORS=ON
cmake --build $build
ctest --test-dir $build --output-on-failure --no-tests=error --parallel 2
