#!/usr/bin/env bash
# The same trainings give the same hashes whatever compiled them: builds the recorded-hash tests with g++ and clang++,
# with and without optimisation, and runs each; the last build also with the products' library held to instruction sets
# without VNNI and without AVX-512. (scripts/test.sh covers g++ -O3, and the ways in which steps are queued, which no
# compiler changes.)
#
# usage: scripts/one_hash.sh [--no-install]
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  --no-install) ;;
  '') scripts/install_dependencies.sh --tests --checks ;;
  -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
  *) echo "one_hash.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
esac

readonly trainings='*TrainedModelsHaveTheRecordedHashes*'

check() {
  local compiler=$1 build_type=$2 flags=$3
  local build=build/one-hash-${compiler%++}$flags
  echo "== $compiler $flags"
  cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE="$build_type" \
    -DCMAKE_CXX_FLAGS_"${build_type^^}"="$flags" -DWAKESLEEP_CUDA=OFF -DWAKESLEEP_WARNINGS_AS_ERRORS=ON >/dev/null
  cmake --build "$build" --target golden_test
  "$build"/tests/golden_test --gtest_brief=1 --gtest_filter="$trainings"
}

# Debug and Release, because the build itself asks for -O3 in Release.
check g++ Debug -O0
check clang++ Debug -O0
check clang++ Release -O3

for instructions in SSE41 AVX2 AVX512_CORE; do
  echo "== clang++ -O3, oneDNN held to $instructions"
  DNNL_MAX_CPU_ISA=$instructions build/one-hash-clang-O3/tests/golden_test --gtest_brief=1 --gtest_filter="$trainings"
done
