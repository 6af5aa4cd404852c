"""Fine-tunes, evaluates and predicts with ALBERT on reading comprehension: CMRC 2018, DRCD, SQuAD.

python run_mrc.py --task_name=cmrc2018 --data_dir=CLUEdataset/cmrc2018 \\
    --bert_config_file=albert_tiny/albert_config_tiny.json --vocab_file=albert_tiny/vocab.txt \\
    --init_checkpoint=albert_tiny --output_dir=cmrc2018_output --do_train --do_eval --do_predict

The configuration tells which layout the model is of.
"""

import estimators
import finetuning
import model_flags
import mrc_tuning
import reading_comprehension
import runtime
from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    finetuning.define_common_flags(reading_comprehension.TASK_NAMES, max_seq_length=512)
    model_flags.define_flags()
    flags.DEFINE_integer("doc_stride", 128, "Tokens from the start of one window of a long passage "
                         "to that of the next.")
    flags.DEFINE_integer("max_query_length", 64, "Longest question in tokens; longer ones are cut.")
    flags.DEFINE_integer("max_answer_length", 50, "Longest answer in tokens.")
    flags.DEFINE_integer("n_best_size", 20, "Answers to each question in nbest_predictions.json.")
    flags.DEFINE_float("null_score_threshold", None, "No answer is given where its score is above "
                       "the best answer's by more than this; tuned on dev when not given. Only for "
                       "data with questions that have no answer.")


def main(_):
    settings = estimators.run_settings(FLAGS)
    values = estimators.flag_values(FLAGS)
    mrc_tuning.check_values(values)
    finetuning.run(values, settings, model_flags.read_model(values),
                   mrc_tuning.ReadingComprehension())


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
