"""The table of bad inputs: what is wrong, with which script, and what its message must say.

A row's arguments are split at blanks; {here} is a folder of the row's own, {kit} one with sound
inputs (kit.py), {port} that of a server that misbehaves (server.py). Where a flag stands twice, the
last one counts. The message must hold all of `says`: the place, and a word of the remedy.
"""

import collections
import gzip
import io
import json
import os
import zipfile

import kit

Row = collections.namedtuple("Row", [
    "family", "name", "script", "arguments", "says", "make", "variables", "leaves", "runtime",
    "lines"])
Row.__doc__ = """One bad input.

says: fragments of the message; make: function of (folder, folder with sound inputs) or None;
variables: {name: value} of the environment; leaves: starts of the names (below `here`) of files
that may be left behind: of a run's folder, or of a download that is gone on with; runtime: 1 or 2
where only that one has it; lines: what comes from standard input, or None."""

ROWS = []


def row(family, name, script, arguments, *says, **more):
    """Adds a row."""
    make, variables = more.pop("make", None), more.pop("variables", {})
    leaves, runtime = more.pop("leaves", ()), more.pop("runtime", None)
    lines = more.pop("lines", None)
    assert not more, more
    ROWS.append(Row(family, name, script, arguments, says, make, variables, leaves, runtime, lines))


OUT = " --output_dir={here}/out"
CLASSIFY = ("--task_name=afqmc --data_dir={kit}/afqmc --bert_config_file={kit}/config.json "
            "--vocab_file={kit}/vocab.txt --max_seq_length=16 --do_train --max_train_steps=1" + OUT)
PREDICT = CLASSIFY.replace("--do_train", "--do_predict") + " --init_checkpoint={kit}/model"
SP_GOOGLE = ("--task_name=afqmc --data_dir={kit}/afqmc --albert_config_file={kit}/google.json "
             "--vocab_file={kit}/vocab.txt --max_seq_length=16 --do_train --max_train_steps=1"
             + OUT)
PRETRAIN = ("--bert_config_file={kit}/config.json --input_file={kit}/x.tfrecord --do_train "
            "--max_seq_length=12 --max_predictions_per_seq=3 --train_batch_size=2 "
            "--num_train_steps=2 --num_warmup_steps=0 --vocab_file={kit}/vocab.txt" + OUT)
CREATE = ("--input_file={kit}/corpus.txt --vocab_file={kit}/vocab.txt --max_seq_length=16 "
          "--max_predictions_per_seq=3 --dupe_factor=1 --num_workers=1 "
          "--output_file={here}/out/x.tfrecord")
PREPARE = "--input_file={kit}/corpus.txt --output_file={here}/out/x.txt --num_workers=1"
BUILD = ("--input_file={kit}/corpus.txt --output_file={here}/out/vocab.txt --vocab_size=200 "
         "--num_workers=1")
SIMILAR = "今天 明天 --model_dir={kit}/model"
EXPORT = "--strip --init_checkpoint={kit}/model --export_dir={here}/out"
SUBMIT = ("--data_dir={kit} --predictions={kit}/afqmc_predict.json "
          "--output_file={here}/out/clue.zip")
FETCH = "--name=model --output_dir={here}/out --downloads_file={here}/downloads.json --timeout=1"
SERVE = "--model_dir={kit}/model --port=0"
TO_TORCH = "--model_dir={kit}/model --output_dir={here}/out"
FROM_TORCH = "--model_dir={here}/hf --output_dir={here}/out"

GBK = "今天天气很好".encode("gb18030")
TWO_BYTES = "今天\t明天\t1\n".encode("utf-16")


def own(arguments):
    return CLASSIFY.replace("afqmc --data_dir={kit}/afqmc", arguments)


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------

for flag, says in (
        ("--lerning_rate=1", ("lerning_rate", "Did you mean: learning_rate")),
        ("train", ("unexpected argument 'train'", "--name=value")),
        ("--train_batch_size=many", ("train_batch_size", "many")),
        ("--train_batch_size=0", ("--train_batch_size=0", "at least 1")),
        ("--eval_batch_size=-1", ("--eval_batch_size=-1", "at least 1")),
        ("--max_seq_length=4", ("--max_seq_length=4", "at least 5")),
        ("--max_seq_length=33", ("--max_seq_length=33", "32 positions")),
        ("--max_seq_length=99999999999999999999", ("--max_seq_length", "32 positions")),
        ("--learning_rate=-1", ("--learning_rate=-1", "above 0")),
        ("--learning_rate=nan", ("--learning_rate=nan", "above 0")),
        ("--learning_rate=inf", ("--learning_rate=inf", "above 0")),
        ("--learning_rate=2e-5;", ("learning_rate", "2e-5;")),
        ("--num_train_epochs=0", ("--num_train_epochs=0", "above 0")),
        ("--warmup_proportion=1.5", ("--warmup_proportion=1.5", "from 0 to below 1")),
        ("--nodo_train", ("nothing to do", "--do_train")),
        ("--task_name=afqcm", ("--task_name=afqcm", 'Did you mean "afqmc"')),
        ("--task_name=", ("--task_name is missing", "afqmc")),
        ("--data_dir=", ("--data_dir is missing", "download.py")),
        ("--data_dir={kit}/config.json", ("config.json is a file", "folder")),
        ("--data_dir={here}/none", ("train.json does not exist", "download.py")),
        ("--output_dir=", ("--output_dir is missing", "folder")),
        ("--output_dir={kit}/config.json", ("--output_dir", "config.json")),
        ("--output_dir={here}/a*b", ("a*b", "choose another")),
        ("--bert_config_file=", ("--bert_config_file is missing", "name a file")),
        ("--bert_config_file={kit}", ("--bert_config_file", "is a folder")),
        ("--bert_config_file={kit}/none.json", ("none.json", "does not exist")),
        ("--vocab_file={kit}/none.txt", ("--vocab_file", "none.txt", "does not exist")),
        ("--vocab_file={kit}/model", ("--vocab_file", "is a folder")),
        ("--truncate=middle", ("truncate", "head_tail")),
        ("--class_weights=some", ("class_weights", "balanced")),
        ("--text_columns=a", ("--text_columns=a", "no meaning for task afqmc")),
        ("--num_threads=-1", ("--num_threads=-1", "at least 0")),
        ("--gradient_accumulation_steps=0", ("--gradient_accumulation_steps=0", "at least 1")),
        ("--precision=float8", ("precision", "bfloat16")),
        ("--precision=float16", ("--precision=float16 needs a GPU", "float32")),
        ("--distribution=both", ("distribution", "multi_worker")),
        ("--distribution=multi_worker", ("TF_CONFIG", "cluster")),
        ("--use_tpu", ("--use_tpu", "--tpu_name")),
        ("--save_checkpoints_steps=0", ("--save_checkpoints_steps=0", "at least 1")),
        ("--keep_checkpoint_max=-1", ("--keep_checkpoint_max=-1", "at least 0")),
        ("--init_checkpoint={kit}/model/bert_model.ckpt", ("bert_model.ckpt", "model.ckpt")),
        ("--init_checkpoint={kit}/afqmc", ("afqmc", "no checkpoint")),
        ("--do_predict --nodo_train --predict_checkpoint={kit}/none",
         ("--predict_checkpoint", "none", "does not exist"))):
    row("flags", flag, "run_classifier.py", CLASSIFY + " " + flag, *says)

row("flags", "TF_CONFIG that is no JSON", "run_classifier.py",
    CLASSIFY + " --distribution=multi_worker", "TF_CONFIG", "JSON", variables={"TF_CONFIG": "{"})
row("flags", "TF_CONFIG that is a list", "run_classifier.py",
    CLASSIFY + " --distribution=multi_worker", "TF_CONFIG", variables={"TF_CONFIG": "[1]"})
row("flags", "TF_CONFIG of other kinds", "run_classifier.py",
    CLASSIFY + " --distribution=multi_worker", "TF_CONFIG",
    variables={"TF_CONFIG": '{"cluster": {"worker": 3}, "task": {"type": 1, "index": "a"}}'})
row("flags", "a name that is not UTF-8", "run_classifier.py",
    CLASSIFY + " --output_dir={here}/\udcff", "UTF-8")

for flag, says in (
        ("--input_file=", ("--input_file is missing", "glob")),
        ("--input_file={kit}/*.none", ("--input_file", "*.none")),
        ("--input_file={kit}", ("--input_file", "folder")),
        ("--optimizer=sgd", ("--optimizer=sgd", "lamb")),
        ("--poly_power=0", ("--poly_power=0", "above 0")),
        ("--num_train_steps=0", ("--num_train_steps=0", "at least 1")),
        ("--max_predictions_per_seq=0", ("--max_predictions_per_seq=0", "at least 1")),
        ("--max_predictions_per_seq=2", ("record 1", "--max_predictions_per_seq=3")),
        ("--max_seq_length=11", ("record 1", "--max_seq_length=12")),
        ("--nodo_train", ("nothing to do", "--do_eval")),
        ("--do_eval --eval_input_file={kit}/none", ("--eval_input_file", "none")),
        ("--eval_batch_size=0", ("--eval_batch_size=0", "at least 1")),
        ("--export_dir={kit}/config.json", ("--export_dir", "is a file")),
        ("--export_dir={kit}/model", ("--export_dir", "name a new folder")),
        ("--export_dir={here}/out", ("--export_dir", "another")),
        ("--bert_config_file={kit}/google.json", ("google.json", "run_pretraining_google.py"))):
    row("flags", "pre-training, " + flag, "run_pretraining.py", PRETRAIN + " " + flag, *says)
