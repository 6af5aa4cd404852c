"""Pre-trains ALBERT (albert_zh layout) on records of create_pretraining_data.py.

python run_pretraining.py --bert_config_file=albert_config/albert_config_tiny.json \\
    --input_file='data/*.tfrecord' --output_dir=pretrain_output --do_train --do_eval
"""

import os

import checkpoints
import estimators
import files
import modeling
import pretraining
import run_record
import runtime
from absl import flags
from console import say
from errors import UserError
from lamb_optimizer import LAMBOptimizer
from optimization import AdamWeightDecayOptimizer

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("bert_config_file", None, "JSON file with the model's sizes.")
    flags.DEFINE_string("input_file", None, "Training records: names and globs, comma-separated.")
    flags.DEFINE_string("eval_input_file", None, "Evaluation records, apart from training's.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder to start from.")
    flags.DEFINE_bool("allow_partial_init", False, "Load what fits of --init_checkpoint, "
                      "initialise the rest anew.")
    flags.DEFINE_integer("max_seq_length", 128, "Sequence length of the records.")
    flags.DEFINE_integer("max_predictions_per_seq", 20, "Masked words per record.")
    flags.DEFINE_bool("do_train", False, "Train.")
    flags.DEFINE_bool("do_eval", False, "Evaluate the last checkpoint.")
    flags.DEFINE_integer("train_batch_size", 32, "Records per training step.")
    flags.DEFINE_integer("eval_batch_size", 8, "Records per evaluation step.")
    flags.DEFINE_string("optimizer", "lamb", "lamb or adamw.")
    flags.DEFINE_float("learning_rate", 5e-5, "Peak learning rate.")
    flags.DEFINE_float("poly_power", 1.0, "Power of the decay; 1 is linear.")
    flags.DEFINE_integer("num_train_steps", 100000, "Training steps in all.")
    flags.DEFINE_integer("num_warmup_steps", 10000, "Steps of linear warm-up from 0.")
    flags.DEFINE_integer("start_warmup_step", 0, "Step at which the warm-up starts.")
    flags.DEFINE_integer("max_eval_steps", 100, "Evaluation steps at most; 0: all records.")
    estimators.define_flags(save_checkpoints_steps=1000)


def main(_):
    run = estimators.run_settings(FLAGS)
    sizes = {"sequence": FLAGS.max_seq_length, "predictions": FLAGS.max_predictions_per_seq}
    pretraining.check_numbers(FLAGS.flag_values_dict())
    if not (FLAGS.do_train or FLAGS.do_eval):
        raise UserError("nothing to do: give --do_train, --do_eval or both")

    # ---- configuration and input
    config = modeling.BertConfig.from_json_file(FLAGS.bert_config_file)
    if FLAGS.max_seq_length > config.max_position_embeddings:
        raise UserError("--max_seq_length=%d is beyond the %d positions of %s" % (
            FLAGS.max_seq_length, config.max_position_embeddings, FLAGS.bert_config_file))
    train_files = files.expand(FLAGS.input_file or "", "input_file") if (
        FLAGS.do_train or not FLAGS.eval_input_file) else []
    eval_files = (files.expand(FLAGS.eval_input_file, "eval_input_file")
                  if FLAGS.eval_input_file else train_files)
    pretraining.check_input(train_files, config, sizes)
    if FLAGS.do_eval and FLAGS.eval_input_file:
        pretraining.check_input(eval_files, config, sizes)

    # ---- where the weights come from
    slots = (LAMBOptimizer if FLAGS.optimizer == "lamb" else AdamWeightDecayOptimizer).SLOT_NAMES
    shapes = modeling.pretraining_variable_shapes(config, modeling.BertModel)
    record = run_record.RunRecord(run.output_dir)
    start = checkpoints.starting_point(
        config, shapes, record, run.output_dir, FLAGS.init_checkpoint, FLAGS.allow_partial_init,
        slots if FLAGS.do_train else ())
    trained_with = {name: FLAGS.flag_values_dict()[name] for name in (
        "train_batch_size", "learning_rate", "num_warmup_steps", "poly_power", "input_file")}
    if FLAGS.do_train:
        record.require_same_settings(trained_with, refuse=False)
    files.make_dir(run.output_dir, "output_dir")
    record.begin(FLAGS.flag_values_dict(), start and start.prefix,
                 keep_start=bool(checkpoints.latest_in(run.output_dir)),
                 trained_with=trained_with if FLAGS.do_train else None)
    files.write_text(os.path.join(run.output_dir, "albert_config.json"), config.to_json_string())

    # ---- training and evaluation
    results = {}
    if FLAGS.do_train:
        schedule = pretraining.Schedule(
            FLAGS.optimizer, FLAGS.learning_rate, FLAGS.num_train_steps, FLAGS.num_warmup_steps,
            FLAGS.poly_power, FLAGS.start_warmup_step, exclude_from_layer_adaptation=(),
            slot_names=slots)
        model_fn = pretraining.model_fn_builder(config, modeling.BertModel, schedule, start,
                                                run.use_tpu)
        pretraining.train(model_fn, run, config, train_files, sizes, FLAGS.train_batch_size,
                          FLAGS.num_train_steps)
    if FLAGS.do_eval:
        if not FLAGS.eval_input_file:
            say("WARNING: no --eval_input_file: evaluating on the training data, whose accuracy "
                "says little about other text")
        prefix = checkpoints.latest_in(run.output_dir) or checkpoints.resolve(FLAGS.init_checkpoint)
        model_fit = checkpoints.fit_with_heads(prefix, shapes)
        model_fn = pretraining.model_fn_builder(config, modeling.BertModel, None, model_fit,
                                                run.use_tpu)
        results = pretraining.evaluate(model_fn, run, config, eval_files, sizes,
                                       FLAGS.eval_batch_size, FLAGS.max_eval_steps, prefix)
    record.finish({name: str(value) for name, value in results.items()})


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
