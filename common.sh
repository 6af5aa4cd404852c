# shellcheck shell=bash disable=SC2034 # variables are read by the scripts that source this
# What the fine-tuning scripts share; sourced by them after `set -euo pipefail`.
# Sets ROOT (the project's folder) and offers the functions below. They need PYTHON: the scripts
# source env.sh once the arguments are known to be sound.

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

# How a nearly untrained model learns the small sample tasks within a minute each: with the long
# warm-up, since a faster start leaves it at chance for hundreds of steps.
SAMPLE_FLAGS=(--max_seq_length=72 --train_batch_size=16 --learning_rate=1.2e-4
    --warmup_proportion=0.4 --num_train_epochs=100 --max_train_steps=300
    --save_checkpoints_steps=150)

# absolute_path PATH: the path as seen from the caller's folder, absolute.
absolute_path() {
    case "$1" in
        /* | *://*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$PWD" "$1" ;;
    esac
}

# refuse_comma FOLDER: ends if the folder's name holds a comma, at which lists of folders are split.
refuse_comma() {
    case "$1" in
        *,*)
            echo "ERROR: OUTPUT_DIR=$1: choose a name without a comma" >&2
            exit 1
            ;;
    esac
}

# parse_arguments ARGS...: sets SAMPLE and FROM_SCRATCH (0 or 1) and FLAGS, the rest.
parse_arguments() {
    SAMPLE=0
    FROM_SCRATCH=0
    FLAGS=()
    local argument
    for argument in "$@"; do
        case "$argument" in
            --sample) SAMPLE=1 ;;
            --from_scratch) FROM_SCRATCH=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            --task_name* | --data_dir* | --output_dir*)
                echo "ERROR: $argument: this script sets it; see --help for the variables" >&2
                exit 1
                ;;
            --*) FLAGS+=("$argument") ;;
            *)
                echo "ERROR: unexpected argument '$argument': flags are given as --name=value" >&2
                exit 1
                ;;
        esac
    done
    if [ "$SAMPLE" = 1 ] && [ "$FROM_SCRATCH" = 1 ]; then
        echo "ERROR: give --sample or --from_scratch, not both" >&2
        exit 1
    fi
}

# choose_model MODEL_DIR NAME: sets CLASSIFIER, the script for the model's layout, and MODEL_FLAGS
# for a released model, downloaded when absent; with FROM_SCRATCH for the tiny configuration without
# weights; with SAMPLE for a model made from data/news_zh_1.txt in WORK_DIR.
choose_model() {
    local model_dir=$1 name=$2 config flag=bert_config_file
    CLASSIFIER=run_classifier.py
    if [ "$SAMPLE" = 1 ]; then
        make_sample_model
    elif [ "$FROM_SCRATCH" = 1 ]; then
        MODEL_FLAGS=(--bert_config_file="$ROOT/albert_config/albert_config_tiny.json"
            --vocab_file="$ROOT/albert_config/vocab.txt")
    else
        # A model that is already there is the user's choice, whichever it is.
        if ! compgen -G "$model_dir/*.index" >/dev/null; then
            fetch_model "$model_dir" "$name"
        fi
        config=$(model_config "$model_dir")
        if grep -qE '"(num_hidden_groups|inner_group_num)"' "$config"; then
            CLASSIFIER=run_classifier_sp_google.py
            flag=albert_config_file
        fi
        MODEL_FLAGS=("--$flag=$config" --vocab_file="$model_dir/vocab.txt"
            --init_checkpoint="$model_dir")
    fi
}

# fetch_model MODEL_DIR NAME: downloads a model into a folder that has the name of one (or that
# which README gives it), NAME into albert_tiny or albert_tiny_zh; any other folder without a
# checkpoint is a mistake.
fetch_model() {
    local model_dir=$1 name=$2 base argument
    base=$(basename "$model_dir")
    for argument in ${FLAGS[@]+"${FLAGS[@]}"}; do
        case $argument in
            --init_checkpoint*)
                echo "ERROR: $argument: name the model's folder as MODEL_DIR" >&2
                return 1
                ;;
        esac
    done
    if compgen -G "$model_dir/*.bin" >/dev/null ||
        compgen -G "$model_dir/*.safetensors" >/dev/null; then
        echo "ERROR: MODEL_DIR=$model_dir holds a PyTorch model:" \
            "convert_albert_pytorch_checkpoint_to_tf.py makes a checkpoint of it" >&2
        return 1
    fi
    case $base in
        albert_tiny | albert_tiny_zh) ;;
        albert_tiny_google | albert_small_google) name=${base/_google/_zh_google} ;;
        albert_*) name=$base ;; # download.py says which names there are
        *)
            echo "ERROR: MODEL_DIR=$model_dir holds no checkpoint (*.index), and no model goes by" \
                "the name $base: python download.py --list shows those that do" >&2
            return 1
            ;;
    esac
    "$PYTHON" "$ROOT/download.py" --name="$name" --output_dir="$model_dir"
}

# model_config MODEL_DIR: the one file there that describes a model.
model_config() {
    local found
    found=$(grep -l '"hidden_size"' "$1"/*config*.json 2>/dev/null || true)
    if [ -z "$found" ] || [ "$(wc -l <<<"$found")" != 1 ] || [ ! -f "$1/vocab.txt" ]; then
        echo "ERROR: MODEL_DIR=$1 must hold one model: a checkpoint, its configuration (one file" \
            "*config*.json) and vocab.txt; there are:" \
            "$(cd "$1" && shopt -s nullglob && echo ./*config*.json vocab*)" >&2
        return 1
    fi
    printf '%s\n' "$found"
}

# make_sample_model: records and a few pre-training steps, both kept in WORK_DIR for the next call.
make_sample_model() {
    local config=$ROOT/albert_config/albert_config_tiny.json
    local vocab=$ROOT/albert_config/vocab.txt
    if [ ! -f "$WORK_DIR/news.tfrecord" ]; then
        echo "== Sample: records from data/news_zh_1.txt" >&2
        mkdir -p "$WORK_DIR"
        "$PYTHON" "$ROOT/create_pretraining_data.py" --input_file="$ROOT/data/news_zh_1.txt" \
            --output_file="$WORK_DIR/news.tfrecord" --vocab_file="$vocab" \
            --do_whole_word_mask --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=5
    fi
    echo "== Sample: pre-training a tiny model for some steps" >&2
    "$PYTHON" "$ROOT/run_pretraining.py" --bert_config_file="$config" \
        --input_file="$WORK_DIR/news.tfrecord" --output_dir="$WORK_DIR/pretrained" --do_train \
        --max_seq_length=64 --max_predictions_per_seq=10 --train_batch_size=16 \
        --learning_rate=5e-4 --num_train_steps=60 --num_warmup_steps=6 \
        --save_checkpoints_steps=30 --keep_checkpoint_max=1
    MODEL_FLAGS=(--bert_config_file="$config" --vocab_file="$vocab"
        --init_checkpoint="$WORK_DIR/pretrained/model.ckpt-60")
}

# fine_tune TASK DATA_DIR OUTPUT_DIR FLAGS...: train, select the best checkpoint on dev, predict
# test. Later flags win: the task's published settings, then FLAGS..., then EPOCHS and MAX_STEPS,
# then the flags of the command line.
fine_tune() {
    local task=$1 data_dir=$2 output_dir=$3 settings
    shift 3
    settings=$("$PYTHON" "$ROOT/tasks.py" --settings="$task")
    # shellcheck disable=SC2086 # the settings are several words
    "$PYTHON" "$ROOT/$CLASSIFIER" --task_name="$task" --data_dir="$data_dir" \
        --output_dir="$output_dir" --do_train --do_eval --do_predict \
        --eval_batch_size=64 --predict_batch_size=64 $settings "${MODEL_FLAGS[@]}" "$@" \
        ${EPOCHS:+--num_train_epochs="$EPOCHS"} ${MAX_STEPS:+--max_train_steps="$MAX_STEPS"} \
        ${FLAGS[@]+"${FLAGS[@]}"}
}
