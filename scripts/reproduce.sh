#!/usr/bin/env bash
# Trains the machine of a published figure, or of a figure of this project's documents, estimates the likelihood of the
# test images and leaves a record of both as JSON.
#
# usage: scripts/reproduce.sh NAME --data FOLDER [--seed S] [--epochs N] [--samples K,K,...] [--wakesleep COMMAND]
#                             [--out DIR] [--record FILE.json]
#        scripts/reproduce.sh --list
#
# NAME             what to reproduce; --list shows the names with what is published
# --data FOLDER    holds binarized_mnist_{train,valid,test}.packed.npy: the fixed binarization of Salakhutdinov and
#                  Murray, 50,000 + 10,000 + 10,000 rows of 784 bits, each row packed into 98 bytes (first pixel = most
#                  significant bit). Its text form, binarized_mnist_{train,valid,test}.amat, was published by Hugo
#                  Larochelle with the NADE code (University of Toronto, larocheh/public/datasets/binarized_mnist) and is
#                  mirrored in many places; Python packs it:
#                    numpy.save("binarized_mnist_train.packed.npy",
#                               numpy.packbits(numpy.loadtxt("binarized_mnist_train.amat", "uint8"), axis=1))
#                  Names that end with 59000-rows train on the first 59,000 rows of train and valid together and are
#                  validated on the last 1,000, as some published runs were.
#                  For the names that begin with fashion: {train,t10k}-images-idx3-ubyte.gz of Fashion-MNIST (default:
#                  where Debian's package dataset-fashion-mnist puts them), a tenth of the rows held out for validation,
#                  or 1,000 of them.
#                  Names that begin with another's model look for it in the folder beside DIR: reproduce that one first.
# --seed S         of the training (default: 1)
# --epochs N       other than the ones that --list shows
# --samples K,...  of the estimates (default: as --list shows)
# --wakesleep COMMAND  default: build/release/wakesleep of this repository
# --out DIR        the run folder (default: reproduced/NAME-seed-S in this repository). A run in it is gone on with where
#                  it stopped, and a finished one is only evaluated: a long run may be interrupted at any moment and the
#                  call given again.
# --record FILE    default: DIR/record.json: settings, hash, seconds of training, the last line of metrics.jsonl, the
#                  likelihood of the validation rows by epoch and seconds, and the estimates
set -euo pipefail
readonly caller=$PWD
cd "$(dirname "$0")/.."

# A path as whoever calls this script means it.
from_caller() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$caller/$1"; fi; }

