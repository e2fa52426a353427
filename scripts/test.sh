#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, runs every test that this machine can run, and
# says which were skipped and why. The exit code is that of the tests.
#
# usage: scripts/test.sh [--no-install] [--build-dir DIR]    (default: build/test)
#
# Where a CUDA compiler is found (CUDACXX, PATH, /usr/local/cuda), the CUDA backend is compiled and linked too, even
# where no GPU can run it.
set -euo pipefail
readonly caller=$PWD
cd "$(dirname "$0")/.."

# A path as whoever calls this script means it.
from_caller() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$caller/$1"; fi; }

install=yes
build=build/test
while (($# > 0)); do
  case $1 in
    --no-install) install=no ;;
    --build-dir) build=$(from_caller "${2:?--build-dir needs a folder}"); shift ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
    *) echo "test.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
  esac
  shift
done

if [[ $install == yes ]]; then scripts/install_dependencies.sh --tests; fi

cuda=OFF
if [[ -n ${CUDACXX:-} ]] || command -v nvcc >/dev/null; then
  cuda=ON
elif [[ -x /usr/local/cuda/bin/nvcc ]]; then
  export CUDACXX=/usr/local/cuda/bin/nvcc
  cuda=ON
fi

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAKESLEEP_WARNINGS_AS_ERRORS=ON -DWAKESLEEP_TESTS=ON \
  -DWAKESLEEP_CUDA="$cuda"
cmake --build "$build"

results=$(realpath "$build")/tests.xml
output=$(realpath "$build")/tests.txt
rm -f "$results"
outcome=0
ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel 2 --output-junit "$results" 2>&1 |
  tee "$output" || outcome=$?
if [[ ! -f $results ]]; then exit "$outcome"; fi

scripts/summarize_tests.awk -v ctest_closing="$(grep -E ' tests passed, |^Total Test time' "$output")" "$results"
exit "$outcome"
