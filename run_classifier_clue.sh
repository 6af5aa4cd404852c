#!/usr/bin/env bash
# One click from nothing to a CLUE submission: model and data, six tasks, the best checkpoint of
# each, one zip and one table.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash run_classifier_clue.sh [--sample] [--from_scratch] [flags of run_classifier.py]

  --sample        the embedded sample tasks, offline, with a model pre-trained on the spot
  --from_scratch  the tiny configuration without a pre-trained model

Environment (defaults):
  ALBERT_TF       2: TensorFlow 2.15, 1: TensorFlow 1.15 (2)
  TASKS           tasks to run, lower case ("afqmc cmnli csl iflytek tnews wsc")
  CLUE_DATA_DIR   folder with <task>/{train,dev,test}.json, downloaded when absent (CLUEdataset)
  MODEL_DIR       released model, downloaded when absent (albert_tiny)
  OUTPUT_DIR      folder for <task>_output/ and clue_submission.zip (the project's folder)
  EPOCHS, MAX_STEPS   override each task's published setting

The same command again goes on where an interrupted one stopped.
TEXT
}

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
. "$ROOT/env.sh"
read -r -d '' -a tasks <<<"${TASKS:-afqmc cmnli csl iflytek tnews wsc}" || true
MODEL_DIR=$(absolute_path "${MODEL_DIR:-$ROOT/albert_tiny}")
if [ "$SAMPLE" = 1 ]; then
    WORK_DIR=$(absolute_path "${OUTPUT_DIR:-$ROOT/sample_output/tf${ALBERT_TF:-2}}")
    data=$ROOT/data/clue_sample
    extra=("${SAMPLE_FLAGS[@]}")
else
    WORK_DIR=$(absolute_path "${OUTPUT_DIR:-$ROOT}")
    data=$(absolute_path "${CLUE_DATA_DIR:-$ROOT/CLUEdataset}")
    extra=(--keep_checkpoint_max=20)
fi

case "$WORK_DIR" in
    *,*)
        echo "ERROR: OUTPUT_DIR=$WORK_DIR: choose a name without a comma" >&2
        exit 1
        ;;
esac

submissions=()
for task in "${tasks[@]}"; do
    submissions+=("$("$PYTHON" "$ROOT/tasks.py" --submission_name="$task")")
done
for task in "${tasks[@]}"; do
    if [ ! -f "$data/$task/train.json" ]; then
        "$PYTHON" "$ROOT/download.py" --name="$task" --output_dir="$data"
    fi
done
choose_model "$MODEL_DIR" albert_tiny_489k

predictions=
runs=
for i in "${!tasks[@]}"; do
    task=${tasks[$i]}
    echo "== $task" >&2
    output=$WORK_DIR/${task}_output
    fine_tune "$task" "$data/$task" "$output" "${extra[@]}"
    [ ! -f "$output/${submissions[$i]}" ] ||
        predictions+=${predictions:+,}$output/${submissions[$i]}
    runs+=${runs:+,}$output
done

if [ -n "$predictions" ]; then
    echo "== submission" >&2
    "$PYTHON" "$ROOT/submission.py" --data_dir="$data" --predictions="$predictions" \
        --output_file="$WORK_DIR/clue_submission.zip"
fi
echo
"$PYTHON" "$ROOT/results_table.py" --runs="$runs"
echo "$SECONDS seconds in all"