# name | published, nats | epochs | samples of the estimates | what `wakesleep train` is told beside data, seed and epochs
readonly experiments="
quality                               | -     | 100  | 1000       | --layers 200,200,200 --evaluate-rows 100
weight-bits-16                        | -     | 30   | 100        | --layers 200,200,200 --weight-bits 16
weight-bits-12                        | -     | 30   | 100        | --layers 200,200,200 --weight-bits 12
weight-bits-8                         | -     | 30   | 100        | --layers 200,200,200 --weight-bits 8
wake-sleep-200                        | 116.3 | 500  | 1000,10000 | --layers 200
wake-sleep-200-200                    | 106.9 | 500  | 1000,10000 | --layers 200,200
wake-sleep-200-200-200                | 101.3 | 500  | 1000,10000 | --layers 200,200,200
reweighted-200                        | 103.1 | 1000 | 1000,10000 | --layers 200 --algorithm reweighted-wake-sleep --samples 5
reweighted-200-200                    | 93.4  | 1000 | 1000,10000 | --layers 200,200 --algorithm reweighted-wake-sleep --samples 5
reweighted-200-200-200                | 90.1  | 1000 | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 5
reweighted-200-59000-rows             | 103.1 | 300  | 1000,10000 | --layers 200 --algorithm reweighted-wake-sleep --samples 5 --insomnia 0.8
reweighted-200-200-59000-rows         | 93.4  | 300  | 1000,10000 | --layers 200,200 --algorithm reweighted-wake-sleep --samples 5 --insomnia 0.8
reweighted-59000-rows                 | 90.1  | 300  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 5 --insomnia 0.8
reweighted-16-bits-59000-rows         | 90.1  | 1000 | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 5 --insomnia 0.8 --weight-bits 16
reweighted-50-59000-rows              | 89.0  | 300  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8
reweighted-50-16-bits-59000-rows      | 89.0  | 300  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16
reweighted-50-200-200-200             | 89.0  | 300  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8
reweighted-50-batches-of-20           | 89.0  | 100  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50 --batch-size 20 --learning-rate 0.001
vimco-200                             | 101.9 | 1000 | 1000,10000 | --layers 200 --algorithm vimco --samples 5
vimco-200-200                         | 91.7  | 1000 | 1000,10000 | --layers 200,200 --algorithm vimco --samples 5
vimco-16-bits-200-200                 | 91.7  | 1000 | 1000,10000 | --layers 200,200 --algorithm vimco --samples 5 --learning-rate 0.001 --weight-bits 16
vimco-200-200-59000-rows              | 91.7  | 1000 | 1000,10000 | --layers 200,200 --algorithm vimco --samples 5 --learning-rate 0.001 --weight-bits 16
vimco-faster-200-200-59000-rows       | 91.7  | 1000 | 1000,10000 | --layers 200,200 --algorithm vimco --samples 5 --learning-rate 0.002 --weight-bits 16
autoregressive-wake-sleep             | -     | 200  | 1000,10000 | --layers 200,200,200 --prior autoregressive
autoregressive-reweighted             | -     | 1000 | 1000,10000 | --layers 200,200,200 --prior autoregressive --algorithm reweighted-wake-sleep --samples 5
joint-200-200-200                     | -     | 300  | 1000,10000 | --layers 200,200,200 --algorithm joint-stochastic-approximation --samples 5 --fresh-epochs 180
natural-200-200-200                   | -     | 100  | 1000       | --layers 200,200,200 --algorithm natural-reweighted-wake-sleep --samples 5 --optimizer sgd --learning-rate 0.1 --weight-bits 16
bidirectional-200-200-200             | -     | 1000 | 1000,10000 | --layers 200,200,200 --algorithm bidirectional-helmholtz --samples 5
deep-bidirectional                    | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm bidirectional-helmholtz --samples 10
deep-bidirectional-16-bits            | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm bidirectional-helmholtz --samples 10 --learning-rate 0.001 --weight-bits 16
deep-bidirectional-further-59000-rows | 84.8  | 60   | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm bidirectional-helmholtz --samples 50 --learning-rate 0.001 --weight-bits 16 --initial-model deep-bidirectional-16-bits
deep                                  | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 10
deep-16-bits                          | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 10 --weight-bits 16
deep-further-59000-rows               | 84.8  | 60   | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001 --initial-model deep-16-bits
deep-further-still-59000-rows         | 84.8  | 140  | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001 --initial-model deep-further-59000-rows
deep-200-further-59000-rows           | 84.8  | 30   | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 200 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001 --initial-model deep-further-still-59000-rows
deep-10-16-bits-59000-rows            | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 10 --insomnia 0.8 --weight-bits 16
deep-10-further-59000-rows            | 84.8  | 60   | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001 --initial-model deep-10-16-bits-59000-rows
deep-10-slow-59000-rows               | 84.8  | 1000 | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 10 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001
deep-10-slow-further-59000-rows       | 84.8  | 60   | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16 --learning-rate 0.001 --initial-model deep-10-slow-59000-rows
deep-50-16-bits-59000-rows            | 84.8  | 240  | 1000,10000 | --layers 300,200,100,75,50,35,30,25,20,15,10,10 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16
fashion-200-200-200                   | 107.4 | 500  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50
fashion-16-bits-59000-rows            | 107.4 | 420  | 1000,10000 | --layers 200,200,200 --algorithm reweighted-wake-sleep --samples 50 --insomnia 0.8 --weight-bits 16
"

