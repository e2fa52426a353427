#!/usr/bin/env bash
# Paths that a script is given are those of whoever calls it. Runs copies of the scripts, from another folder than their
# repository's, with a program that trains nothing.
#
# usage: script_paths.sh REPOSITORY WORK
set -euo pipefail
readonly repository=$1 work=$2

fail() { echo "script_paths.sh: $1" >&2; exit 1; }

rm -rf "$work"
mkdir -p "$work"/repo/build/{release,demo} "$work"/far/away/{data,programs} "$work"/tools
cp -r "$repository/scripts" "$work/repo/"
cat >"$work/tools/wakesleep" <<'PROGRAM'
#!/usr/bin/env bash
# Leaves what the scripts read on; notes how it was called.
echo "$0 $*" >>"$CALLS"
case $1 in
  train)
    [[ -z ${EXPECTED_FOLDER:-} || -d $EXPECTED_FOLDER ]] || exit 9
    while [[ $1 != --out ]]; do shift; done
    mkdir -p "$2"
    echo '{"epoch":1,"seconds":1,"log_likelihood":-1,"bound":-1}' >"$2/metrics.jsonl"
    ;;
  evaluate | info) echo '{}' ;;
esac
PROGRAM
printf '#!/bin/sh\n' >"$work/tools/cmake"
chmod +x "$work"/tools/*
cp "$work/tools/wakesleep" "$work/repo/build/release/"
cp "$work/tools/wakesleep" "$work/repo/build/demo/"
cp "$work/tools/wakesleep" "$work/far/away/programs/"
touch "$work"/far/away/data/binarized_mnist_{train,valid,test}.packed.npy

cd "$work/far/away"
export CALLS=$work/calls PATH=$work/tools:$PATH
reproduce() { ../../repo/scripts/reproduce.sh quality --data data "$@" >/dev/null; }

EXPECTED_FOLDER=$work/far/away/new/folder reproduce --wakesleep programs/wakesleep --out run --record new/folder/record.json ||
  fail "relative paths of reproduce.sh, or a missing folder of --record, are not taken"
[[ -s new/folder/record.json && -s run/metrics.jsonl ]] || fail "reproduce.sh does not write where its caller said"
grep -q "far/away/programs/wakesleep train " "$CALLS" || fail "--wakesleep programs/wakesleep is not the caller's"

reproduce --wakesleep wakesleep --out "$work/absolute" || fail "a command on PATH or an absolute path is not taken"
grep -q "^$work/tools/wakesleep train " "$CALLS" || fail "--wakesleep wakesleep is not found on PATH"
[[ -s $work/absolute/record.json ]] || fail "reproduce.sh does not write to an absolute --out"

reproduce || fail "the default program and run folder are not the repository's"
[[ -s $work/repo/reproduced/quality-seed-1/record.json ]] || fail "the default run folder is not in the repository"

: >"$work/file"
status=0
reproduce --record "$work/file/record.json" 2>/dev/null || status=$?
[[ $status == 73 ]] || fail "a --record below a file ended with $status instead of 73"

../../repo/scripts/demo.sh --no-install --epochs 1 --out demo >/dev/null
[[ -s demo/metrics.jsonl && ! -e $work/repo/demo ]] || fail "demo.sh --out does not mean the caller's folder"

for script in "$work"/repo/scripts/*.sh; do
  help=$("../../repo/scripts/${script##*/}" --help) || fail "${script##*/} --help fails from another folder"
  [[ $help == *usage:* ]] || fail "${script##*/} --help shows no usage from another folder"
done
