#!/usr/bin/env bash
# Fine-tunes on LCQMC (are two questions the same?), selects the best checkpoint, predicts test.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash run_classifier_lcqmc.sh [--sample] [--from_scratch] [flags of run_classifier.py]

  --sample        the embedded sample of the task, offline, with a model pre-trained on the spot
  --from_scratch  the tiny configuration without a pre-trained model

Environment (defaults):
  ALBERT_TF       2: TensorFlow 2.15, 1: TensorFlow 1.15 (2)
  LCQMC_DATA_DIR  folder with train.txt, dev.txt, test.txt (chineseGLUEdatasets/lcqmc)
  MODEL_DIR       released model, downloaded when absent (prev_trained_model/albert_tiny_zh)
  OUTPUT_DIR      folder for checkpoints and results (lcqmc_output)
  EPOCHS, MAX_STEPS   override the published setting

LCQMC is a licensed corpus: ask its authors for it and put the three files in the data folder.
TEXT
}

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
. "$ROOT/env.sh"
MODEL_DIR=$(absolute_path "${MODEL_DIR:-$ROOT/prev_trained_model/albert_tiny_zh}")
if [ "$SAMPLE" = 1 ]; then
    WORK_DIR=$ROOT/sample_output/tf${ALBERT_TF:-2}
    data=$ROOT/data/clue_sample/lcqmc
    output=$(absolute_path "${OUTPUT_DIR:-$WORK_DIR/lcqmc_output}")
    extra=("${SAMPLE_FLAGS[@]}")
else
    data=$(absolute_path "${LCQMC_DATA_DIR:-$ROOT/chineseGLUEdatasets/lcqmc}")
    output=$(absolute_path "${OUTPUT_DIR:-$ROOT/lcqmc_output}")
    extra=(--keep_checkpoint_max=20)
fi
refuse_comma "$output"
if [ ! -f "$data/train.txt" ]; then
    echo "ERROR: $data/train.txt does not exist. LCQMC is a licensed corpus: ask its authors for" \
        "it and put train.txt, dev.txt and test.txt there (or set LCQMC_DATA_DIR)." >&2
    exit 1
fi
if [ ! -f "$data/test.txt" ]; then
    echo "$data/test.txt does not exist: nothing to predict" >&2
    extra+=(--nodo_predict)
fi
choose_model "$MODEL_DIR" albert_tiny_489k
fine_tune lcqmc "$data" "$output" "${extra[@]}"
echo
"$PYTHON" "$ROOT/results_table.py" --runs="$output"
