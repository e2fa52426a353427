#!/usr/bin/env bash
# Formats every source file by .clang-format.
#
# usage: scripts/format.sh [--check]    (--check: changes nothing, fails where a file is not formatted, and exits with
#                                        77 where there is no clang-format of the version that the style is kept in)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=14  # other versions break lines elsewhere
arguments=(-i)
case ${1:-} in
  --check) arguments=(--dry-run --Werror) ;;
  '') ;;
  -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
  *) echo "format.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
esac

for candidate in clang-format-$version clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q "version $version\."; then
    formatter=$candidate
    break
  fi
done
if [[ -z ${formatter:-} ]]; then
  echo "formatting was not checked: clang-format $version is not installed"
  exit 77
fi

folders=()
for folder in bench examples host include kernels tests; do
  if [[ -d $folder ]]; then folders+=("$folder"); fi
done
find "${folders[@]}" -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print0 |
  xargs -0 -r "$formatter" "${arguments[@]}"