usage_error() { echo "reproduce.sh: $1" >&2; exit 64; }

list() {
  printf '%-37s %-15s %-7s %-12s %s\n' name 'published, nats' epochs samples training
  while IFS='|' read -r name published epochs samples options; do
    [[ -z ${name// /} ]] || printf '%-37s %-15s %-7s %-12s %s\n' "${name// /}" "${published// /}" "${epochs// /}" \
      "${samples// /}" "${options# }"
  done <<<"$experiments"
}

name='' data='' seed=1 epochs='' samples='' wakesleep=build/release/wakesleep out='' record=''
while (($# > 0)); do
  case $1 in
    --list) list; exit 0 ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"; exit 0 ;;
    --data) data=$(from_caller "${2:?--data needs a folder}"); shift ;;
    --seed) seed=${2:?--seed needs a number}; shift ;;
    --epochs) epochs=${2:?--epochs needs a number}; shift ;;
    --samples) samples=${2:?--samples needs numbers}; shift ;;
    --wakesleep)
      wakesleep=${2:?--wakesleep needs a command}
      if [[ $wakesleep == */* ]]; then wakesleep=$(from_caller "$wakesleep"); fi  # else it is found on PATH
      shift
      ;;
    --out) out=$(from_caller "${2:?--out needs a folder}"); shift ;;
    --record) record=$(from_caller "${2:?--record needs a file}"); shift ;;
    -*) usage_error "unknown option '$1'; --help lists the options." ;;
    *) [[ -z $name ]] || usage_error "there is a second name, '$1'; one is reproduced at a time."; name=$1 ;;
  esac
  shift
done
[[ -n $name ]] || usage_error "the name of what to reproduce is missing; --list shows them."

published='' options=()
while IFS='|' read -r row_name row_published row_epochs row_samples row_options; do
  [[ ${row_name// /} == "$name" ]] || continue
  published=${row_published// /} epochs=${epochs:-${row_epochs// /}} samples=${samples:-${row_samples// /}}
  read -r -a options <<<"$row_options"
done <<<"$experiments"
[[ -n $published ]] || usage_error "there is nothing named '$name'; --list shows the names."

case $name in
  fashion*)
    data=${data:-/usr/share/datasets/fashion-mnist}
    train=$data/train-images-idx3-ubyte.gz test=$data/t10k-images-idx3-ubyte.gz
    validation=0.1
    if [[ $name == *-59000-rows ]]; then validation=0.016667; fi  # 1,000 of 60,000
    train_data=("$train" --validation "$validation") test_data=("$test") files=("$train" "$test")
    ;;
  *)
    [[ -n $data ]] || usage_error "--data is missing; --help says what the folder holds and where it is had from."
    train=$data/binarized_mnist_train.packed.npy valid=$data/binarized_mnist_valid.packed.npy
    test=$data/binarized_mnist_test.packed.npy files=("$train" "$valid" "$test")
    train_data=("$train" --row-length 784 --validation "$valid") test_data=("$test" --row-length 784)
    ;;
esac
for file in "${files[@]}"; do
  [[ -r $file ]] || { echo "reproduce.sh: $file cannot be read; --help says where it is had from." >&2; exit 66; }
done
if ! command -v "$wakesleep" >/dev/null; then
  echo "reproduce.sh: there is no $wakesleep; build it ('cmake --preset release && cmake --build --preset release') or" \
    "name another with --wakesleep." >&2
  exit 69
fi

out=${out:-reproduced/$name-seed-$seed}
out=${out%/}
# Now, so that it does not fail when all the work is done.
if [[ -n $record ]] && ! mkdir -p "$(dirname "$record")"; then
  echo "reproduce.sh: there is no folder for the record $record; give another --record." >&2
  exit 73
fi
record=${record:-$out/record.json}
model=$out/model.safetensors
for ((i = 0; i + 1 < ${#options[@]}; ++i)); do
  [[ ${options[i]} == --initial-model ]] || continue
  if compgen -G "$out/checkpoints/*" >/dev/null; then  # what has begun goes on without it
    unset 'options[i]' 'options[i + 1]'
    break
  fi
  first=${options[i + 1]}
  options[i + 1]=$(dirname "$out")/$first-seed-$seed/model.safetensors
  if [[ ! -r ${options[i + 1]} ]]; then
    echo "reproduce.sh: $name begins with the model of $first, and there is no ${options[i + 1]}; reproduce $first with the" \
      "same seed first." >&2
    exit 66
  fi
done

if [[ $name == *-59000-rows && $name != fashion* ]]; then
  packed_rows() {  # how many; their bits come from standard input
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': ($1, 98), }"
    cat
  }
  readonly header=128 row=98  # bytes
  for rows in 50000:"$train" 10000:"$valid"; do
    if (($(stat -L -c %s "${rows#*:}") != header + ${rows%%:*} * row)); then
      echo "reproduce.sh: ${rows#*:} does not hold ${rows%%:*} packed rows of 784 bits behind a header of 128 bytes;" \
        "--help says how Python packs it." >&2
      exit 65
    fi
  done
  mkdir -p "$out.data"
  { tail -c $((50000 * row)) "$train"; head -c -$((1000 * row)) "$valid" | tail -c $((9000 * row)); } |
    packed_rows 59000 >"$out.data/train.packed.npy"
  tail -c $((1000 * row)) "$valid" | packed_rows 1000 >"$out.data/valid.packed.npy"
  train_data=("$out.data/train.packed.npy" --row-length 784 --validation "$out.data/valid.packed.npy")
fi

# With its settings, so that a folder of other ones is refused. A finished run stays as it is.
resume=()
if [[ -e $out/config.toml ]]; then resume=(--resume); fi
"$wakesleep" train "${train_data[@]}" "${options[@]}" --epochs "$epochs" --seed "$seed" \
  --checkpoint-every "$(((epochs + 99) / 100))" --out "$out" "${resume[@]}"

estimates=()
estimate() {  # K, then more options of `wakesleep evaluate`
  echo "Estimating with K = $1 ${*:2}"
  estimates+=("$("$wakesleep" evaluate "$model" "${test_data[@]}" --samples "$1" "${@:2}" --json)")
  printf '%s\n' "${estimates[-1]}"
}
for k in ${samples//,/ }; do estimate "$k"; done
if [[ $name == quality ]]; then estimate "${samples%%,*}" --limit 1000; fi

# Everything that stands in the record comes from the command itself, so it is put together as text.
processor=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
instructions=$(grep -m 1 '^flags' /proc/cpuinfo | grep -owE 'avx2|avx512f|avx512_vnni|avx_vnni' | paste -sd ' ')
joined=$(printf ',\n  %s' "${estimates[@]}")
# At most a hundred epochs: number, seconds of training, estimate on the validation rows.
curve=$(sed -nE 's/^\{"epoch":([0-9]+),.*"seconds":([^,]+),.*"log_likelihood":([^,]+),.*/\1 \2 \3/p' "$out/metrics.jsonl" |
  awk -v every="$(((epochs + 99) / 100))" '$1 % every == 0 { printf "%s[%d, %.1f, %.2f]", separator, $1, $2, $3; separator = ", " }')
cat >"$record.new" <<JSON
{"name": "$name", "published_nats": "$published",
 "what": "scripts/reproduce.sh $name --seed $seed --epochs $epochs --samples $samples",
 "processor": "$processor", "processors": $(nproc), "instructions": "$instructions",
 "date": "$(date -u +%F)", "commit": "$(git describe --always --dirty 2>/dev/null || echo unknown)",
 "model": $("$wakesleep" info "$model" --json),
 "last_epoch": $(tail -n 1 "$out/metrics.jsonl"),
 "curve_of_epoch_seconds_log_likelihood": [$curve],
 "test": [${joined:2}]}
JSON
mv "$record.new" "$record"
if [[ $published != - ]]; then echo "Published: $published nats."; fi
echo "Record: $record"