row("flags", "pre-training, Google layout, --masked_lm_budget=9", "run_pretraining_google.py",
    PRETRAIN.replace("bert_config_file={kit}/config", "albert_config_file={kit}/google")
    + " --masked_lm_budget=9", "--masked_lm_budget=9", "only 0")
row("flags", "pre-training, Google layout, the other layout's configuration",
    "run_pretraining_google.py", PRETRAIN.replace("bert_config", "albert_config"),
    "config.json", "run_pretraining.py")
row("flags", "Google layout, two vocabularies", "run_classifier_sp_google.py",
    SP_GOOGLE + " --spm_model_file={kit}/vocab.txt", "--spm_model_file or --vocab_file", "not both")

for flag, says in (
        ("--input_file=", ("--input_file is missing", "glob")),
        ("--input_file={kit}/none.txt", ("--input_file", "none.txt")),
        ("--output_file=", ("--output_file is missing", "name a file")),
        ("--output_file={here}", ("--output_file", "is a folder")),
        ("--output_file={here}/a.tfrecord,{here}/a.tfrecord", ("--output_file", "twice")),
        ("--vocab_file=", ("--vocab_file is missing", "name a file")),
        ("--masked_lm_prob=0", ("--masked_lm_prob=0", "between 0 and 1")),
        ("--masked_lm_prob=nan", ("--masked_lm_prob=nan", "between 0 and 1")),
        ("--short_seq_prob=2", ("--short_seq_prob=2", "0.0 to 1.0")),
        ("--dupe_factor=0", ("--dupe_factor=0", "1 to")),
        ("--max_predictions_per_seq=16", ("--max_predictions_per_seq=16", "--max_seq_length=16")),
        ("--num_shards=0", ("--num_shards=0", "1 to")),
        ("--num_shards=9999", ("9999 shards", "use fewer")),
        ("--num_workers=-2", ("--num_workers=-2", "1 to")),
        ("--shard_megabytes=nan", ("--shard_megabytes=nan", "0.0 to")),
        ("--shard_megabytes=1 --num_shards=2", ("--shard_megabytes", "one of them")),
        ("--masking=none", ("masking", "dynamic")),
        ("--masking=dynamic --pad_records", ("--pad_records", "--masking=dynamic")),
        ("--spm_model_file={kit}/vocab.txt", ("--spm_model_file", "spm_train")),
        ("--random_seed=x", ("random_seed", "x"))):
    row("flags", "data creation, " + flag, "create_pretraining_data.py", CREATE + " " + flag, *says)
row("flags", "data creation, the output is the input", "create_pretraining_data.py",
    CREATE + " --input_file={here}/a.tfrecord --output_file={here}/a.tfrecord", "overwrite",
    "choose another name", make=kit.file("a.tfrecord", kit.TEXT))
row("flags", "data creation, records of an earlier run", "create_pretraining_data.py",
    CREATE + " --output_file={here}/x.tfrecord", "x.tfrecord", "--overwrite=True",
    make=kit.copy("x.tfrecord"))

for flag, says in (
        ("--input_format=pdf", ("input_format", "jsonl")),
        ("--max_symbol_share=2", ("--max_symbol_share=2", "0")),
        ("--min_characters=-1", ("--min_characters=-1", "")),
        ("--near_duplicates=nan", ("--near_duplicates=nan", "")),
        ("--held_out_share=1.5", ("--held_out_share=1.5", "")),
        ("--max_sentence_characters=0", ("--max_sentence_characters=0", "")),
        ("--output_file={kit}", ("--output_file", "folder"))):
    row("flags", "corpus, " + flag, "prepare_corpus.py", PREPARE + " " + flag, *says)
for flag, says in (
        ("--vocab_size=0", ("--vocab_size=0", "1 to")),
        ("--character_coverage=0.1", ("--character_coverage=0.1", "0.5 to 1")),
        ("--model_type=sentencepiece", ("--output_file", ".model")),
        ("--extend={kit}/vocab.txt", ("--extend", "--vocab_size")),
        ("--extend={kit}/none.txt --vocab_size=", ("vocab_size", "")),
        ("--compare={kit}/config.json", ("config.json", "lacks the special entries")),
        ("--output_file={kit}/vocab.txt", ("vocab.txt is there already", "--overwrite"))):
    row("flags", "vocabulary, " + flag, "build_vocab.py", BUILD + " " + flag, *says)

for arguments, says in (
        ("今天 --model_dir={kit}/model", ("one sentence", "two are compared")),
        ("今天 明天 后天 --model_dir={kit}/model", ("unexpected argument", "--name=value")),
        ("今天 明天 --file={kit}/pairs.tsv", ("--file", "not both")),
        ("今天 明天 --model_dir={here}/none", ("no trained model", "run_classifier_lcqmc.sh")),
        (SIMILAR + " --batch_size=0", ("batch_size=0", "from 1 on")),
        (SIMILAR + " --max_seq_len=4", ("max_seq_len=4", "from 5 on")),
        (SIMILAR + " --max_seq_len=99", ("", "")),
        (SIMILAR + " --gpu_memory_fraction=nan", ("gpu_memory_fraction=nan", "at most 1")),
        (SIMILAR + " --layer_indexes=-1", ("layer_indexes=-1", "without --cosine")),
        (SIMILAR + " --cosine --layer_indexes=a", ("layer_indexes=a", "-2,-1")),
        (SIMILAR + " --cosine --layer_indexes=7", ("no layer 7", "0 to 1")),
        (SIMILAR + " --pooling=sum", ("pooling", "mean")),
        (SIMILAR + " --ckpt_name=other", ("other does not exist", "model/model.ckpt"))):
    if says[0]:
        row("flags", "similarity, " + arguments.replace(SIMILAR + " ", ""), "similarity.py",
            arguments, *says)
row("flags", "similarity, ALBERT_ZH_BATCH_SIZE=many", "similarity.py", SIMILAR,
    "ALBERT_ZH_BATCH_SIZE=many", "whole number", variables={"ALBERT_ZH_BATCH_SIZE": "many"})
row("flags", "tasks, --settings=tnew", "tasks.py", "--settings=tnew", "--settings=tnew",
    'Did you mean "tnews"')
row("flags", "tasks, --submission_name=lcqmc", "tasks.py", "--submission_name=lcqmc", "lcqmc",
    "run_classifier_lcqmc.sh")
row("flags", "results, nothing named", "results_table.py", "", "--runs is missing", "folders")
row("flags", "results, no run", "results_table.py", "--runs={here}", "eval_results.json",
    "--do_eval")
row("flags", "curves, no folder", "curves.py", "--output_dir={here}/none", "--output_dir",
    "is no folder")
row("flags", "curves, no event file", "curves.py", "--output_dir={kit}/model", "no event files",
    "name the folder")
row("flags", "test vectors, no vocabulary", "tokenizer_vectors.py", "", "--vocab_file is missing",
    "name a file")
row("flags", "test vectors, --max_seq_length=3", "tokenizer_vectors.py",
    "--vocab_file={kit}/vocab.txt --max_seq_length=3", "--max_seq_length=3", "at least 5")

# ---------------------------------------------------------------------------------------------
# Configurations, vocabularies
# ---------------------------------------------------------------------------------------------


def with_config(**changes):
    """Returns a `make` of config.json with other settings (None: without one)."""
    def make(here, folder):
        settings = json.loads(kit.read(os.path.join(folder, "config.json")).decode("utf-8"))
        settings.update(changes)
        kit.write(os.path.join(here, "config.json"), json.dumps(
            {name: value for name, value in settings.items() if value is not None}))

    return make


CONFIGURED = CLASSIFY + " --bert_config_file={here}/config.json"
for name, make, says in (
        ("cut short", kit.changed("config.json", kit.cut(0.5)), ("not valid JSON",)),
        ("empty", kit.file("config.json", ""), ("is empty",)),
        ("a list", kit.file("config.json", "[1, 2]"), ("JSON object",)),
        ("a number", kit.file("config.json", "7"), ("JSON object",)),
        ("nested 100,000 deep", kit.file("config.json", "[" * 100000), ("not valid JSON",)),
        ("UTF-16", kit.file("config.json", '{"vocab_size": 3}'.encode("utf-16")),
         ("not UTF-8", "UTF-16")),
        ("binary", kit.file("config.json", bytes(range(256)) * 9), ("not UTF-8",)),
        ("a key comes twice", kit.changed("config.json", lambda data: data.replace(
                b'{"vocab_size"', b'{"hidden_size": 8, "vocab_size"')), ("hidden_size", "twice")),
        ("unknown key", with_config(hiden_size=3), ("hiden_size", 'Did you mean "hidden_size"')),
        ("key missing", with_config(hidden_size=None), ("lacks hidden_size",)),
        ("a string for a number", with_config(hidden_size="16"), ("hidden_size", "whole number")),
        ("a list for a number", with_config(hidden_size=[16]), ("hidden_size", "whole number")),
        ("not a number", with_config(hidden_dropout_prob=float("nan")),
         ("hidden_dropout_prob", "a number")),
        ("infinity", with_config(initializer_range=float("inf")), ("initializer_range",)),
        ("negative", with_config(num_hidden_layers=-2), ("num_hidden_layers", "at least 1")),
        ("heads do not divide the width", with_config(num_attention_heads=3),
         ("num_attention_heads 3", "divides")),
        ("unknown activation", with_config(hidden_act="swish"), ("swish", "gelu")),
        ("unknown ln_type", with_config(ln_type="both"), ("ln_type", "postln")),
        ("dropout of 1", with_config(hidden_dropout_prob=1.0), ("hidden_dropout_prob", "below 1")),
        ("no size anyone has memory for", with_config(hidden_size=1 << 40, num_attention_heads=1),
         ("hidden_size", "at most")),
        ("vocabulary of 10^15", with_config(vocab_size=10 ** 15), ("vocab_size", "at most")),
        ("Hugging Face's", kit.file("config.json", '{"model_type": "albert", "vocab_size": 3}'),
         ("Hugging Face", "convert_albert_pytorch_checkpoint_to_tf.py")),
        ("Google's layout", kit.copy("google.json", "config.json"),
         ("Google-layout", "run_classifier_sp_google.py"))):
    row("configurations", name, "run_classifier.py", CONFIGURED, "config.json", *says, make=make)

