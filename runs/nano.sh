#!/usr/bin/env bash
# Makes nano from nothing: corpus, features, codes, five networks, model folder.
#
#   runs/nano.sh [full|smallest] [FOLDER] [MANIFEST ...]        default: full runs/nano
#
# full      a model like the one that chelys ships; about fourteen hours on two cores
# smallest  the same road in a few minutes, with a corpus of a hundred clips; what comes out babbles
#
# Manifests are of recordings of people (`chelys data recipe`), who are what a model needs to clone people. They are played
# faster and slower as well, which makes new people of them, and their empty upper bands are filled.
#
# Every step goes on where it stopped: run the same line again after an interruption.
# Needs: pip install -e '.[train,corpus]', and for full also 'onnx>=1.16' 'openvino>=2025.0' and Debian's wordnet-base.
set -euo pipefail
cd "$(dirname "$0")/.."
setting=${1:-full}
out=${2:-runs/nano}
people=("${@:3}")

if [ "$setting" = full ]; then
  clips=14000 blends=4500 chosen=1200 crowd=4200 said=()
  steps() { :; }
elif [ "$setting" = smallest ]; then
  clips=96 blends=0 chosen=0 crowd=0 said=(--text runs/sentences.txt)
  # a stage's steps; everything else stays as it is in the full run but for the size of a batch
  steps() { echo "loop.steps=$1 loop.warmup=5 loop.evaluate_every=$1 loop.checkpoint_every=$1 loop.log_every=5 ${2:-}"; }
else
  echo "usage: runs/nano.sh [full|smallest] [FOLDER]" >&2
  exit 2
fi
mkdir -p "$out"

# text: in full the lexicon is compiled anew, from WordNet and the teacher's own pronunciation
lexicon=src/chelys/assets/nano/lexicon.txt.gz
if [ "$setting" = full ]; then
  lexicon=$out/lexicon.txt.gz
  [ -f "$lexicon" ] || chelys data lexicon --out "$lexicon"
fi
chelys data tokenizer "$lexicon" --out "$out/text"

# corpus: one quick teacher in nine sizes, and a slow one with sixty-four voices, five of which are kept out; eight of
# them, from which built-in voices are chosen, say more; a crowd of others says a little each, for cloning
chelys data make synthetic --out "$out/corpus/hibari" --clips "$clips" --teacher hibari "${said[@]}"
manifests=("$out/corpus/hibari/train.jsonl")
if [ "$blends" -gt 0 ]; then
  blend() { python tools/kokoro_bfloat16.py data make synthetic --out "$out/corpus/$1" --clips "$2" --teacher kokoro-bf16 --seed 2 "${@:3}"; }
  blend kokoro "$blends"
  blend chosen "$chosen" --first 24000 --voices s04,s12,s21,s24,s27,s10,s23,s05
  blend crowd "$crowd" --first 30000 --voices s64-s319
  manifests+=("$out"/corpus/{kokoro,chosen,crowd}/train.jsonl)
fi
for number in "${!people[@]}"; do
  chelys data speed "${people[$number]}" --out "$out/corpus/speed-$number"
  manifests+=("${people[$number]}" "$out/corpus/speed-$number/manifest.jsonl")
done
chelys data features "${manifests[@]}" --full-band --out "$out/features"

train() { # STAGE RUN [KEY=VALUE ...]
  local stage=$1 run=$2
  shift 2
  [ -f "$out/$run/$stage.safetensors" ] || chelys train "$stage" --config "nano/$stage" run="$out/$run" features="$out/features" "$@"
}
read_codes=(codes="$out/codes.npy" text="$out/text")

# shellcheck disable=SC2046
{
train dvae dvae text="$out/text" $(steps 60 "stage.start_at=20 pairs.budget=500")
chelys data codes "$out/features" --run "$out/dvae" --out "$out/codes.npy"
train autoregressive autoregressive "${read_codes[@]}" $(steps 40 "pairs.budget=500")
train clvp clvp "${read_codes[@]}" $(steps 20 "pairs.budget=1000")
train vocoder vocoder $(steps 40 "stage.rows=4 stage.discriminator_start=30")
train diffusion diffusion "${read_codes[@]}" decoder="$out/autoregressive/autoregressive.safetensors" $(steps 30 "pairs.budget=300")
}

packed=(text="$out/text" features="$out/features")
for run in dvae autoregressive clvp diffusion vocoder; do packed+=("runs.$run=$out/$run"); done
[ "$setting" = full ] || packed+=("voices={heart: heart, cedar: cedar}")
chelys pack --config nano/model --out "$out/model" "${packed[@]}"
echo "now: chelys speak 'Hello there.' --model $out/model"
