"""Fine-tunes, evaluates and predicts with ALBERT (Google layout): classes, multiple choice.

python run_classifier_sp_google.py --task_name=tnews --data_dir=CLUEdataset/tnews \\
    --albert_config_file=albert_tiny_google/albert_config_tiny_g.json \\
    --vocab_file=albert_tiny_google/vocab.txt --init_checkpoint=albert_tiny_google \\
    --output_dir=tnews_google_output --do_train --do_eval --do_predict
"""

import choice_tuning
import estimators
import files
import finetuning
import modeling_google
import runtime
import tokenization
from absl import flags
from errors import UserError

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("albert_config_file", None, "JSON file with the model's sizes.")
    flags.DEFINE_string("spm_model_file", None, "SentencePiece model, in place of --vocab_file.")
    finetuning.define_flags(max_seq_length=512)


def main(_):
    settings = estimators.run_settings(FLAGS)
    values = estimators.flag_values(FLAGS)
    finetuning.check_values(values)
    config = modeling_google.AlbertConfig.from_json_file(FLAGS.albert_config_file,
                                                         "albert_config_file")
    if FLAGS.spm_model_file and FLAGS.vocab_file:
        raise UserError("give --spm_model_file or --vocab_file, not both")
    name = "spm_model_file" if FLAGS.spm_model_file else "vocab_file"
    files.require_file(values[name], name)
    tokenizer = tokenization.FullTokenizer(FLAGS.vocab_file, FLAGS.do_lower_case,
                                           FLAGS.spm_model_file)
    finetuning.run(values, settings, finetuning.Model(config, modeling_google.AlbertModel,
                                                      tokenizer),
                   choice_tuning.kind_of(values))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
