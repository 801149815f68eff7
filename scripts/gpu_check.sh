#!/usr/bin/env bash
# On a machine with a GPU, from the project's root: the tests that need one, then speed beside TRL. At most 6 minutes; numbers in $OUT.
set -uo pipefail
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$PWD
OUT=${OUT:-out}
PY=${PY:-python3}
mkdir -p "$OUT"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$OUT/card.txt"
timeout 170 "$PY" -m pytest -q -s -m gpu -p no:cacheprovider 2>&1 | tee "$OUT/tests.txt" | tail -15
timeout 185 "$PY" scripts/benchmark.py 'workloads=[lora_1_3b]' 'sides=[cwpo,trl_best]' 'trl_micro=[16]' repeats=1 batch_size=64 \
  token_budget=8192 'inference=[lora_1_3b]' 'annotation=[]' results="$OUT" 2>&1 | tee "$OUT/benchmark.txt" | tail -15
