#!/usr/bin/env bash
# Trains a Helmholtz machine on Fashion-MNIST: installs what is missing, builds, trains, evaluates on the test images,
# and says where the pictures and the report lie.
#
# usage: scripts/demo.sh [--epochs N] [--out DIR] [--no-install]    (default: 40 epochs into demo/)
set -euo pipefail
readonly caller=$PWD
cd "$(dirname "$0")/.."

# A path as whoever calls this script means it.
from_caller() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$caller/$1"; fi; }

epochs=40
out=demo
install=yes
replace=(--force)  # the demo's own folder is replaced, one that was asked for never
while (($# > 0)); do
  case $1 in
    --epochs) epochs=${2:?--epochs needs a number}; shift ;;
    --out) out=$(from_caller "${2:?--out needs a folder}"); replace=(); shift ;;
    --no-install) install=no ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
    *) echo "demo.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
  esac
  shift
done

readonly images=/usr/share/datasets/fashion-mnist
readonly build=build/demo
readonly wakesleep=$build/wakesleep

if [[ $install == yes ]]; then scripts/install_dependencies.sh --demo; fi

# The CUDA backend only where a GPU can run it; CMake then builds it for that GPU's architecture.
cuda=OFF
if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  if command -v nvcc >/dev/null; then
    cuda=ON
  elif [[ -x /usr/local/cuda/bin/nvcc ]]; then
    export CUDACXX=/usr/local/cuda/bin/nvcc
    cuda=ON
  else
    echo "There is a GPU, but no CUDA compiler (nvcc): the demo runs on the CPU."
  fi
fi

echo "Building (the first time, about two minutes on two cores)"
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAKESLEEP_TESTS=OFF -DWAKESLEEP_CUDA=$cuda >/dev/null
cmake --build $build --target wakesleep_command

echo
$wakesleep train $images/train-images-idx3-ubyte.gz --layers 200,200,200 --binarize threshold --threshold 128 \
  --epochs "$epochs" --batch-size 100 --seed 1 --validation 0.02 --out "$out" "${replace[@]}"

echo
$wakesleep sample "$out/model.safetensors" --count 100 --quiet --out "$out/dreams.png"
$wakesleep reconstruct "$out/model.safetensors" $images/t10k-images-idx3-ubyte.gz --limit 50 --quiet \
  --out "$out/reconstructions.png"

echo
echo "Test images, the first 1,000:"
$wakesleep evaluate "$out/model.safetensors" $images/t10k-images-idx3-ubyte.gz --samples 1000 --limit 1000

echo
echo "Dreams           $out/dreams.png (how they sharpened: $out/samples/)"
echo "Reconstructions  $out/reconstructions.png"
echo "Report           $out/report.html"
