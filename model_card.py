"""What lies beside exported files: vocabulary, labels, configuration, a record and a model card.

`export.json` records for programs what README.md tells people. It also tells which files of a
folder are exports that may be replaced.
"""

import collections
import os

import exported_graph
import files
import tokenization
from errors import UserError

RECORD, CARD, VECTORS = "export.json", "README.md", "vectors.json"
CONFIG = "albert_config.json"

# How files of each format are loaded, in both languages of the card.
USES = collections.OrderedDict([
    ("savedmodel", (
        "`tensorflow_model_server --rest_api_port=8501 --model_name=albert "
        "--model_base_path=$PWD/savedmodel`", "TensorFlow Serving, `tf.saved_model.load`")),
    ("frozen", ("`tf.import_graph_def`", "`tf.import_graph_def`")),
    ("tflite", ("TensorFlow Lite / LiteRT", "TensorFlow Lite / LiteRT")),
    ("onnx", ("`onnxruntime.InferenceSession`", "`onnxruntime.InferenceSession`")),
    ("checkpoint", ("`--init_checkpoint`", "`--init_checkpoint`"))])

OUTPUTS = {
    "classifier": ("每个类别的概率，按下面标签的顺序",
                   "the probabilities of the classes, in the order below"),
    "pooled": ("首个 token 经全连接层与 tanh 后的向量",
               "the first token's vector after a dense layer and tanh"),
    "embedding": ("句向量", "a vector of the text"),
    "masked_words": ("每个位置上全部词的概率",
                     "the probabilities of all words at each position")}


# ---------------------------------------------------------------------------------------------
# The record
# ---------------------------------------------------------------------------------------------

def record_of(model, head, max_seq_length):
    """Returns what is recorded of an export, without its files."""
    record = collections.OrderedDict([
        ("checkpoint", os.path.basename(model.checkpoint)),
        ("fingerprint", files.fingerprint(model.checkpoint + ".index")),
        ("layout", model.layout.name), ("head", head.name),
        ("inputs", list(exported_graph.INPUTS)),
        ("output", exported_graph.OUTPUTS[head.name]), ("max_seq_length", max_seq_length),
        ("do_lower_case", model.tokenizer.do_lower_case), ("truncate", model.truncate)])
    if head.name == "masked_words":
        record["inputs"].append(exported_graph.POSITIONS)
    if head.name == "embedding":
        record.update(layer=head.layer, pooling=head.pooling)
    if head.name == "classifier":
        record["labels"] = model.labels
    return record


def earlier_files(folder, record, names):
    """Returns {name: what is known} of the files of an earlier export of the same to a folder.

    Args:
        record: of `record_of`; names: of the files that are to be written.

    Raises:
        UserError: the folder holds something else under one of the names, or another export.
    """
    path = os.path.join(folder, RECORD)
    if not files.exists(path):
        for name in list(names) + [CARD, VECTORS]:
            if files.exists(os.path.join(folder, name)):
                raise UserError("--export_dir=%s holds another %s: name a new folder"
                                % (folder, name))
        return collections.OrderedDict()
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise UserError("%s is damaged: name a new folder as --export_dir" % path)
    unfinished = found.get("unfinished")
    ours = set(found["files"]) | set(unfinished or ())
    different = [name for name in record if found.get(name) != record[name]]
    if different:
        raise UserError("--export_dir=%s holds another export (%s differs): name a new folder"
                        % (folder, ", ".join(different)))
    for name in names:
        if name not in ours and files.exists(os.path.join(folder, name)):
            raise UserError("--export_dir=%s holds another %s: name a new folder" % (folder, name))
    card = os.path.join(folder, CARD)
    if unfinished is None and files.exists(card) and (
            files.fingerprint(card) != found.get("card")):
        raise UserError("%s was changed since it was written: move it away or name a new folder as "
                        "--export_dir" % card)
    return collections.OrderedDict(found["files"])


# ---------------------------------------------------------------------------------------------
# What is written
# ---------------------------------------------------------------------------------------------

