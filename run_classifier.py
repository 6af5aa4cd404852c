"""Fine-tunes, evaluates and predicts with ALBERT (albert_zh layout): classes, multiple choice.

python run_classifier.py --task_name=tnews --data_dir=CLUEdataset/tnews \\
    --bert_config_file=albert_tiny/albert_config_tiny.json --vocab_file=albert_tiny/vocab.txt \\
    --init_checkpoint=albert_tiny --output_dir=tnews_output --do_train --do_eval --do_predict
"""

import choice_tuning
import estimators
import files
import finetuning
import modeling
import runtime
import tokenization
from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("bert_config_file", None, "JSON file with the model's sizes.")
    finetuning.define_flags(max_seq_length=128)


def main(_):
    settings = estimators.run_settings(FLAGS)
    values = estimators.flag_values(FLAGS)
    finetuning.check_values(values)
    config = modeling.BertConfig.from_json_file(FLAGS.bert_config_file)
    files.require_file(FLAGS.vocab_file, "vocab_file")
    tokenizer = tokenization.FullTokenizer(FLAGS.vocab_file, FLAGS.do_lower_case)
    finetuning.run(values, settings, finetuning.Model(config, modeling.BertModel, tokenizer),
                   choice_tuning.kind_of(values))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
