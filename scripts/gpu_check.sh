#!/usr/bin/env bash
# Everything that has to be seen on a GPU, on a machine that has a GPU and no package registry: bundle here, run there.
#
# usage: scripts/gpu_check.sh bundle DEST [--architectures LIST] [--data FOLDER [--cpu-half]]
#            [--build-dir DIR] [--no-cuda]
#        DEST/scripts/gpu_check.sh run [--out DIR] [--items TEXT]... [--seconds N] [--again]
#            [--jobs N] [--dry-run] [--device cpu] [STAGE...]
#
# bundle  builds the command, the tests and the benchmarks for LIST (default: 90-real; see CMAKE_CUDA_ARCHITECTURES) and
#         puts them into DEST, with the shared libraries that they need (not glibc, the C++ runtime and CUDA: those are
#         the other machine's), the tests' files, the peers and the scripts; under 64 MiB in all. FOLDER holds
#         binarized_mnist_{train,valid,test}.packed.npy (scripts/reproduce.sh --help), which the stage `quality`
#         needs; --cpu-half trains the CPU's half of that stage here, some minutes, so that the GPU's machine is not
#         held by it. --no-cuda: a bundle without the CUDA backend, for trying the scripts.
# run     runs the stages (default: all), a minute of each and then the rest, each for less than eight minutes, and prints
#         a table; DIR (default: results) gets STAGE.json and STAGE.log, and all of it in one file, results.tar.gz. It
#         goes on where it stopped: what this bundle has finished on this GPU is not run again unless --again is given.
#         Where the persistent kernel fails in the stage `hashes`, nothing later runs it. Needs Python 3 on the other machine, and
#         CUDA's runtime and cuBLAS; `peers` also PyTorch, and JAX where it is there.
#           device     driver, GPU, compute capability, versions
#           hashes     recorded hashes of trainings, by both routes of the products, queued one by one, replayed and
#                      with streamed rows, by the persistent kernel, and on one stream
#           tests      every test that runs on a GPU
#           nets       steps against their own bare products; (a) also as a graph and as a persistent kernel, and
#                      trained by reweighted wake-sleep
#           sanitizer  compute-sanitizer over the tests of operations
#           peers      engine and peers in turn (bench/gpu.py)
#           quality    seconds to 120 nats on binarized MNIST, GPU and CPU, and their hashes
#         A stage is a list of items, the cheap and decisive ones first. --items takes only those whose name has TEXT,
#         such as '(a)', 'int8 persistent', memcheck or recording_test. --seconds is for a short time on a GPU: nothing
#         is begun that is expected to take longer than what is left of N, and nothing runs beyond it. When a test
#         program fails, its first failed test is run alone as well, with CUDA_LAUNCH_BLOCKING=1. Items whose verdict is
#         no matter of time (`hashes` but for the persistent kernel, `tests`, `sanitizer`) run side by side, --jobs N at
#         a time (default: half of the processors, 8 at most; 1: one after another); all others run alone.
#         --dry-run prints the items and their commands; --device cpu runs the same on small machines without a GPU: both
#         for trying the scripts.
#
# exit code of run: 69 no GPU answers; 75 something that was asked for is left: run again; else 1 something failed, or
# 0 all passed; 128 + N interrupted by the signal N, with the table and the archive of what was done
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly here
readonly most_bytes=$((64 << 20))

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
refuse() { echo "gpu_check.sh: $1" >&2; exit "${2:-64}"; }

# A path as whoever calls this script means it, whichever folder the work is done in.
readonly caller=$PWD
from_caller() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$caller/$1"; fi; }

# Libraries that a program needs and the other machine cannot be expected to have, as "name path".
libraries_of() {
  local own='^(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libstdc\+\+|libgcc_s)[.-]'
  local cuda='^lib(cu|nv)'
  local missing
  missing=$(ldd "$1" | awk '/not found/ { print $1 }' | grep -Ev "$cuda" || true)
  [[ -z $missing ]] || refuse "$1 needs $missing, which this machine has not." 69
  ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | grep -Ev "$own|$cuda" || true
}

# $1: the folder of the bundle; $2: a program of it.
write_start() {
  cat > "$1/start" <<'START'
#!/usr/bin/env bash
# Starts a bundled program with the bundled libraries and the machine's own CUDA libraries: start NAME ARGUMENTS...
# WAKESLEEP_RUN_UNDER holds the words of a command to run it under, such as compute-sanitizer.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cuda=
for library in libcudart.so libcublasLt.so; do  # of the major version that the programs were built with
  found=$(find -L /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib /usr/lib /opt -name "$library.CUDA_MAJOR*" \
    -not -path '*/stubs/*' -print -quit 2>/dev/null || true)
  if [[ -n $found ]]; then cuda+=:$(dirname "$found"); fi
done
export LD_LIBRARY_PATH=$here/lib$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export WAKESLEEP_TEST_DATA=$here/tests WAKESLEEP_COMMAND=$here/bin/wakesleep
name=$1
shift
exec ${WAKESLEEP_RUN_UNDER:-} "$here/bin/$name" "$@"
START
  local major
  major=$(ldd "$2" | sed -n 's/.*libcudart\.so\.\([0-9]*\).*/\1/p' | head -n 1)
  sed -i "s/CUDA_MAJOR/$major/" "$1/start"
  chmod 755 "$1/start"
}