def write_parts(folder, config, vocab_file, extra_files):
    """Writes configuration, vocabulary and a classifier's files, as a release has them."""
    files.write_text(os.path.join(folder, CONFIG), config.to_json_string())
    vocabulary = tokenization.KEPT_AS[tokenization.is_spm_file(vocab_file)]
    files.copy(vocab_file, os.path.join(folder, vocabulary))
    for name, content in extra_files.items():
        with files.atomic_write(os.path.join(folder, name)) as stream:
            stream.write(content)


def claim(folder, record, known_files, names):
    """Puts on record what is about to be written, for the same command to finish it in any case.

    Args:
        known_files: as for `write`; names: of the files that will be written.
    """
    files.write_json(os.path.join(folder, RECORD), collections.OrderedDict(
        record, files=known_files, unfinished=list(names)))


def write(folder, record, known_files, model, unfinished=()):
    """Writes the model card and then the record.

    Args:
        known_files: {name: {"format", "bytes", ...}} of all exported files in the folder.
        unfinished: names of the files that will be written yet.
    """
    card = os.path.join(folder, CARD)
    files.write_text(card, "\n".join(_chinese(record, known_files, model) + [""]
                                     + _english(record, known_files, model)) + "\n")
    whole = collections.OrderedDict(record, files=known_files, card=files.fingerprint(card))
    if unfinished:
        whole["unfinished"] = list(unfinished)
    files.write_json(os.path.join(folder, RECORD), whole)


def _chinese(record, known_files, model):
    lines = [
        "# ALBERT 导出模型", "",
        "由 albert_zh 的 `export_model.py` 从 `%s` 导出（%s）。" % (
            record["checkpoint"], _sizes(model)), "",
        "| 文件 | 格式 | 大小 | 与 TensorFlow 图的最大差异 | 判断一致 | 加载方式 |",
        "|---|---|---:|---:|---:|---|"]
    lines += _file_rows(known_files, 0)
    lines += [
        "", "- 输入：%s，int32，形状 `[批大小, 长度]`；长度最多 %d 个 token。" % (
            _names(record["inputs"][:3]), record["max_seq_length"])]
    if record["head"] == "masked_words":
        lines.append("- 输入 `positions`：int32，`[批大小, 个数]`，要预测的位置（那里放 [MASK]）。")
    lines += [
        "- 输出：`%s`，float32，`%s`：%s。" % (
            record["output"], exported_graph.SHAPES[record["head"]], _output(record, 0)),
        "- 文本变成 id：`[CLS] 文本 [SEP]`，句对再接 `文本二 [SEP]`；`segment_ids` 第一句为 0、"
        "第二句为 1；补齐处三者皆为 0，`input_mask` 其余为 1。分词步骤与可移植实现见项目的 "
        "MOBILE.md；`vectors.json` 是测试向量。"]
    if record["truncate"] != "head":
        lines.append("- 过长的文本：%s（`truncate`: `%s`）。" % (
            {"tail": "去掉开头", "head_tail": "留开头四分之一，其余取自末尾"}[record["truncate"]],
            record["truncate"]))
    if "labels" in record:
        lines.append("- 标签：" + "、".join(map(_code, record["labels"])))
    lines += ["- " + line for line in _strings(record, known_files, model, 0)]
    return lines + [
        "", "如何验证：写出后由各格式自己的运行库重新加载，在真实句子上与检查点的计算图逐一比较，"
        "批大小与长度各不相同；超出上限的文件不会写出。"
        "8 位的向量比较 1 − 余弦，其它比较数值（向量相对于最大值）。"]


