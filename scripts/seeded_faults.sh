#!/usr/bin/env bash
# Shows that the tests can fail: puts the faults of tests/faults/faults.txt into a copy of the sources, one at a time,
# and runs the tests of the arithmetic, the operations, the training and the likelihood until one fails: first the
# program that the list names, then the others. The recorded hashes do not count; whether they differ as well is shown
# beside. Fails when a fault survives. Without CUDA.
#
# usage: scripts/seeded_faults.sh [--no-install] [--jobs N] [TEXT...]
#   --jobs N   compile N files at a time (default: as many as there are processors)
#   TEXT       only the faults whose description contains one of the TEXTs
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
jobs=$(nproc)
only=()
while (($# > 0)); do
  case $1 in
    --no-install) install=no ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
    -*) echo "seeded_faults.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
    *) only+=("$1") ;;
  esac
  shift
done

if [[ $install == yes ]]; then scripts/install_dependencies.sh --tests; fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
readonly folder copy=$folder/sources build=$folder/build
# The narrowest first, so that the test that fails says most about the fault.
readonly tests=(arithmetic_test math_test philox_test threads_test product_test ops_test shapes_test addresses_test machine_test
  wake_sleep_test reweighted_wake_sleep_test posterior_algorithms_test sparse_wake_sleep_test natural_gradient_test autoregressive_test
  gaussian_test trainer_test stability_test training_rows_test evaluate_test partition_test generate_test
  fault_gaps_test)
readonly seconds_a_test=300  # a fault may keep a loop from ending

stop() { echo "seeded_faults.sh: $1" >&2; exit 1; }

compile() {
  cmake --build "$build" --parallel "$jobs" --target "$1" >"$folder/build.log" 2>&1 ||
    { tail -n 30 "$folder/build.log" >&2; return 1; }
}

# Prints the first test of executable $1 (with the filter $2) that fails; nothing when all pass.
first_failure() {
  local outcome=0
  timeout $seconds_a_test "$build/tests/$1" --gtest_fail_fast --gtest_filter="$2" >"$folder/test.log" 2>&1 || outcome=$?
  if ((outcome == 0)); then return; fi
  local failed
  failed=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).*/\1/p' "$folder/test.log" | head -n 1)
  if [[ -z $failed ]]; then  # it ended before the test did
    failed=$(sed -n 's/^\[ RUN      \] //p' "$folder/test.log" | tail -n 1)
    failed+=$( ((outcome == 124)) && echo " (endless)" || echo " (crash)")
  fi
  echo "${failed#Backends/}"
}

# The first test that fails, with the programs $@ before all others.
first_failure_of_all() {
  local test failed
  for test in "$@" "${tests[@]}"; do
    compile "$test" || return 1
    failed=$(first_failure "$test" '*')
    if [[ -n $failed ]]; then
      echo "$failed"
      return
    fi
  done
}

is_wanted() {
  local text
  for text in "${only[@]}"; do
    if [[ $1 == *"$text"* ]]; then return; fi
  done
  ((${#only[@]} == 0))
}

recorded_hashes() {
  compile golden_test || return 1
  local failed
  failed=$(first_failure golden_test 'GoldenTest.*:*/GoldenTest.*')
  if [[ -z $failed ]]; then echo "same"; else echo "differ"; fi
}

# ------------------------------------------------------------------------------------------------ the faults
names=() files=() befores=() afters=() needs=() programs=()
while IFS= read -r line; do
  value=${line#*: }
  case $line in
    'fault: '*) names+=("$value"); needs+=(''); programs+=('') ;;
    'file: '*) files+=("$value") ;;
    'from: '*) befores+=("${value//\\n/$'\n'}") ;;
    'to: '*) afters+=("${value//\\n/$'\n'}") ;;
    'needs: '*) needs[-1]=$value ;;
    'test: '*) programs[-1]=$value ;;
    '' | '#'*) ;;
    *) stop "tests/faults/faults.txt: cannot read \"$line\": expected fault, file, from, to, test or needs" ;;
  esac
done <tests/faults/faults.txt
if ((${#names[@]} == 0 || ${#files[@]} != ${#names[@]} || ${#befores[@]} != ${#names[@]} ||
  ${#afters[@]} != ${#names[@]})); then
  stop "tests/faults/faults.txt: every fault needs one line each of fault, file, from and to"
fi

# ------------------------------------------------------------------------- the copy, and that it passes as it is
mkdir "$copy"
cp -r CMakeLists.txt cmake include kernels host tests "$copy"
echo "Building and testing without a fault"
cmake -S "$copy" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAKESLEEP_CUDA=OFF \
  -DCMAKE_LINK_DEPENDS_NO_SHARED=ON >"$folder/build.log" || stop "CMake failed: $(tail -n 5 "$folder/build.log")"
failed=$(first_failure_of_all) || stop "the sources do not compile as they are"
[[ -z $failed ]] || stop "$failed fails without any fault"
[[ $(recorded_hashes) == same ]] || stop "the recorded hashes differ without any fault"

# -------------------------------------------------------------------------------------------------- one by one
caught=0 survived=0 skipped=0
print_row() { printf '| %-58s | %-88s | %-6s |\n' "$@"; }
print_row fault 'the first test that failed' hashes
for i in "${!names[@]}"; do
  is_wanted "${names[i]}" || continue
  if [[ -n ${needs[i]} ]] && ! grep -qw "${needs[i]}" /proc/cpuinfo; then
    print_row "${names[i]}" "SKIPPED: this processor has no ${needs[i]}" ''
    skipped=$((skipped + 1))
    continue
  fi
  file=$copy/${files[i]}
  text=$(<"$file")
  without=${text//"${befores[i]}"/}
  ((${#text} - ${#without} == ${#befores[i]})) ||
    stop "fault \"${names[i]}\": \"${befores[i]}\" does not stand exactly once in ${files[i]}"
  cp "$file" "$folder/original"
  printf '%s\n' "${text/"${befores[i]}"/"${afters[i]}"}" >"$file"
  failed=$(first_failure_of_all ${programs[i]:+"${programs[i]}"}) || stop "fault \"${names[i]}\" does not compile"
  hashes=$(recorded_hashes)
  cp "$folder/original" "$file"
  if [[ -n $failed ]]; then
    caught=$((caught + 1))
  else
    survived=$((survived + 1))
  fi
  print_row "${names[i]}" "${failed:-SURVIVED}" "$hashes"
done
echo "$caught faults caught, $survived survived, $skipped skipped"
((survived == 0 && caught > 0))
