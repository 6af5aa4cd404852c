"""Fine-tunes, evaluates and predicts with ALBERT on named entities: CLUENER, or tags of your own.

python run_ner.py --task_name=cluener --data_dir=CLUEdataset/cluener \\
    --bert_config_file=albert_tiny/albert_config_tiny.json --vocab_file=albert_tiny/vocab.txt \\
    --init_checkpoint=albert_tiny --output_dir=cluener_output --do_train --do_eval --do_predict

The configuration tells which layout the model is of.
"""

import entities
import estimators
import finetuning
import model_flags
import ner_tuning
import runtime
from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    finetuning.define_common_flags(entities.TASK_NAMES, max_seq_length=128)
    model_flags.define_flags()
    flags.DEFINE_integer("doc_stride", None, "Characters from the start of one window of a long "
                         "sentence to that of the next; half of --max_seq_length when not given.")
    flags.DEFINE_enum("tag_scheme", "bio", entities.SCHEMES, "Tags that the model learns, whatever "
                      "those of the files are; bioes tells where an entity ends, too.")
    flags.DEFINE_enum("decoding", "viterbi", ner_tuning.DECODINGS, "viterbi: the most probable "
                      "sequence of tags that makes sense; greedy: each tag by itself.")


def main(_):
    settings = estimators.run_settings(FLAGS)
    values = estimators.flag_values(FLAGS)
    if values["doc_stride"] is None:
        values["doc_stride"] = max(values["max_seq_length"] // 2, 1)
    ner_tuning.check_values(values)
    finetuning.run(values, settings, model_flags.read_model(values), ner_tuning.NamedEntities())


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
