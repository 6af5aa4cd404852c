#!/usr/bin/env bash
# Creates pre-training records from text, with the settings of the published models.

set -euo pipefail

here="$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"

usage() {
  cat <<'USAGE'
Usage: bash create_pretrain_data.sh [--sample] [--name=value ...]

Turns text (UTF-8, one sentence a line, a blank line between documents) into TFRecords.

Defaults here, as for the published models; every flag given replaces its default:
  --input_file=data/news_zh_1.txt
  --output_file=data/tf_news_2016_zh_raw_news2016zh_1.tfrecord
  --vocab_file=albert_config/vocab.txt
  --do_whole_word_mask=True
  --max_seq_length=512
  --max_predictions_per_seq=51
  --masked_lm_prob=0.10

Further flags (bash create_pretrain_data.sh --helpfull describes all of them):
  --num_workers=N  --num_shards=N  --dupe_factor=10  --max_ngram=1  --overwrite=True
  --do_lower_case=True  --random_seed=12345  --short_seq_prob=0.1  --non_chinese=False
  --prefixed_word_labels=False  --spm_model_file=FILE

  --sample  a quick trial: data/news_zh_1.txt at length 128 into sample_output/

Example:
  bash create_pretrain_data.sh --input_file='corpus/*.txt' --output_file=data/tf_corpus.tfrecord
USAGE
}

sample=no
has_input=no
has_output=no
flags=()
for argument in "$@"; do
  case "$argument" in
    --help | -help | -h) usage; exit 0 ;;
    --sample) sample=yes; continue ;;
    --input_file | --input_file=* | -input_file | -input_file=*) has_input=yes ;;
    --output_file | --output_file=* | -output_file | -output_file=*) has_output=yes ;;
  esac
  flags+=("$argument")
done

if [ "$has_input" = yes ] && [ "$has_output" = no ]; then
  echo "ERROR: --input_file without --output_file: name the records of this text, for example" \
    "--output_file=data/tf_my_corpus.tfrecord" >&2
  exit 1
fi

defaults=(
  --input_file="$here/data/news_zh_1.txt"
  --output_file="$here/data/tf_news_2016_zh_raw_news2016zh_1.tfrecord"
  --vocab_file="$here/albert_config/vocab.txt"
  --do_whole_word_mask=True
  --max_seq_length=512
  --max_predictions_per_seq=51
  --masked_lm_prob=0.10
)
if [ "$sample" = yes ]; then
  defaults+=(
    --output_file="$here/sample_output/tf_news_zh_1.tfrecord"
    --max_seq_length=128
    --max_predictions_per_seq=20
    --masked_lm_prob=0.15
    --dupe_factor=2
  )
  # Of a name of the user's own, what is there stays.
  [ "$has_output" = yes ] || defaults+=(--overwrite=True)
fi

. "$here/env.sh"

# The last of two equal flags counts. (An empty array is unset to bash before 4.4.)
exec "$PYTHON" "$here/create_pretraining_data.py" "${defaults[@]}" ${flags[@]+"${flags[@]}"}
