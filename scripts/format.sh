#!/usr/bin/env bash
# Formats every source file by .clang-format.
#
# usage: scripts/format.sh [--check]    (--check: changes nothing, fails where a file is not formatted, and exits with
#                                        77 where there is no clang-format of the version that the style is kept in)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=14  # other versions break lines elsewhere
check=no
case ${1:-} in
  --check) check=yes ;;
  '') ;;
  -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
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
mapfile -t files < <(find "${folders[@]}" -type f \( -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh' \) | sort)

if [[ $check == no ]]; then exec "$formatter" -i "${files[@]}"; fi

unformatted=0
for file in "${files[@]}"; do
  if ! "$formatter" "$file" | cmp -s - "$file"; then
    echo "$file is not formatted"
    unformatted=1
  fi
done
if ((unformatted)); then echo "scripts/format.sh formats them."; fi
exit $unformatted
