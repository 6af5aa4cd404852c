"""Pre-trains ALBERT (albert_zh layout) on records of create_pretraining_data.py.

python run_pretraining.py --bert_config_file=albert_config/albert_config_tiny.json \\
    --input_file='data/*.tfrecord' --output_dir=pretrain_output --do_train --do_eval
"""

import estimators
import layouts
import modeling
import pretraining
import runtime
from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("bert_config_file", None, "JSON file with the model's sizes.")
    pretraining.define_flags(
        learning_rate=5e-5, max_seq_length=128, do_train=False, train_batch_size=32,
        eval_batch_size=8, num_train_steps=100000, num_warmup_steps=10000,
        save_checkpoints_steps=1000)


def main(_):
    settings = estimators.run_settings(FLAGS)
    config = modeling.BertConfig.from_json_file(FLAGS.bert_config_file)
    pretraining.run(estimators.flag_values(FLAGS), settings, layouts.ALBERT_ZH, config)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
