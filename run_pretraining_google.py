"""Pre-trains ALBERT (Google layout) on records of create_pretraining_data.py.

python run_pretraining_google.py --input_file='data/*.tfrecord' --output_dir=google_output \\
    --albert_config_file=albert_config/albert_config_tiny_google.json --do_eval
"""

import estimators
import layouts
import modeling_google
import pretraining
import runtime
from absl import flags
from errors import UserError

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("albert_config_file", None, "JSON file with the model's sizes.")
    flags.DEFINE_bool("init_from_group0", False, "Initialise every parameter group from group 0 "
                      "of --init_checkpoint.")
    flags.DEFINE_integer("masked_lm_budget", 0, "Only 0 is supported.")
    pretraining.define_flags(
        learning_rate=0.00176, max_seq_length=512, do_train=True, train_batch_size=4096,
        eval_batch_size=64, num_train_steps=125000, num_warmup_steps=3125,
        save_checkpoints_steps=5000)


def main(_):
    settings = estimators.run_settings(FLAGS)
    if FLAGS.masked_lm_budget:
        raise UserError("--masked_lm_budget=%d: only 0 is supported, which masks what the records "
                        "say" % FLAGS.masked_lm_budget)
    config = modeling_google.AlbertConfig.from_json_file(FLAGS.albert_config_file,
                                                         "albert_config_file")
    pretraining.run(estimators.flag_values(FLAGS), settings, layouts.GOOGLE, config, keep_best=True,
                    init_from_group0=FLAGS.init_from_group0)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