WORDED = CLASSIFY + " --vocab_file={here}/vocab.txt"
for name, make, says in (
        ("GBK", kit.changed("vocab.txt", lambda data: data.decode("utf-8").encode("gbk")),
         ("line 6", "GB18030", "iconv")),
        ("UTF-16", kit.changed("vocab.txt", lambda data: data.decode("utf-8").encode(
            "utf-16")), ("line 1", "UTF-16")),
        ("an entry comes twice", kit.changed("vocab.txt", lambda data: data + b"[CLS]\n"),
         ("line 61 repeats", "unique")),
        ("no [MASK]", kit.changed("vocab.txt", lambda data: data.replace(
            b"[MASK]", b"[MARK]")), ("lacks the special entry [MASK]", "trained with")),
        ("more entries than the model", kit.changed("vocab.txt", lambda data: data
                                                   + b"more\n"),
         ("61 entries", "vocab_size is 60", "--vocab_file")),
        ("empty", kit.file("vocab.txt", ""), ("is empty",)),
        ("line ends only", kit.file("vocab.txt", "\n" * 60), ("lacks the special entries",)),
        ("a configuration", kit.file("vocab.txt", "{}"),
         ("lacks the special entries", "trained with")),
        ("NUL characters", kit.changed("vocab.txt", lambda data: data.replace(
            b"\n", b"\0\n")), ("lacks the special entries",))):
    row("configurations", "vocabulary, " + name, "run_classifier.py", WORDED, "vocab.txt", *says,
        make=make)

MODELLED = SP_GOOGLE.replace("--vocab_file={kit}/vocab.txt", "--spm_model_file={here}/spm.model")
for name, make, says in (
        ("text", kit.file("spm.model", "today is a fine day\n" * 99), ("spm_train",)),
        ("empty", kit.file("spm.model", ""), ("is empty",)),
        ("binary", kit.file("spm.model", bytes(range(256)) * 9), ("spm_train",)),
        ("one byte", kit.file("spm.model", b"\x0a"), ("spm_train",)),
        ("no pieces", kit.file("spm.model", b"\x12\x00"), ("spm.model",)),
        ("one piece", kit.file("spm.model", b"\x0a\x05\x0a\x03abc"), ("spm.model",)),
        ("a folder", lambda here, folder: os.makedirs(os.path.join(here, "spm.model")),
         ("--spm_model_file", "folder"))):
    row("configurations", "SentencePiece, " + name, "run_classifier_sp_google.py", MODELLED,
        "spm.model", *says, make=make)

# ---------------------------------------------------------------------------------------------
# Checkpoints, folders of models
# ---------------------------------------------------------------------------------------------

DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"
STARTED = CLASSIFY + " --init_checkpoint={here}/model"
for name, changes, says in (
        ("data cut in half", {DATA: kit.cut(0.5)}, ("cut short", "copy or download it again")),
        ("data without the last byte", {DATA: lambda data: data[:-1]}, ("cut short",)),
        ("data empty", {DATA: b""}, ("cut short", "again")),
        ("a byte of data changed", {DATA: kit.flip(2000)},
         ("damaged at", "again")),
        ("data missing", {DATA: None}, ("no checkpoint",)),
        ("index cut in half", {INDEX: kit.cut(0.5)}, ("cannot be read", "again")),
        ("index empty", {INDEX: b""}, ("cannot be read", "again")),
        ("index is text", {INDEX: b"model_checkpoint_path\n" * 99}, ("cannot be read", "again")),
        ("a byte of the index changed", {INDEX: kit.flip(40)}, ("again",)),
        ("index missing", {INDEX: None}, ("no checkpoint",))):
    row("checkpoints", name, "run_classifier.py", STARTED, "model", *says, make=kit.model(changes))
row("checkpoints", "an index that is a folder", "run_classifier.py", STARTED, "model",
    make=lambda here, folder: os.makedirs(os.path.join(here, "model", "model.ckpt.index")))
row("checkpoints", "two in a folder", "run_classifier.py", STARTED, "several checkpoints",
    "name one of",
    make=lambda here, folder: [kit.model({})(here, folder)] + [kit.write(
        os.path.join(here, "model", "other" + one[len("model"):]),
        kit.read(os.path.join(folder, "model", one))) for one in (DATA, INDEX)])
row("checkpoints", "of the other layout", "run_classifier.py",
    CLASSIFY + " --init_checkpoint={kit}/google", "Google layout", "run_classifier_sp_google.py")
row("checkpoints", "of the other layout, Google's script", "run_classifier_sp_google.py",
    SP_GOOGLE + " --init_checkpoint={kit}/model", "albert_zh layout", "run_classifier.py")
row("checkpoints", "of another size", "run_classifier.py",
    CONFIGURED + " --init_checkpoint={kit}/pretrained/model.ckpt", "another size", "[60, 8]",
    make=with_config(embedding_size=6))
row("checkpoints", "of another depth, by the configuration beside it", "run_classifier.py",
    CONFIGURED + " --init_checkpoint={kit}/pretrained", "num_hidden_layers",
    make=with_config(num_hidden_layers=3))
row("checkpoints", "without a classifier, to predict", "run_classifier.py",
    PREDICT + " --init_checkpoint={kit}/pretrained", "no fitting head", "--do_train")
row("checkpoints", "of three classes, to predict two", "run_classifier.py",
    PREDICT + " --init_checkpoint={kit}/three", "three", "3")
row("checkpoints", "a vocabulary given for it", "run_classifier.py",
    CLASSIFY + " --init_checkpoint={kit}/vocab.txt", "--init_checkpoint", "vocab.txt",
    "checkpoint")

COMPARED = "今天 明天 --model_dir={here}/model"
for name, changes, says in (
        ("no configuration", {"albert_config.json": None}, ("configuration",)),
        ("two configurations", {"bert_config.json": b'{"hidden_size": 3}'},
         ("several configurations", "move away")),
        ("two vocabularies", {"spm.model": b"x"}, ("several vocabularies", "move away")),
        ("damaged configuration", {"albert_config.json": kit.cut(0.7)}, ("not valid JSON",)),
        ("classifier.json cut", {"classifier.json": kit.cut(0.7)}, ("classifier.json",)),
        ("classifier.json is a list", {"classifier.json": b"[]"}, ("JSON object",)),
        ("labels are numbers", {"classifier.json": b'{"labels": [0, 1]}'}, ("labels", "put back")),
        ("a label comes twice", {"classifier.json": b'{"labels": ["0", "0"]}'},
         ("labels", "put back")),
        ("a label too many", {"classifier.json": b'{"labels": ["0", "1", "2"]}'},
         ("3 labels", "2 classes")),
        ("labels.txt with an empty line", {"classifier.json": b"{}", "labels.txt": b"0\n\n"},
         ("labels.txt", "put back")),
        ("labels.txt in UTF-16", {"classifier.json": b"{}",
                                  "labels.txt": "0\n1\n".encode("utf-16")},
         ("labels.txt", "UTF-16")),
        ("a negative length", {"classifier.json": b'{"max_seq_length": -3}'},
         ("max_seq_length is -3", "at least 5")),
        ("a length beyond the positions", {"classifier.json": b'{"max_seq_length": 99}'},
         ("length of", "5 to 32")),
        ("a string for true", {"classifier.json": b'{"do_lower_case": "yes"}'},
         ("do_lower_case", "'yes'")),
        ("an unknown truncation", {"classifier.json": b'{"truncate": "middle"}'},
         ("truncate", "head_tail"))):
    row("checkpoints", "model folder, " + name, "similarity.py", COMPARED, "model", *says,
        make=kit.model(changes))
row("checkpoints", "model folder, only pre-trained", "similarity.py",
    "今天 明天 --model_dir={kit}/pretrained --max_seq_len=16", "only pre-trained",
    "run_classifier_lcqmc.sh")
row("checkpoints", "model folder, of three classes", "similarity.py",
    "今天 明天 --model_dir={kit}/three", "3 classes apart, not two", "labels 0")

# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------

RECORDED = PRETRAIN + " --input_file={here}/x.tfrecord"
RUN = ("out/",)  # a run's folder, once training has begun


def damaged(part, byte=1):
    """Returns a `make` of x.tfrecord with a byte of its first record changed.

    part: 0 its length, 1 the checksum of that, 2 the content, 3 its checksum.
    """
    def change(data):
        places = (0,) + kit.first_lengths_of_records(data)
        return kit.flip(places[part] + byte)(data)

    return kit.changed("x.tfrecord", change)


