#!/usr/bin/env bash
# One click from nothing to a CLUE submission: model and data, the tasks, the best checkpoint of
# each, one zip and one table. What is run, and where, is clue_runs.py's work.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash run_classifier_clue.sh [--sample] [--from_scratch] [flags of run_classifier.py]

  --sample        the embedded sample tasks, offline, with a model pre-trained on the spot
  --from_scratch  the tiny configuration without a pre-trained model

Environment (defaults):
  ALBERT_TF       2: TensorFlow 2.15, 1: TensorFlow 1.15 (2)
  TASKS           tasks to run, lower case ("afqmc cmnli csl iflytek tnews wsc"); all: these and
                  ocnli, c3, chid, cmrc2018, cluener
  SWEEP           settings and seeds to try for each task, such as
                  "learning_rate=2e-5,6e-5,1e-4 seed=1,2,3"; dev chooses, test comes last
  CLUE_DATA_DIR   folder with <task>/{train,dev,test}.json, downloaded when absent (CLUEdataset)
  MODEL_DIR       released model, downloaded when absent (albert_tiny)
  OUTPUT_DIR      folder for <task>_output/, clue_submission.zip and results.md (the project's)
  EPOCHS, MAX_STEPS   override each task's published setting

On several GPUs as many tasks run at a time, each on its own. The same command again goes on where
an interrupted one stopped, and does not repeat what was finished.
TEXT
}

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
. "$ROOT/env.sh"
MODEL_DIR=$(absolute_path "${MODEL_DIR:-$ROOT/albert_tiny}")
runs=("$ROOT/clue_runs.py" --tasks="${TASKS:-}" --sweep="${SWEEP:-}")
if [ "$SAMPLE" = 1 ]; then
    WORK_DIR=$(absolute_path "${OUTPUT_DIR:-$ROOT/sample_output/tf${ALBERT_TF:-2}}")
    runs+=(--sample --data_dir="$ROOT/data/clue_sample")
    extra=("${SAMPLE_FLAGS[@]}")
else
    WORK_DIR=$(absolute_path "${OUTPUT_DIR:-$ROOT}")
    runs+=(--data_dir="$(absolute_path "${CLUE_DATA_DIR:-$ROOT/CLUEdataset}")")
    extra=(--keep_checkpoint_max=20)
fi

refuse_comma "$WORK_DIR"

"$PYTHON" "${runs[@]}" --prepare_only
choose_model "$MODEL_DIR" albert_tiny_489k
extra=("${MODEL_FLAGS[@]}" "${extra[@]}" ${EPOCHS:+--num_train_epochs="$EPOCHS"}
    ${MAX_STEPS:+--max_train_steps="$MAX_STEPS"})
[ "${#FLAGS[@]}" = 0 ] || runs+=("${FLAGS[@]/#/--flag=}")
"$PYTHON" "${runs[@]}" "${extra[@]/#/--base_flag=}" --work_dir="$WORK_DIR" \
    --classifier="$CLASSIFIER"
echo "$SECONDS seconds in all"
