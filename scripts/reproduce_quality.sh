#!/usr/bin/env bash
# Trains 784-200-200-200 on binarized MNIST by classic wake-sleep and prints the likelihood of the test images: the
# importance-sampled estimate with 1,000 samples an image, on the first 1,000 images and on all 10,000.
#
# usage: scripts/reproduce_quality.sh DATA_FOLDER [--wakesleep COMMAND] [--out DIR] [--first-only]
#
# DATA_FOLDER holds binarized_mnist_{train,valid,test}.packed.npy: the fixed binarization of Salakhutdinov and Murray,
# 50,000 + 10,000 + 10,000 rows of 784 bits, each row packed into 98 bytes (first pixel = most significant bit). Its
# text form, binarized_mnist_{train,valid,test}.amat, was published by Hugo Larochelle with the NADE code (University
# of Toronto, larocheh/public/datasets/binarized_mnist) and is mirrored in many places; Python packs it:
#   numpy.save("binarized_mnist_train.packed.npy", numpy.packbits(numpy.loadtxt("binarized_mnist_train.amat", "uint8"), axis=1))
set -euo pipefail
cd "$(dirname "$0")/.."

# The settings that README.md shows. Learning rates multiply the mean gradient over the batch.
readonly layers=200,200,200
readonly epochs=100
readonly batch_size=100
readonly optimizer=adam
readonly learning_rate=0.003
readonly schedule=cosine
readonly weight_bits=8
readonly seed=1
readonly samples=1000

data=
wakesleep=build/release/wakesleep
out=run-quality
replace=(--force)  # the script's own folder is replaced, one that was asked for never
all_images=yes
while (($# > 0)); do
  case $1 in
    --wakesleep) wakesleep=${2:?--wakesleep needs a command}; shift ;;
    --out) out=${2:?--out needs a folder}; replace=(); shift ;;
    --first-only) all_images=no ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    -*) echo "reproduce_quality.sh: unknown option '$1'; --help lists the options." >&2; exit 64 ;;
    *) data=$1 ;;
  esac
  shift
done
if [[ -z $data ]]; then
  echo "reproduce_quality.sh: the folder with the data is missing; --help says what it holds and where it is had from." >&2
  exit 64
fi
for part in train valid test; do
  if [[ ! -r $data/binarized_mnist_$part.packed.npy ]]; then
    echo "reproduce_quality.sh: $data/binarized_mnist_$part.packed.npy cannot be read; --help says how to make it." >&2
    exit 66
  fi
done
if [[ ! -x $wakesleep ]]; then
  echo "reproduce_quality.sh: there is no $wakesleep; build it ('cmake --preset release && cmake --build --preset" \
    "release') or name another with --wakesleep." >&2
  exit 69
fi

estimate() {
  echo
  echo "$1"
  "$wakesleep" evaluate "$out/model.safetensors" "$data/binarized_mnist_test.packed.npy" --row-length 784 \
    --samples $samples "${@:2}"
}

# Few evaluations while training, so that the time is the training's own.
begin=$EPOCHREALTIME
"$wakesleep" train "$data/binarized_mnist_train.packed.npy" --row-length 784 \
  --validation "$data/binarized_mnist_valid.packed.npy" --evaluate-rows 100 --layers $layers --epochs $epochs \
  --batch-size $batch_size --optimizer $optimizer --learning-rate $learning_rate --schedule $schedule \
  --weight-bits $weight_bits --seed $seed --checkpoint-every $epochs --out "$out" "${replace[@]}"
LC_ALL=C awk -v begin="${begin/,/.}" -v end="${EPOCHREALTIME/,/.}" \
  'BEGIN { printf "Trained in %.1f s, evaluations and pictures included\n", end - begin }'

estimate "Test images, the first 1,000:" --limit 1000
if [[ $all_images == yes ]]; then estimate "Test images, all 10,000:"; fi