bundle() {
  local dest='' architectures=90-real data='' build=build/gpu-check cuda=ON cpu_half=no
  while (($# > 0)); do
    case $1 in
      --architectures) architectures=${2:?--architectures needs a list}; shift ;;
      --data) data=$(from_caller "${2:?--data needs a folder}"); shift ;;
      --build-dir) build=$(from_caller "${2:?--build-dir needs a folder}"); shift ;;
      --cpu-half) cpu_half=yes ;;
      --no-cuda) cuda=OFF ;;
      -*) refuse "unknown option '$1'; --help lists the options." ;;
      *) [[ -z $dest ]] || refuse "two destinations, '$dest' and '$1'; expected one."; dest=$(from_caller "$1") ;;
    esac
    shift
  done
  [[ -n $dest ]] || refuse "the destination of the bundle is missing; --help shows the usage."
  [[ $cpu_half == no || -n $data ]] || refuse "--cpu-half needs the rows to train on: --data FOLDER."
  [[ ! -e $dest || -e $dest/bundle.json ]] || refuse "$dest is there already and is no bundle; choose another." 73
  cd "$here"
  if [[ $cuda == ON && -z ${CUDACXX:-} ]] && ! command -v nvcc >/dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then
    export CUDACXX=/usr/local/cuda/bin/nvcc
  fi
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAKESLEEP_CUDA=$cuda -DWAKESLEEP_TESTS=ON \
    -DWAKESLEEP_BENCH=ON -DBUILD_SHARED_LIBS=ON -DCMAKE_CUDA_ARCHITECTURES="$architectures"
  local tests=(tests/*_test.cpp)
  tests=("${tests[@]#tests/}")
  tests=("${tests[@]%.cpp}")
  cmake --build "$build" --target wakesleep_command operations_bench "${tests[@]}"

  # Put together beside the destination and then renamed: a bundle is whole or not there.
  local parts=$dest.part
  rm -rf "$parts"
  mkdir -p "$parts"/{bin,lib,tests,bench,scripts}
  local programs=("$build/wakesleep" "${tests[@]/#/$build/tests/}" "$build/bench/operations_bench")
  local program name path
  for program in "${programs[@]}"; do
    install -m 755 "$program" "$parts/bin/"
    libraries_of "$program" | while read -r name path; do install -m 644 "$(readlink -f "$path")" "$parts/lib/$name"; done
  done
  strip "$parts"/bin/*
  strip --strip-unneeded "$parts"/lib/*
  cp -r tests/golden tests/data "$parts/tests/"
  cp -r bench/gpu.py bench/compare.py bench/peers "$parts/bench/"
  rm -rf "$parts"/bench/peers/__pycache__
  cp scripts/gpu_check.sh scripts/gpu_stages.py "$parts/scripts/"
  write_start "$parts" "$build/wakesleep"
  if [[ -n $data ]]; then
    mkdir "$parts/data"
    cp "$data"/binarized_mnist_{train,valid,test}.packed.npy "$parts/data/"
    chmod u+w "$parts"/data/*
  fi
  local commit=unknown changes=
  if git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    commit=$(git rev-parse HEAD)
    if [[ -n $(git status --porcelain) ]]; then changes=" with changes"; fi
  fi
  printf '{"commit": "%s", "date": "%s", "cuda": "%s", "architectures": "%s", "programs": "%s"}\n' "$commit$changes" \
    "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" $cuda "$architectures" \
    "$(cat "$parts"/bin/* "$parts"/lib/* | sha256sum | cut -c 1-16)" > "$parts/bundle.json"
  if [[ $cpu_half == yes ]]; then python3 "$parts/scripts/gpu_stages.py" --cpu-half; fi
  # Packed, because the libraries shrink to a third.
  tar -C "$parts" -czf "$parts/programs.tar.gz" bin lib
  rm -rf "${parts:?}/bin" "${parts:?}/lib"
  local bytes
  bytes=$(du -sb "$parts" | cut -f 1)
  if ((bytes >= most_bytes)); then
    du -ab "$parts" | sort -rn | sed -n '2,8p' >&2
    refuse "the bundle would have $bytes bytes, more than $most_bytes; the largest parts stand above: fewer architectures or no --data make it smaller." 70
  fi
  rm -rf "$dest"
  mv "$parts" "$dest"
  echo "bundled: $dest, $((bytes >> 10)) KiB in $(find "$dest" -type f | wc -l) files; there: $dest/scripts/gpu_check.sh run"
}

case ${1:-} in
  bundle) shift; bundle "$@" ;;
  run)
    shift
    command -v python3 >/dev/null || refuse "run needs python3, which this machine has not." 69
    if [[ -f $here/programs.tar.gz && ! -d $here/bin ]]; then
      # Unpacked beside and renamed, so that an interruption leaves nothing half there.
      rm -rf "$here/unpacked"
      mkdir "$here/unpacked"
      tar -C "$here/unpacked" -xzf "$here/programs.tar.gz"
      mv "$here/unpacked/lib" "$here/unpacked/bin" "$here/"
      rmdir "$here/unpacked"
    fi
    exec python3 "$here/scripts/gpu_stages.py" "$@"
    ;;
  -h | --help) usage ;;
  *) refuse "expected 'bundle' or 'run'; --help shows the usage." ;;
esac