for name, make, says in (
        ("a byte of the length", damaged(0), ("damaged after record 0", "again")),
        ("a high byte of the length", damaged(0, 7), ("damaged after record 0", "again")),
        ("a byte of the length's checksum", damaged(1), ("damaged after record 0", "again")),
        ("a byte of the content", damaged(2, 30), ("damaged after record 0", "again")),
        ("a byte of the content's checksum", damaged(3), ("damaged after record 0", "again")),
        ("cut in the first record", kit.changed("x.tfrecord", lambda data: data[:40]),
         ("damaged after record 0",)),
        ("cut in the first length", kit.changed("x.tfrecord", lambda data: data[:5]),
         ("damaged after record 0",)),
        ("empty", kit.file("x.tfrecord", b""), ("is empty",)),
        ("text", kit.file("x.tfrecord", "今天\n" * 99), ("damaged after record 0", "again")),
        ("no serialised example", kit.records_of(b"\xff\xff\xff\xff"), ("no tf.train.Example",)),
        ("a record of no bytes", kit.records_of(b""), ("lacks the key", "holds: nothing")),
        ("of classification", kit.copy("classes.tfrecord", "x.tfrecord"),
         ("record 1", "lacks the key masked_lm_positions")),
        ("a key missing", kit.record_with(segment_ids=None), ("record 1", "segment_ids")),
        ("an id beyond the vocabulary", kit.record_with(input_ids=[60] * 12),
         ("record 1", "input_ids holds 60", "vocabulary")),
        ("a negative id", kit.record_with(input_ids=[-1] * 12), ("record 1", "input_ids holds -1")),
        ("a third segment", kit.record_with(segment_ids=[2] * 12), ("record 1", "segment_ids")),
        ("lengths that differ", kit.record_with(segment_ids=[0] * 11),
         ("record 1", "segment_ids 11")),
        ("too long", kit.record_with(**{name: [1] * 13 for name in (
            "input_ids", "input_mask", "segment_ids")}), ("record 1", "--max_seq_length=13")),
        ("two sentence orders", kit.record_with(next_sentence_labels=[0, 1]),
         ("record 1", "next_sentence_labels holds 2 numbers")),
        ("a sentence order of 2", kit.record_with(next_sentence_labels=[2]),
         ("record 1", "next_sentence_labels holds 2")),
        ("no token", kit.record_with(input_ids=[], input_mask=[], segment_ids=[]),
         ("record 1", "input_ids holds no number")),
        ("a masked position beyond the tokens", kit.record_with(
            input_ids=[5] * 4, input_mask=[1] * 4, segment_ids=[0] * 4,
            masked_lm_positions=[1, 2, 9]), ("record 1", "masked_lm_positions holds 9", "4 tokens"))
        ):
    row("records", name, "run_pretraining.py", RECORDED, "x.tfrecord", *says, make=make)

for name, make, says in (
        ("the last one cut", kit.changed("x.tfrecord", lambda data: data[:-9]),
         ("damaged after record 5", "again")),
        ("a byte of the last one", kit.changed("x.tfrecord", kit.flip(-20)),
         ("damaged after record 5", "again")),
        ("the fifth holds an id beyond the vocabulary", kit.record_with(4, input_ids=[99] * 12),
         ("record 5", "input_ids holds 99")),
        ("the fifth holds a position beyond its tokens", kit.record_with(
            4, input_ids=[5] * 4, input_mask=[1] * 4, segment_ids=[0] * 4,
            masked_lm_positions=[1, 2, 9]), ("record 5", "masked_lm_positions holds 9")),
        ("the fifth has no segments", kit.record_with(4, segment_ids=None),
         ("record 5", "segment_ids")),
        ("the fifth is empty", kit.record_with(4, input_ids=[], input_mask=[], segment_ids=[]),
         ("record 5", "no number"))):
    row("records", "in training, " + name, "run_pretraining.py", RECORDED + " --num_train_steps=9",
        "x.tfrecord", *says, make=make, leaves=RUN)

ZIPPED = PRETRAIN + " --input_file={here}/x.tfrecord.gz"
for name, make, says in (
        ("not compressed", kit.copy("x.tfrecord", "x.tfrecord.gz"), ("damaged after record 0",)),
        ("cut", kit.changed("x.tfrecord.gz", kit.cut(0.3)), ("damaged after record",))):
    row("records", "compressed, " + name, "run_pretraining.py", ZIPPED, "x.tfrecord.gz", *says,
        make=make)

UNMASKED = PRETRAIN + " --input_file={here}/dynamic/x.tfrecord"


def replaced(old, new):
    return lambda data: data.replace(old, new)


for name, change, says in (
        ("summary missing", None, ("x.json", "put it beside")),
        ("summary of other records", b"{}", ("x.json", "other records")),
        ("summary without its numbers", b'{"masking": {}}', ("x.json", "make the records again")),
        ("summary with a word for a number", replaced(b'"share": 0.15', b'"share": "much"'),
         ("x.json", "share", "make the records again")),
        ("summary with ids beyond the vocabulary", replaced(b"[[5, 59]]", b"[[5, 99]]"),
         ("x.json", "ordinary_ids", "make the records again")),
        ("summary with twins beyond the vocabulary", replaced(b"null", b"[[5, 99]]"),
         ("x.json", "twins", "make the records again")),
        ("more masks than the flag says", replaced(b'"most_predictions": 3',
                                                   b'"most_predictions": 9'),
         ("--max_predictions_per_seq=9",))):
    row("records", "masked while reading, " + name, "run_pretraining.py", UNMASKED, *says,
        make=kit.folder("dynamic", "x.json", change))
row("records", "masked while reading and masked already", "run_pretraining.py",
    PRETRAIN + " --input_file={kit}/x.tfrecord,{kit}/dynamic/x.tfrecord", "x.tfrecord",
    "records of one kind")

# ---------------------------------------------------------------------------------------------
# Rows of tasks
# ---------------------------------------------------------------------------------------------

READ = CLASSIFY.replace("{kit}/afqmc", "{here}/data")


def of_task(name, split="train"):
    flags = {"train": "--do_train", "dev": "--do_train --do_eval",
             "test": "--do_predict --init_checkpoint={kit}/model"}[split]
    return READ.replace("=afqmc", "=" + name).replace("--do_train", flags)


for name, change, says in (
        ("cut in a row", lambda lines: lines[:-1] + [lines[-1][:10]],
         ("line 6", "not valid JSON")),
        ("a list for an object", kit.second_line("[1]"), ("line 2", "JSON object")),
        ("text and not JSON", kit.second_line("今天\t明天\t1"), ("line 2", "not valid JSON")),
        ("a comma behind the row", kit.second_line('{"label": "0"},'), ("line 2", "JSON")),
        ("GBK", kit.second_line(b'{"sentence1": "' + GBK + b'"}'), ("line 2", "GB18030", "iconv")),
        ("UTF-16", TWO_BYTES, ("line 1", "UTF-16")),
        ("a byte of UTF-8 cut off", kit.second_line("今".encode("utf-8")[:2]), ("line 2", "UTF-8")),
        ("half a surrogate pair", kit.row_with(sentence1="\ud83d"),
         ("line 2", "half a character", "repair")),
        ("nested deep", kit.second_line('{"a":' * 50000), ("line 2", "not valid JSON")),
        ("a number of 5,000 digits", kit.second_line('{"label": %s}' % ("9" * 5000)), ("line 2",)),
        ("field missing", kit.row_with(sentence1=None), ("line 2", "sentence1", "it holds")),
        ("another task's rows", kit.second_line('{"sentence": "今天", "label": "1"}'),
         ("line 2", "Is this a file of task afqmc")),
        ("a number for a text", kit.row_with(sentence1=3), ("line 2", "a string")),
        ("null for a text", kit.row_with(sentence1="", sentence2=["a"]), ("line 2", "a string")),
        ("no text at all", kit.row_with(sentence1=" ", sentence2=""), ("line 2", "text is empty")),
        ("unknown label", kit.row_with(label="2"), ("line 2", 'label "2"', "0, 1")),
        ("label of another kind", kit.row_with(label={"a": 1}), ("line 2", "label")),
        ("label that is no number", kit.row_with(label=float("nan")), ("line 2", "NaN")),
        ("label missing", kit.row_with(label=None), ("line 2", '"label" is missing')),
        ("id of another kind", kit.row_with(id=[1]), ("line 2", '"id"', "whole number")),
        ("no rows", b"\n\n", ("no example", "download.py")),
        ("empty", b"", ("no example", "download.py"))):
    row("rows of tasks", name, "run_classifier.py", READ, "train.json", *says,
        make=kit.task("train", change))
row("rows of tasks", "an id comes twice in the test file", "run_classifier.py",
    of_task("afqmc", "test"), "test.json", "line 2", "id 0", "line 1",
    make=kit.task("test", kit.row_with(id=0)))
row("rows of tasks", "a folder where the file should be", "run_classifier.py", READ, "train.json",
    make=lambda here, folder: os.makedirs(os.path.join(here, "data", "train.json")))
row("rows of tasks", "WSC, a span beyond the text", "run_classifier.py", of_task("wsc"),
    "line 2", "span1", "characters",
    make=kit.task("train", kit.row_with(target={
        "span1_index": 999, "span1_text": "他", "span2_index": 0, "span2_text": "她"}), "wsc"))
