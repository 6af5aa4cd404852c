"""Flags of the scripts whose task is not a classifier's: a model of either layout, named files."""

import files
import finetuning
import layouts
import tokenization
from absl import flags
from errors import UserError


def define_flags():
    """Defines the flags that `read_model` and `named_files` read."""
    flags.DEFINE_string("bert_config_file", None, "JSON file with the model's sizes, of either "
                        "layout.")
    flags.DEFINE_string("spm_model_file", None, "SentencePiece model, in place of --vocab_file.")
    flags.DEFINE_string("train_file", None, "File of the train split, where --data_dir holds none "
                        "of a known name.")
    flags.DEFINE_string("dev_file", None, "The same for dev.")
    flags.DEFINE_string("test_file", None, "The same for test.")


def read_model(values):
    """Reads the configuration and the vocabulary that the flags name; returns finetuning.Model."""
    layout, config = layouts.read_config(values["bert_config_file"])
    if values["spm_model_file"] and values["vocab_file"]:
        raise UserError("give --spm_model_file or --vocab_file, not both")
    name = "spm_model_file" if values["spm_model_file"] else "vocab_file"
    files.require_file(values[name], name)
    tokenizer = tokenization.FullTokenizer(values["vocab_file"], values["do_lower_case"],
                                           values["spm_model_file"])
    return finetuning.Model(config, layout.model_class, tokenizer)


def named_files(values):
    """Returns {split: path} of the files that the flags name."""
    named = {split: values[split + "_file"] for split in ("train", "dev", "test")}
    return {split: path for split, path in named.items() if path}


def folder_of(task, values, splits):
    """Returns the folder with a task's files, "" where the flags name a file for every split."""
    if set(splits) <= set(named_files(values)):
        return ""
    return task.folder(values["data_dir"])