def _english(record, known_files, model):
    lines = [
        "# An exported ALBERT", "",
        "Exported by albert_zh's `export_model.py` from `%s` (%s)." % (
            record["checkpoint"], _sizes(model)), "",
        "| file | format | size | largest difference to the TensorFlow graph | equal decisions | "
        "loaded by |", "|---|---|---:|---:|---:|---|"]
    lines += _file_rows(known_files, 1)
    lines += [
        "", "- Inputs: %s, int32, `[batch, length]`; %d tokens at most." % (
            _names(record["inputs"][:3]), record["max_seq_length"])]
    if record["head"] == "masked_words":
        lines.append("- Input `positions`: int32, `[batch, number]`, where words are wanted (and "
                     "[MASK] stands).")
    lines += [
        "- Output: `%s`, float32, `%s`: %s." % (
            record["output"], exported_graph.SHAPES[record["head"]], _output(record, 1)),
        "- Text to ids: `[CLS] text [SEP]`, for a pair followed by `second text [SEP]`; "
        "`segment_ids` is 0 in the first and 1 in the second; all three are 0 for padding, "
        "`input_mask` is 1 elsewhere. The tokenizer's steps and a portable implementation: the "
        "project's MOBILE.md; `vectors.json` holds test vectors."]
    if record["truncate"] != "head":
        lines.append("- Texts that are too long: %s (`truncate`: `%s`)." % (
            {"tail": "their start is cut off",
             "head_tail": "a quarter is kept from their start, the rest from their end"}[
                 record["truncate"]], record["truncate"]))
    if "labels" in record:
        lines.append("- Labels: " + ", ".join(map(_code, record["labels"])))
    lines += ["- " + line for line in _strings(record, known_files, model, 1)]
    return lines + [
        "", "How it was verified: after writing, each file was loaded by its own runtime and "
        "compared with the checkpoint's graph on real sentences, in batches of several sizes and "
        "lengths; a file beyond its bound is not written. Vectors of 8-bit models: 1 - cosine; "
        "all else: the numbers (of vectors, relative to the largest)."]


STRINGS = (
    "SavedModel 另有两个直接接收原始字符串（UTF-8）的签名：`texts`（输入 `text`）与 `pairs`（输入 "
    "`text_a`、`text_b`），分词就在图中，只用 TensorFlow 核心算子；写出时与项目的分词器逐个 id "
    "比较，完全一致。",
    "The SavedModel has two more signatures, which take raw strings (UTF-8): `texts` (input "
    "`text`) and `pairs` (inputs `text_a`, `text_b`). They tokenize in the graph, by TensorFlow's "
    "core operations alone, and were compared with the project's tokenizer, id by id.")
NO_STRINGS_SPM = (
    "输入只有 id，没有原始字符串的签名：TensorFlow 的核心算子中没有 SentencePiece。",
    "Ids are the only inputs, there is no signature for raw strings: SentencePiece is not among "
    "TensorFlow's core operations.")
NO_STRINGS_WORDS = (
    "输入只有 id，没有原始字符串的签名：`positions` 是 token 的位置，字符串说不出来。",
    "Ids are the only inputs, there is no signature for raw strings: `positions` are those of "
    "tokens, which strings cannot say.")


def _strings(record, known_files, model, language):
    """Returns what is to be said of signatures that take strings, as lines."""
    if all(known["format"] != "savedmodel" for known in known_files.values()):
        return []
    if record["head"] == "masked_words":
        return [NO_STRINGS_WORDS[language]]
    return [(NO_STRINGS_SPM if model.tokenizer.is_sentencepiece else STRINGS)[language]]


def _sizes(model):
    return "%s layout, %d layers, width %d" % (
        model.layout.name, model.config.num_hidden_layers, model.config.hidden_size)


def _output(record, language):
    text = OUTPUTS[record["head"]][language]
    if record["head"] == "embedding":
        text += ", layer %d, pooling %s" % (record["layer"], record["pooling"])
    return text


def _file_rows(known_files, language):
    rows = []
    for name, known in known_files.items():
        equal = known.get("equal_decisions")
        kind = known["format"] + (" " + known["type"] if "type" in known else "")
        if known.get("length"):
            kind += ", `[1, %d]`" % known["length"]
        cells = ["`%s`" % name, kind, "%.1f MB" % (known["bytes"] / 1e6)]
        cells.append("%.1e (≤ %g)" % (known["difference"], known["bound"])
                     if "difference" in known else "-")
        cells += ["%.1f %%" % (100 * equal) if equal is not None else "-",
                  USES[known["format"]][language]]
        rows.append("| %s |" % " | ".join(cells))
    return rows


def _names(names):
    return ", ".join(map(_code, names))


def _code(text):
    return "`%s`" % text