row("rows of tasks", "CSL, keywords that are no list", "run_classifier.py", of_task("csl"),
    "line 2", "keyword", "a list of strings",
    make=kit.task("train", kit.row_with(keyword="机器"), "csl"))
row("rows of tasks", "TNEWS, label 105", "run_classifier.py", of_task("tnews"), "line 2",
    'label "105"', "104, 106", make=kit.task("train", kit.row_with(label="105"), "tnews"))

for name, change, says in (
        ("a column too few", kit.second_line("今天\t1"), ("line 2 has 2 columns", "text_b")),
        ("a column too many", kit.second_line("今天\t明天\t1\t1"), ("line 2 has 4 columns",)),
        ("blank line between rows", kit.second_line(""), ("line 2 is blank", "remove it")),
        ("unknown label", kit.second_line("今天\t明天\t很像"), ("line 2", "很像", "0, 1")),
        ("spaces for tabs", kit.second_line("今天 明天 1"), ("line 2 has 1 column", "tabs")),
        ("UTF-16", TWO_BYTES, ("line 1", "UTF-16", "iconv")),
        ("old Macintosh line ends", "今天\t明天\t1\r后天\t明天\t0\r".encode("utf-8"),
         ("line 1 has 5 columns",)),
        ("a spreadsheet", b"PK\x03\x04" + bytes(range(256)) * 4, ("line 1",))):
    row("rows of tasks", "tab-separated, " + name, "run_classifier.py", of_task("lcqmc"),
        "train.txt", *says, make=kit.task("train", change, "lcqmc", ".txt"))

OWN = own("sentence --data_dir={here}/data")


def own_file(name, content):
    return kit.file("data/" + name, content)


TABLE = "text\tlabel\n今天好\t好\n明天坏\t坏\n"
for name, make, says in (
        ("no file", lambda here, folder: os.makedirs(os.path.join(here, "data")),
         ("train.tsv, train.csv or train.json",)),
        ("two files", kit.both(own_file("train.tsv", TABLE), own_file("train.csv", TABLE)),
         ("are both there", "keep the one")),
        ("one label only", own_file("train.tsv", "text\tlabel\n今天\t好\n明天\t好\n"),
         ("train.tsv", "label")),
        ("as many labels as rows", own_file("train.tsv", "text\tlabel\n" + "".join(
            "今天%d\t好%d\n" % (number, number) for number in range(300))), ("train.tsv", "label")),
        ("columns that cannot be told", own_file("train.tsv", "a\tb\tc\n今天\t明天\t后天\n"),
         ("train.tsv", "--text_columns")),
        ("two columns of one name", own_file("train.tsv", "text\ttext\tlabel\n今\t天\t好\n"),
         ("train.tsv", "text")),
        ("a row of other width", own_file("train.tsv", TABLE + "后天\n"),
         ("line 4 has 1 column", "line 1 has 2")),
        ("an open quote", own_file("train.csv", 'text,label\n"今天,好\n明天,坏\n'),
         ("train.csv line 2", "double quotes")),
        ("text behind a quote", own_file("train.csv", 'text,label\n"今"天,好\n'),
         ("train.csv line 2", "double quotes")),
        ("a NUL", own_file("train.csv", "text,label\n今\0天,好\n"), ("train.csv line 2", "NUL")),
        ("an array that does not end", own_file("train.json", '[{"text": "今", "label": "1"}'),
         ("train.json", "JSON")),
        ("an array of lists", own_file("train.json", '[["今", "1"]]'),
         ("train.json line 1", "JSON object")),
        ("an array with text behind it", own_file(
            "train.json", '[{"text": "今", "label": "1"}] x'), ("train.json", "end")),
        ("a label of two lines", own_file("train.json", '{"text": "今", "label": "a\\nb"}\n'),
         ("train.json line 1", "label")),
        ("a label with half a character", own_file(
            "train.json", '{"text": "今", "label": "\\ud800"}\n'),
         ("train.json line 1", "half a character"))):
    row("rows of tasks", "own data, " + name, "run_classifier.py", OWN, *says, make=make)
for flag, says in (
        ("--text_columns=title", ("--text_columns=title", "no such column")),
        ("--text_columns=text,label", ("names 2 columns", "sentence_pair")),
        ("--label_column=9", ("--label_column=9", "no such column")),
        ("--text_columns=text --label_column=text", ("another one",)),
        ("--task_name=sentence_pair", ("train.tsv", "--text_columns"))):
    row("rows of tasks", "own data, " + flag, "run_classifier.py",
        own("sentence --data_dir={kit}/own") + " " + flag, *says)

for name, content, says in (
        ("one column", "今天好\n", ("line 1 has 1 column", "tab")),
        ("three columns", "今天\t明天\t1\n", ("line 1 has 3 columns",)),
        ("GBK", GBK + b"\t" + GBK + b"\n", ("line 1", "GB18030")),
        ("a blank line between", "今\t天\n\n明\t天\n", ("line 2 is blank",)),
        ("only blank lines", "\n\n", ("holds no pair",)),
        ("empty", "", ("is empty",))):
    row("rows of tasks", "pairs, " + name, "similarity.py",
        "--model_dir={kit}/model --file={here}/pairs.tsv", "pairs.tsv", *says,
        make=kit.file("pairs.tsv", content))
row("rows of tasks", "sentences from a pipe in GBK", "similarity.py", "--model_dir={kit}/model",
    "not UTF-8", "iconv", lines=GBK + b"\n" + GBK + b"\n")

# ---------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------

WRITTEN = CREATE + " --input_file={here}/text.txt"
for name, content, says in (
        ("GBK", GBK + b"\n", ("line 1", "GB18030", "iconv")),
        ("UTF-16", kit.TEXT.encode("utf-16"), ("line 1", "UTF-16")),
        ("a later line in GBK", kit.TEXT.encode("utf-8") + GBK, ("line 6", "GB18030")),
        ("blank lines only", " \n\t\n\n", ("only blank lines", "one sentence a line")),
        ("empty", b"", ("is empty",)),
        ("documents of one character", "今\n\n天\n\n", ("too short",)),
        ("one line of 33 MB", b"a" * (33 << 20), ("line 1 is longer than", "one sentence a line"))):
    row("text", name, "create_pretraining_data.py", WRITTEN, "text.txt" if "short" not in says[0]
        else "--input_file", *says, make=kit.file("text.txt", content))
PACKED = gzip.compress(kit.TEXT.encode("utf-8") * 50)
for name, file_name, content in (
        ("a damaged .gz", "text.txt.gz", b"\x1f\x8b\x08\x00 not compressed at all"),
        ("no .gz at all", "text.txt.gz", kit.TEXT),
        ("a .gz cut short", "text.txt.gz", kit.cut(0.6)(PACKED)),
        ("a byte of a .gz changed", "text.txt.gz", kit.flip(-3)(PACKED)),
        ("no .zst at all", "text.txt.zst", kit.TEXT)):
    row("text", name, "create_pretraining_data.py", CREATE + " --input_file={here}/" + file_name,
        file_name, "make or copy it again", make=kit.file(file_name, content))

for name, file_name, content, flag, says in (
        ("GBK", "raw.txt", GBK, "", ("line 1", "GB18030")),
        ("JSON array", "raw.json", '[{"text": "今天"}]', "", ("JSON array", "jq")),
        ("JSON rows cut", "raw.jsonl", '{"text": "今天"}\n{"text": "明', "",
         ("line 2", "--skip_bad_lines")),
        ("another field", "raw.jsonl", '{"content": "今天"}\n', "",
         ("line 1", "'text'", "--text_field")),
        ("a number for text", "raw.jsonl", '{"text": 3}\n', "", ("line 1", "'text'")),
        ("a list for a row", "raw.jsonl", "[3]\n", " --input_format=jsonl",
         ("line 1", "JSON object")),
        ("empty", "raw.txt", "", "", ("is empty",)),
        ("an output that is an input", "raw.txt", kit.TEXT, " --output_file={here}/raw.txt",
         ("--output_file",))):
    row("text", "raw, " + name, "prepare_corpus.py",
        PREPARE + " --input_file={here}/" + file_name + flag, file_name, *says,
        make=kit.file(file_name, content))
row("text", "vocabulary from GBK", "build_vocab.py", BUILD + " --input_file={here}/text.txt",
    "text.txt", "GB18030", make=kit.file("text.txt", GBK))
row("text", "vocabulary from blank lines", "build_vocab.py",
    BUILD + " --input_file={here}/text.txt", "text.txt", "blank lines",
    make=kit.file("text.txt", "\n \n"))
row("text", "test vectors from GBK", "tokenizer_vectors.py",
    "--vocab_file={kit}/vocab.txt --file={here}/text.txt", "text.txt", "GB18030",
    make=kit.file("text.txt", GBK))
row("text", "test vectors with three columns", "tokenizer_vectors.py",
    "--vocab_file={kit}/vocab.txt --file={here}/text.txt", "text.txt", "line 2",
    make=kit.file("text.txt", "今天\t明天\n今天\t明天\t后天\n"))

# ---------------------------------------------------------------------------------------------
# Downloads
# ---------------------------------------------------------------------------------------------

ENTRY = {"about": "a model", "archive": "model.zip", "page": "http://127.0.0.1/", "folder": "",
         "required": ["vocab.txt"], "min_bytes": 60, "max_bytes": 100000,
         "max_unpacked_bytes": 1000000}


