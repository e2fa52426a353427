#!/usr/bin/env bash
# Runs the shared tests on the CUDA backend with a CUDA runtime that is emulated on the CPU (tests/emulation/). Needs
# neither a GPU nor a CUDA compiler, and replaces neither: docs/testing.md says what it shows.
#
# usage: scripts/emulate_gpu.sh [--no-install] [--sanitize]
#
# --sanitize builds with AddressSanitizer and UndefinedBehaviorSanitizer, which takes several times as long.
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
build=build/emulated
options=(-DCMAKE_BUILD_TYPE=Release)
while (($# > 0)); do
  case $1 in
    --no-install) install=no ;;
    --sanitize)
      build=build/emulated-sanitized
      options=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DWAKESLEEP_SANITIZE=address,undefined)
      ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
    *) echo "emulate_gpu.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
  esac
  shift
done

if [[ $install == yes ]]; then scripts/install_dependencies.sh --tests; fi

cmake -S . -B "$build" -G Ninja "${options[@]}" -DWAKESLEEP_CUDA=OFF -DWAKESLEEP_EMULATED_CUDA=ON \
  -DWAKESLEEP_WARNINGS_AS_ERRORS=ON
cmake --build "$build" --target emulated_tests
ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel 2 --tests-regex '^emulated\.'
