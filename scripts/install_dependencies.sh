#!/usr/bin/env bash
# Installs, on Debian 12 or Ubuntu 24.04, what the build needs and is not there yet.
#
# usage: scripts/install_dependencies.sh [--tests] [--demo] [--bench] [--checks]
#   --tests   also GoogleTest, and Python for the test of a script
#   --demo    also the Fashion-MNIST images
#   --bench   also Google Benchmark
#   --checks  also the second compiler and the formatter that .ci/run uses
set -euo pipefail

readonly cmake_needed=3.25
packages=(g++ cmake ninja-build libdnnl-dev libeigen3-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libstb-dev
  zlib1g-dev libssl-dev)

for argument in "$@"; do
  case $argument in
    --tests) packages+=(libgtest-dev libgmock-dev python3) ;;
    --demo) packages+=(dataset-fashion-mnist) ;;
    --bench) packages+=(libbenchmark-dev) ;;
    --checks) packages+=(clang clang-format) ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "install_dependencies.sh: unknown option '$argument'; --help lists the options." >&2; exit 64 ;;
  esac
done

# A tool counts however it was installed; a library only as a package, which is where CMake looks first.
is_there() {
  case $1 in
    g++ | cmake | clang | clang-format | python3) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    *) [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]] ;;
  esac
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install_dependencies.sh: this system has no apt-get; install the equivalents of ${packages[*]} by hand" \
    "and pass --no-install to the script that called this one." >&2
  exit 69
fi

missing=()
for package in "${packages[@]}"; do
  is_there "$package" || missing+=("$package")
done

if ((${#missing[@]} > 0)); then
  as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "install_dependencies.sh: ${missing[*]} must be installed, which needs root, and there is no sudo;" \
        "run 'apt-get install ${missing[*]}' as root and start again." >&2
      exit 69
    fi
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]}"
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  "${as_root[@]}" apt-get update -qq
  if ! "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; then
    echo "install_dependencies.sh: apt-get could not install ${missing[*]}; its message stands above" \
      "(on Ubuntu, these packages come from 'universe')." >&2
    exit 69
  fi
fi

cmake_found=$(cmake --version | sed -n 's/^cmake version \([0-9.]*\).*/\1/p')
if [[ $(printf '%s\n%s\n' "$cmake_needed" "$cmake_found" | sort --version-sort | head -n 1) != "$cmake_needed" ]]; then
  echo "install_dependencies.sh: CMake $cmake_needed or newer is needed and $(command -v cmake) is $cmake_found, as" \
    "older distributions bring it; install a newer one ('snap install --classic cmake', or 'pip install cmake' in a" \
    "virtual environment), put it first on PATH and start again." >&2
  exit 69
fi