def listed(kind="zip", archive=None, **changes):
    """Returns a `make` of downloads.json with one archive, and of the file that it is served from.

    kind: of the server's answers; archive: bytes of the zip, None for the kit's.
    """
    def make(here, folder):
        entry = dict(ENTRY, kind="model", mirrors=["http://127.0.0.1:%s/%s/" % (
            os.environ["BAD_SERVER"], kind)], **changes)
        served = "%s.zip" % os.path.basename(here)
        if kind == "zip":
            entry["archive"] = served
            content = archive or kit.read(os.path.join(folder, "model.zip"))
            kit.write(os.path.join(os.environ["BAD_SERVER_FOLDER"], served), content)
        kit.write(os.path.join(here, "downloads.json"), json.dumps(
            {"kinds": {"model": {}}, "archives": {"model": entry}}))

    return make


def zipped(members):
    """Returns the bytes of a zip.

    members: {name: content}, or list of (ZipInfo or name, content).
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return stream.getvalue()


def member(name, mode=0o100644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


WORDS = "[PAD]\n" * 300
BEGUN = ("out/.download/",)
for kind, says in (
        ("html", ("web page",)), ("unmarked", ("web page",)), ("text", ("no zip archive",)),
        ("gzip", ("no zip archive",)), ("status-404", ("HTTP 404",)), ("status-403", ("HTTP 403",)),
        ("status-301", ("HTTP",)), ("loop", ("HTTP 302",)), ("file", ("not allowed",)),
        ("tiny", ("plausible",)), ("huge", ("plausible",)), ("garbage", ("connection failed",)),
        ("headers", ("connection failed",)), ("empty", ("",)),
        ("cut", ("cut off",)), ("lies", ("cut off",)), ("stall", ("--timeout",)),
        ("silent", ("--timeout",)), ("drip", ("slow",)), ("endless", ("plausible",)),
        ("status-500", ("HTTP 500",))):
    row("downloads", "the server: " + kind, "download.py", FETCH, "could not be downloaded",
        "--mirror", *says, make=listed(kind), leaves=BEGUN)
row("downloads", "no server", "download.py", FETCH, "could not be downloaded", "refused",
    make=lambda here, folder: kit.write(os.path.join(here, "downloads.json"), json.dumps(
        {"kinds": {"model": {}}, "archives": {"model": dict(
            ENTRY, kind="model", mirrors=["http://127.0.0.1:9/"])}})), leaves=BEGUN)
for name, archive, says in (
        ("../ in a name", zipped({"../vocab.txt": WORDS}), ("leads out of the folder",)),
        ("an absolute name", zipped({"/tmp/vocab.txt": WORDS}), ("absolute path",)),
        ("a drive's name", zipped({"C:/vocab.txt": WORDS}), ("absolute path",)),
        ("a backslash", zipped({"a\\..\\vocab.txt": WORDS}), ("backslash",)),
        ("a link", zipped([(member("vocab.txt", 0o120777), "/etc/passwd" * 20)]),
         ("link or a device",)),
        ("a device", zipped([(member("vocab.txt", 0o020666), WORDS)]), ("link or a device",)),
        ("a bomb", zipped({"vocab.txt": b"\0" * 2000000}), ("would unpack to",)),
        ("1,010 members", zipped({"%d" % number: "" for number in range(1010)}), ("members",)),
        ("one name twice", zipped([("vocab.txt", WORDS), ("VOCAB.TXT", WORDS)]), ("twice",)),
        ("a file and a folder of one name", zipped([("a/vocab.txt", WORDS), ("a", "x" * 300),
                                                    ("b", "x")]), ("twice",)),
        ("another archive", zipped({"readme.md": WORDS}), ("lacks vocab.txt", "readme.md")),
        ("no members", zipped({}) + b"\0" * 60, ("",)),
        ("cut", kit.cut(0.7)(zipped({"vocab.txt": WORDS * 40})), ("no whole zip",)),
        ("a byte changed", kit.flip(45)(zipped({"vocab.txt": WORDS * 40})), ("damaged",)),
        ("a name of 300 bytes", zipped({"v" * 300: WORDS, "vocab.txt": WORDS}), ("200 bytes",)),
        ("a NUL in a name", zipped({"vocab.txt": WORDS, "aXb": "c"}).replace(b"aXb", b"a\0b"),
         ("control character",))):
    row("downloads", "archive: " + name, "download.py", FETCH, "could not be downloaded", *says,
        make=listed(archive=archive), leaves=BEGUN)
row("downloads", "an archive that is there and damaged", "download.py", FETCH, "model.zip",
    "remove it", make=lambda here, folder: [
        listed("html")(here, folder),
        kit.write(os.path.join(here, "out", "model.zip"), b"PK\x03\x04" * 50)], leaves=BEGUN)
row("downloads", "a checksum that differs", "download.py", FETCH, "SHA-256",
    make=listed(sha256="0" * 64), leaves=BEGUN)
row("downloads", "a size that differs", "download.py", FETCH, "bytes where the archive has 77",
    make=listed(bytes=77), leaves=BEGUN)
for name, arguments, says in (
        ("unknown name", FETCH.replace("=model", "=modle"), ('Did you mean "model"', "Known")),
        ("no name", FETCH.replace("--name=model ", ""), ("--name is missing", "Known")),
        ("no folder", FETCH.replace("{here}/out", ""), ("--output_dir is missing",)),
        ("a file for the folder", FETCH.replace("{here}/out", "{here}/downloads.json"),
         ("--output_dir", "cannot be written to")),
        ("a remote folder", FETCH.replace("{here}/out", "gs://bucket/x"), ("not a local folder",)),
        ("a mirror that is no address", FETCH + " --mirror=ftp://x/", ("--mirror", "http://")),
        ("--timeout=0", FETCH + " --timeout=0", ("--timeout=0", "above 0")),
        ("--timeout=inf", FETCH + " --timeout=inf", ("--timeout=inf", "at most"))):
    row("downloads", name, "download.py", arguments, *says, make=listed())
for name, content, says in (
        ("a list", "[]", ("JSON object",)),
        ("no archives", '{"kinds": {}, "archives": {}}', ("archives",)),
        ("an unknown kind", '{"kinds": {}, "archives": {"model": {"kind": "x"}}}', ("kind",)),
        ("an unknown field", json.dumps({"kinds": {"model": {}}, "archives": {
            "model": dict(ENTRY, kind="model", mirrors=["http://a/"], sha265="x")}}),
         ("sha265", "sha256")),
        ("a path for a name", json.dumps({"kinds": {"model": {}}, "archives": {
            "model": dict(ENTRY, kind="model", mirrors=["http://a/"], archive="../x")}}),
         ("archive must be a file name",)),
        ("cut", '{"kinds": ', ("not valid JSON",))):
    row("downloads", "list: " + name, "download.py", FETCH, "downloads.json", *says,
        make=kit.file("downloads.json", content))

# ---------------------------------------------------------------------------------------------
# Submissions
# ---------------------------------------------------------------------------------------------

PACK = SUBMIT.replace("{kit}/afqmc_predict.json", "{here}/afqmc_predict.json")


def predicted(change):
    """Returns a `make` of afqmc_predict.json; change: function of its lines, as in kit.task."""
    def make(here, folder):
        lines = kit.read(os.path.join(folder, "afqmc_predict.json")).rstrip(b"\n").split(b"\n")
        found = change(lines)
        kit.write(os.path.join(here, "afqmc_predict.json"),
                  found if isinstance(found, bytes) else b"\n".join(found) + b"\n")

    return make


for name, change, says in (
        ("a line too few", lambda lines: lines[:-1], ("holds 5 predictions", "6 rows")),
        ("a line too many", lambda lines: lines + lines[-1:], ("holds 7 predictions", "6 rows")),
        ("another order", lambda lines: lines[::-1], ("line 1", "id")),
        ("an id comes twice", lambda lines: lines[:1] + lines[:1] + lines[2:], ("line 2", "id 0")),
        ("an id as a string", kit.second_line('{"id": "1", "label": "0"}'), ("line 2", 'id "1"')),
        ("unknown label", kit.second_line('{"id": 1, "label": "7"}'), ("line 2", 'label "7"')),
        ("label as a number", kit.second_line('{"id": 1, "label": 0}'), ("line 2", "label 0")),
        ("a key too many", kit.second_line('{"id": 1, "label": "0", "p": 0.9}'),
         ("line 2", "the keys")),
        ("a key comes twice", kit.second_line('{"id": 1, "label": "1", "label": "0"}'),
         ("line 2", "twice")),
        ("label_desc where none belongs", kit.second_line(
            '{"id": 1, "label": "0", "label_desc": "x"}'), ("line 2", "the keys")),
        ("no JSON", kit.second_line("1\t0"), ("line 2", "not valid JSON")),
        ("a blank line between", lambda lines: lines[:1] + [b""] + lines[1:], ("line 3", "blank")),
        ("a blank line at the end", lambda lines: lines + [b""], ("blank lines",)),
        ("a byte order mark", lambda lines: [b"\xef\xbb\xbf" + lines[0]] + lines[1:],
         ("byte order mark",)),
        ("Windows line ends", lambda lines: b"\r\n".join(lines) + b"\r\n", ("carriage return",)),
        ("UTF-16", lambda lines: b"\n".join(lines).decode("ascii").encode("utf-16"), ("UTF-16",)),
        ("empty", lambda lines: b"", ("is empty",)),
        ("one JSON array", lambda lines: b"[" + b",".join(lines) + b"]\n", ("line 1", "list"))):
    row("submissions", name, "submission.py", PACK, "afqmc_predict.json", *says,
        make=predicted(change))
for name, arguments, says in (
        ("another name", SUBMIT.replace("afqmc_predict", "pairs").replace(".json", ".tsv"),
         ("pairs.tsv", "not the name")),
        ("no predictions", SUBMIT + " --predictions=", ("--predictions is missing", "glob")),
        ("a glob of nothing", SUBMIT + " --predictions={here}/*.json", ("--predictions",)),
        ("no test file", SUBMIT.replace("--data_dir={kit}", "--data_dir={here}"),
         ("test.json", "download.py")),
        ("no data", SUBMIT.replace("--data_dir={kit}", ""), ("--data_dir is missing",)),
        ("a folder for the zip", SUBMIT + " --output_file={kit}", ("is a folder", "zip file"))):
    row("submissions", name, "submission.py", arguments, *says)

# ---------------------------------------------------------------------------------------------
# Exports, converters, the service, benchmarks
# ---------------------------------------------------------------------------------------------

for name, arguments, says in (
        ("nothing to do", EXPORT.replace("--strip ", ""), ("nothing to do", "--strip")),
        ("an unknown format", EXPORT.replace("--strip", "--format=onx"), ("onx", 'mean "onnx"')),
        ("two exports", EXPORT + " --format=frozen", ("--strip", "one of them")),
        ("no folder", EXPORT + " --export_dir=", ("--export_dir is missing", "folder")),
        ("the model's own folder", EXPORT + " --export_dir={kit}/model", ("--export_dir",)),
        ("a file", EXPORT + " --export_dir={kit}/config.json", ("--export_dir", "is a file")),
        ("no checkpoint", EXPORT + " --init_checkpoint={kit}/afqmc", ("no checkpoint",)),
        ("a configuration of another layout", EXPORT + " --config_file={kit}/google.json",
         ("model",)),
        ("a vocabulary that is none", EXPORT + " --vocab_file={kit}/config.json",
         ("config.json", "special entries")),
        ("a length for a frozen graph", EXPORT.replace("--strip", "--format=frozen --length=9"),
         ("--length=9", "tflite")),
        ("a layer that is not there", EXPORT.replace(
            "--strip", "--format=frozen --head=embedding --layer=5"), ("--layer=5", "0 to 1")),
        ("a head that is not there", EXPORT.replace(
            "--strip --init_checkpoint={kit}/model",
            "--format=frozen --head=classifier --init_checkpoint={kit}/pretrained"),
         ("--head=classifier", "fine-tune")),
        ("no texts to compare with", EXPORT.replace(
            "--strip", "--format=frozen --verify_file={here}/none"), ("--verify_file", "none"))):
    row("exports and services", "export, " + name, "export_model.py", arguments, *says)

for name, arguments, says in (
        ("no output", "--model_dir={kit}/model", ("--output_dir", "--pytorch_dump_path")),
        ("two models", TO_TORCH + " --tf_checkpoint_path={kit}/model", ("--model_dir or",)),
        ("a folder with files", TO_TORCH + " --output_dir={kit}/own",
         ("holds files", "new folder")),
        ("no model", TO_TORCH + " --model_dir={kit}/afqmc", ("afqmc",)),
        ("an output that is a file", TO_TORCH + " --output_dir={kit}/config.json", ("is a file",))):
    row("exports and services", "to PyTorch, " + name,
        "convert_albert_tf_checkpoint_to_pytorch.py", arguments, *says)

HF = {"model_type": "albert", "vocab_size": 60, "embedding_size": 8, "hidden_size": 16,
      "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
      "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu_new",
      "num_hidden_groups": 1, "inner_group_num": 1}


def hugging_face(settings=HF, **files_):
    """Returns a `make` of a folder hf; files_: name with _ for . to content."""
    def make(here, folder):
        kit.write(os.path.join(here, "hf", "vocab.txt"),
                  kit.read(os.path.join(folder, "vocab.txt")))
        if settings is not None:
            kit.write(os.path.join(here, "hf", "config.json"),
                      settings if isinstance(settings, bytes) else json.dumps(settings))
        for name, content in files_.items():
            kit.write(os.path.join(here, "hf", name.replace("_", ".")), content)

    return make


ODD_PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."
for name, make, says in (
        ("no config.json", hugging_face(None), ("config.json", "Hugging Face")),
        ("config.json cut", hugging_face(b'{"model_type": "al'), ("config.json", "JSON")),
        ("config.json is a list", hugging_face(b"[]"), ("config.json",)),
        ("another kind of model", hugging_face(dict(HF, model_type="gpt2")), ("gpt2",)),
        ("another activation", hugging_face(dict(HF, hidden_act="relu6")), ("relu6",)),
        ("a string for a size", hugging_face(dict(HF, hidden_size="16")), ("hidden_size",)),
        ("no weights", hugging_face(), ("holds no weights", "model.safetensors")),
        ("weights cut", hugging_face(model_safetensors=b"\x10\0\0\0\0\0\0\0{}"),
         ("model.safetensors", "again")),
        ("weights are a web page", hugging_face(model_safetensors=b"<html>" * 99),
         ("model.safetensors", "again")),
        ("no weight in it", hugging_face(model_safetensors=b"\x02\0\0\0\0\0\0\0{}"), ("hf",)),
        ("an index that leads out", hugging_face(model_safetensors_index_json=json.dumps(
            {"weight_map": {"a": "../../etc/passwd"}})), ("index.json", "weight_map")),
        ("an index of numbers", hugging_face(model_safetensors_index_json=json.dumps(
            {"weight_map": {"a": 3}})), ("index.json", "weight_map")),
        ("a part that is missing", hugging_face(model_safetensors_index_json=json.dumps(
            {"weight_map": {"a": "b"}})), ("names the part b", "missing"))):
    row("exports and services", "from PyTorch, " + name,
        "convert_albert_pytorch_checkpoint_to_tf.py", FROM_TORCH, *says, make=make)
row("exports and services", "from PyTorch, a pickle that runs a command",
    "convert_albert_pytorch_checkpoint_to_tf.py", FROM_TORCH, "pytorch_model.bin", runtime=2,
    make=lambda here, folder: [hugging_face()(here, folder), kit.write(
        os.path.join(here, "hf", "pytorch_model.bin"), ODD_PICKLE)])

for flag, says in (
        ("--port=99999", ("--port=99999", "0 to 65535")),
        ("--host=256.1.1.1", ("--host=256.1.1.1", "address")),
        ("--max_batch=0", ("--max_batch=0", "1 to")),
        ("--timeout=nan", ("--timeout=nan", "0.1 to")),
        ("--max_queue=1", ("--max_queue=1", "at least")),
        ("--model_name=a/b", ("--model_name=a/b", "letters")),
        ("--model_dir={kit}/afqmc", ("afqmc", "configuration")),
        ("--model_dir={here}/none", ("none", "is no folder")),
        ("--token_file={here}/none", ("--token_file", "does not exist")),
        ("--token_file={kit}/pairs.tsv", ("--token_file", "ASCII"))):
    row("exports and services", "service, " + flag, "serve.py", SERVE + " " + flag, *says,
        runtime=2)
row("exports and services", "service, a short token", "serve.py", SERVE, "ALBERT_ZH_TOKEN",
    "openssl", runtime=2, variables={"ALBERT_ZH_TOKEN": "abc"})

for script, flag, says in (
        ("create_data.py", "--megabytes=-1", ("--megabytes=-1", "above 0")),
        ("memory.py", "--batches=2", ("--batches", "two different numbers")),
        ("memory.py", "--lengths=a", ("--lengths=a", "whole numbers")),
        ("pretrain.py", "--short_share=3", ("--short_share=3", "0 to 1")),
        ("finetune.py", "--steps=0", ("--steps=0", "at least 1")),
        ("similarity.py", "--calls=0", ("--calls=0", "at least 1")),
        ("inference.py", "--lengths=0", ("--lengths=0", "numbers from")),
        ("tflite.py", "--model_dir={here}/none", ("--model_dir", "is no folder"))):
    row("exports and services", "benchmark %s, %s" % (script, flag), "benchmarks/" + script,
        flag + " --output_dir={here}/out" if script in ("memory.py", "pretrain.py", "finetune.py",
                                                        "inference.py") else flag, *says)

for name, content, says in (
        ("cut", b'{"best": ', ("not valid JSON",)),
        ("a list", b"[]", ("damaged", "evaluate again")),
        ("text for a number", b'{"task": "x", "best": {"eval_accuracy": "y", "step": 1}}',
         ("damaged", "evaluate again"))):
    row("exports and services", "results, " + name, "results_table.py", "--runs={here}",
        "eval_results.json", *says, make=kit.file("eval_results.json", content))

# ---------------------------------------------------------------------------------------------
# Reading comprehension, named entities
# ---------------------------------------------------------------------------------------------

TRAINED = ("--bert_config_file={kit}/config.json --vocab_file={kit}/vocab.txt --max_seq_length=24 "
           "--do_train --max_train_steps=1 --data_dir={here}/data" + OUT)
READING = "--task_name=cmrc2018 --max_query_length=8 --doc_stride=4 " + TRAINED
TAGGING = "--task_name=ner " + TRAINED
QUESTION = {"id": "1", "question": "天气好吗", "answers": [{"text": "很好", "answer_start": 4}]}


def questions(**changes):
    """Returns the content of a SQuAD file whose one question has other fields (None: lacks one)."""
    entry = dict(QUESTION, **changes)
    entry = {name: value for name, value in entry.items() if value is not None}
    return json.dumps({"data": [{"paragraphs": [{"context": "今天天气很好。", "qas": [entry]}]}]})


for name, content, says in (
        ("cut", questions()[:70], ("not valid JSON",)),
        ("rows in place of articles", '{"data": {}}', ('a list "data"',)),
        ("a list", "[]", ('a list "data"',)),
        ("no question", '{"data": []}', ("holds no question", "--train_file")),
        ("an article that is a text", '{"data": ["a"]}', ("data[0]", 'list "paragraphs"')),
        ("a paragraph without text", '{"data": [{"paragraphs": [{"qas": []}]}]}',
         ("paragraphs[0]", '"context"')),
        ("a question without id", questions(id=None), ("qas[0]", '"id"')),
        ("a question that is a number", questions(question=3), ("qas[0]", '"question"')),
        ("no answers", questions(answers=None), ("qas[0]", 'list "answers"')),
        ("an answer that is a text", questions(answers=["很好"]), ("answers[0]", '"text"')),
        ("an empty answer", questions(answers=[{"text": " ", "answer_start": 0}]),
         ("answers[0]", "empty")),
        ("a start that is a text", questions(answers=[{"text": "很好", "answer_start": "4"}]),
         ("answers[0]", "whole number")),
        ("half a surrogate pair", questions(question="天\ud800气"), ("qas[0]", "half a character")),
        ("GBK", questions().encode("utf-8").replace(b'"1"', b'"' + GBK + b'"'), ("GB18030",))):
    row("questions and entities", "reading, " + name, "run_mrc.py", READING, "train.json", *says,
        make=kit.file("data/train.json", content))
for flag, says in (
        ("--task_name=cmrc", ("--task_name=cmrc", "cmrc2018")),
        ("--doc_stride=0", ("--doc_stride=0", "")),
        ("--n_best_size=0", ("--n_best_size=0", "")),
        ("--max_answer_length=0", ("--max_answer_length=0", "")),
        ("--max_query_length=30", ("--max_query_length=30", "")),
        ("--null_score_threshold=nan", ("--null_score_threshold=nan", "")),
        ("--train_file={here}/none", ("--train_file", "does not exist"))):
    row("questions and entities", "reading, " + flag, "run_mrc.py", READING + " " + flag, *says,
        make=kit.file("data/train.json", questions()))

TAGS = "今 B-TIME\n天 I-TIME\n好 O\n\n去 O\n"
for name, file_name, content, says in (
        ("a row without a tag", "train.txt", "今 B-TIME\n天\n", ("line 2", "no tag")),
        ("a tag that is none", "train.txt", "今 X-TIME\n", ("line 1", "X-TIME", "B-PER")),
        ("a tag without a type", "train.txt", "今 B-\n", ("line 1", "B-")),
        ("blank lines only", "train.txt", "\n\n", ("holds no sentence", "--train_file")),
        ("UTF-16", "train.txt", TAGS.encode("utf-16"), ("line 1", "UTF-16")),
        ("a span beyond the text", "train.json",
         '{"text": "今天", "label": {"time": {"今天": [[0, 5]]}}}\n', ("line 1", "0 to 5")),
        ("a span of something else", "train.json",
         '{"text": "今天", "label": {"time": {"明天": [[0, 1]]}}}\n', ("line 1", "does not stand")),
        ("spans that are numbers", "train.json",
         '{"text": "今天", "label": {"time": {"今天": 3}}}\n', ("line 1", "[[first, last], ...]")),
        ("a label that is a text", "train.json", '{"text": "今天", "label": "time"}\n',
         ("line 1", '"label"')),
        ("no text", "train.json", '{"text": "", "label": {}}\n', ("line 1", '"text"')),
        ("half a surrogate pair", "train.json",
         '{"text": "今\\ud800天", "label": {"time": {"今": [[0, 0]]}}}\n',
         ("line 1", "half a character"))):
    row("questions and entities", "entities, " + name, "run_ner.py", TAGGING, file_name, *says,
        make=kit.file("data/" + file_name, content))
for name, content, says in (
        ("a list", "[]", ("an object {id: text}",)),
        ("a number for an answer", '{"1": 3}', ("no text",)),
        ("another file's answers", '{"2": "很好"}', ("answers 2", "belong together")),
        ("empty", "", ("is empty",))):
    row("questions and entities", "scores, " + name, "mrc_metrics.py",
        "--data_file={here}/data/train.json --predictions={here}/p.json", "p.json", *says,
        make=kit.both(kit.file("data/train.json", questions()), kit.file("p.json", content)))

# ---------------------------------------------------------------------------------------------
# Multiple choice, several tasks
# ---------------------------------------------------------------------------------------------

CHOOSING = "--task_name=c3 " + TRAINED
FILLING = "--task_name=chid " + TRAINED
OPTIONS = {"question": "天气好吗", "choice": ["很好", "下雨"], "answer": "很好"}
BLANKS = {"content": ["今天#idiom000001#。"], "candidates": ["很好很好", "下雨下雨"]}


def c3(content):
    """Returns a `make` of C3's two training files, the first with this content."""
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    return kit.both(kit.file("data/m-train.json", text), kit.file("data/d-train.json", "[]"))


