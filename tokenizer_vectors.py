"""Prints test vectors of the tokenizer: what a port to another language must give for each text.

python tokenizer_vectors.py --vocab_file=albert_config/vocab.txt --max_seq_length=32

One JSON object a line: text_a, text_b (null for a single text), tokens, input_ids, segment_ids.
The texts are those on which ports go wrong: accents, final sigma, control and other characters
that are no text, Chinese beyond the first plane, full-width forms, long words, long pairs.
"""

import json

import features
import files
import runtime
import tasks
import tokenization
from absl import flags
from errors import UserError

FLAGS = flags.FLAGS

TEXTS = [
    ("花呗可以提前还款吗", "如何提前还花呗"),
    ("今天天气很好,适合出门。", None),
    ("", None),
    ("   \t\r\n ", ""),
    ("Ça va, naïve café? Ünïcödé ÅNGSTRÖM", None),
    ("ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ. ΑΣΑ", None),
    ("İstanbul ıI ẞß ſ K", None),
    ("unaffable unbelievably playing2023", None),
    ("价格是￥1,299.00(含税)!!!~^`$+<=>|", None),
    ("「引号」『』《书名》——……·、", None),
    ("全角ＡＢＣ１２３！？", None),
    ("繁體字與简体字,豈更車", None),
    ("𠮷野家和𪚥", None),
    ("表情😀👍🏽和旗🇨🇳", None),
    ("한국어 テスト ひらがな ガギグ", None),
    ("零\u200b宽\u200d字\ufeff符\u00ad和\x00控\x07制\x7f字符", None),
    ("空\u3000白\u00a0与\u2028行\u2029分\u0085隔\u2003符", None),
    ("替\ufffd换\ue000符\U000f0000", None),
    ("e\u0301 e\u0323\u0302 \u1e69 \u0344 \u0e33 \u0bca", None),
    ("[MASK] [CLS] [SEP] [UNK] ##ing", None),
    ("数字①②③ⅣⅤ㈠½²", None),
    ("a" * 200, "b" * 201),
    ("长" * 40, "短句"),
    ("前一句很长很长很长很长很长很长", "后一句也很长很长很长很长很长很长很长"),
]


def texts():
    """Returns TEXTS as strings and pairs of strings."""
    return [text_a if text_b is None else (text_a, text_b) for text_a, text_b in TEXTS]


def vectors(tokenizer, max_seq_length, pairs=None, truncate="head"):
    """Yields an object for each text: text_a, text_b, tokens, input_ids, segment_ids.

    Args:
        pairs: list of (text, second text or None); None: TEXTS.
    """
    for text_a, text_b in pairs or TEXTS:
        row = features.featurise(tasks.Example(None, text_a, text_b, None), None, tokenizer,
                                 max_seq_length, truncate)
        yield {"text_a": text_a, "text_b": text_b,
               "tokens": tokenizer.convert_ids_to_tokens(row["input_ids"]),
               "input_ids": row["input_ids"], "segment_ids": row["segment_ids"]}


def read_pairs(path):
    """Yields (text, second text or None) of a file; UserError names a line with more columns."""
    for number, line in files.read_lines(path):
        columns = line.split("\t")
        if len(columns) > 2:
            raise UserError("%s line %d has %d columns where a text, or two with a tab between "
                            "them, are expected" % (path, number, len(columns)))
        yield columns[0], columns[1] if len(columns) == 2 else None


def define_flags():
    flags.DEFINE_string("vocab_file", None, "vocab.txt or a SentencePiece model.")
    flags.DEFINE_bool("do_lower_case", True, "Lower-case, and strip accents.")
    flags.DEFINE_integer("max_seq_length", 32, "Tokens of a text or pair, at most.")
    flags.DEFINE_string("file", None, "Texts of your own, one a line, a tab between those of a "
                        "pair; none: the built-in ones.")


def main(_):
    files.require_file(FLAGS.vocab_file, "vocab_file")
    if FLAGS.max_seq_length < 5:
        raise UserError("--max_seq_length=%d: at least 5 is needed" % FLAGS.max_seq_length)
    pairs = None
    if FLAGS.file:
        files.require_file(FLAGS.file, "file")
        pairs = list(read_pairs(FLAGS.file))
    tokenizer = tokenization.from_file(FLAGS.vocab_file, FLAGS.do_lower_case)
    for vector in vectors(tokenizer, FLAGS.max_seq_length, pairs):
        print(json.dumps(vector, ensure_ascii=True))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