def chid(rows, answers):
    """Returns a `make` of ChID's passages and answers."""
    return kit.both(
        kit.file("data/train.json", rows if isinstance(rows, (bytes, str)) else json.dumps(rows)),
        kit.file("data/train_answer.json", json.dumps(answers)))


for name, content, says in (
        ("an object", {"data": []}, ("C3's format", "a list of texts")),
        ("cut", '[[["今天"], [', ("not valid JSON",)),
        ("GBK", GBK, ("not UTF-8", "convert")),
        ("nothing", [], ("holds no question", "m-train.json")),
        ("no questions", [[["今天"]]], ("[0]", "its questions")),
        ("numbers", [[[1], [OPTIONS]]], ("[0]", "must be a text")),
        ("an empty text", [[[""], [OPTIONS]]], ("[0]", "the text is empty")),
        ("one option", [[["今天"], [dict(OPTIONS, choice=["很好"])]]], ("[0][1][0]", "2 to 4")),
        ("five options", [[["今天"], [dict(OPTIONS, choice=list("今天气很好"))]]], ("2 to 4",)),
        ("no answer", [[["今天"], [dict(OPTIONS, answer="")]]], ('"answer" is missing',)),
        ("another answer", [[["今天"], [dict(OPTIONS, answer="好")]]], ("none of the options",)),
        ("half a character", '[[["\\ud83d"], [], 1]]', ("half a character", "repair"))):
    row("questions and entities", "c3, " + name, "run_classifier.py", CHOOSING, "m-train.json",
        *says, make=c3(content))
row("questions and entities", "c3, one file of two", "run_classifier.py", CHOOSING,
    "d-train.json does not exist", "belongs to", make=kit.file("data/m-train.json", "[]"))
for name, rows_of_file, answers, says in (
        ("a list", [BLANKS], {}, ("train.json", "JSON object")),
        ("no candidates", dict(BLANKS, candidates=None), {}, ("line 1", '"candidates"')),
        ("eleven candidates", dict(BLANKS, candidates=["好"] * 11), {}, ("line 1", "2 to 10")),
        ("an empty passage", dict(BLANKS, content=[""]), {}, ("line 1", "is empty")),
        ("no answer", BLANKS, {}, ("line 1", "no answer to the blank #idiom000001#")),
        ("a third candidate", BLANKS, {"#idiom000001#": 2}, ("from 0 to 1", "it is 2")),
        ("answers in a list", BLANKS, [0], ("train_answer.json", "an object")),
        ("a blank twice", dict(BLANKS, content="#idiom1#好#idiom1#"), {"#idiom1#": 0},
         ("line 1", "stands in line 1 already")),
        ("no blank", dict(BLANKS, content="今天"), {}, ("holds no question",))):
    row("questions and entities", "chid, " + name, "run_classifier.py", FILLING, *says,
        make=chid(rows_of_file, answers))
row("questions and entities", "chid, no answers", "run_classifier.py", FILLING,
    "train_answer.json does not exist", make=kit.file("data/train.json", json.dumps(BLANKS)))
for flag, says in (("--class_weights=balanced", ("--class_weights=balanced", "no meaning")),
                   ("--max_seq_length=15", ("--max_seq_length=15", "at least 16"))):
    row("questions and entities", "c3, " + flag, "run_classifier.py", CHOOSING + " " + flag, *says,
        make=c3([[["今天"], [OPTIONS]]]))

CLUE = "--data_dir={kit} --work_dir={here}/out "
for flag, says in (
        ("--tasks=tnew", ("TASKS: tnew", 'Did you mean "tnews"')),
        ("--tasks=lcqmc", ("TASKS: lcqmc", "run_classifier.py")),
        ("--tasks=afqmc --sweep=rate", ("SWEEP", "name=value")),
        ("--tasks=afqmc --sweep=seed=a", ("SWEEP", "whole number")),
        ("--tasks=afqmc --sweep=task_name=c3", ("SWEEP", "task_name")),
        ("--tasks=afqmc --work_dir=", ("--work_dir is missing", "folder")),
        ("--tasks=afqmc --classifier=run_none.py", ("--classifier", "run_none.py"))):
    row("flags", "several tasks, " + flag, "clue_runs.py", CLUE + flag, *says)
