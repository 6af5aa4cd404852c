"""The tokenizer for Android, android/AlbertTokenizer.java, gives what tokenization.py gives."""

import json
import os
import random
import shutil
import subprocess

import pytest
from conftest import ROOT
from helpers import read, run_here, run_script, write_vocabulary

import tokenization
import tokenizer_vectors

VOCAB = os.path.join(ROOT, "albert_config", "vocab.txt")

# Characters in all Unicode versions of the last ten years, of every kind that a step cares about.
ALPHABET = ("abcXYZ019 \t\u3000\u00a0\u2028\u0085\u200b\ufeff\u0000\ufffd\u00ad"
            ",.!?$^`~|<>+=_-'\"，。！？、《》“”…—￥·中国人的𠮷𪚥豈éÅçÑüßẞſKİIıΣσςΑΟΔΣ한ガぎテ①Ⅳ½²e\u0301\u0323o\u0308"
            "ﬁ⁵😀👍\ue000ابक\u093eไ\u0e33่")


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """Function of (vocabulary, length, texts, flags...) to the list of (ids, segments)."""
    if not shutil.which("javac") or not shutil.which("java"):
        pytest.skip("there is no Java compiler here")
    folder = str(tmp_path_factory.mktemp("java"))
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", folder,
                    os.path.join(ROOT, "android", "AlbertTokenizer.java")], check=True)

    def run(vocab_file, length, texts, *others):
        lines = "".join(("\t".join(part for part in text if part is not None)) + "\n"
                        for text in texts)
        found = subprocess.run(["java", "-cp", folder, "AlbertTokenizer", vocab_file, str(length)]
                               + list(others), input=lines.encode("utf-8"),
                               stdout=subprocess.PIPE, check=True)
        rows = found.stdout.decode("utf-8").rstrip("\n").split("\n")
        return [tuple(map(json.loads, row.replace("] [", "]\n[").split("\n"))) for row in rows]

    return run


def expected(vocab_file, length, texts, do_lower_case=True, truncate="head"):
    tokenizer = tokenization.from_file(vocab_file, do_lower_case)
    return [(vector["input_ids"], vector["segment_ids"]) for vector in tokenizer_vectors.vectors(
        tokenizer, length, texts, truncate=truncate)]


def without_line_ends(texts):
    """Returns texts as a file with one a line can hold them."""
    return [tuple(part and part.replace("\n", " ").replace("\t", " ") for part in text)
            for text in texts]


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_the_vectors(java, do_lower_case):
    texts = without_line_ends(tokenizer_vectors.TEXTS)
    found = java(VOCAB, 32, texts, *([] if do_lower_case else ["cased"]))
    assert found == expected(VOCAB, 32, texts, do_lower_case)


def test_hostile_texts(java):
    generator = random.Random(5)

    def text():
        return "".join(generator.choice(ALPHABET) for _ in range(generator.randrange(30)))

    texts = without_line_ends([(text(), generator.choice([None, text()])) for _ in range(1500)])
    for text_, found, wanted in zip(texts, java(VOCAB, 24, texts), expected(VOCAB, 24, texts)):
        assert found == wanted, ascii(text_)


@pytest.mark.parametrize("truncate", ["tail", "head_tail"])
@pytest.mark.parametrize("length", [12, 13, 14, 15])
def test_which_part_of_a_long_text_is_kept(java, truncate, length):
    texts = without_line_ends(tokenizer_vectors.TEXTS)
    found = java(VOCAB, length, texts, truncate)
    assert found == expected(VOCAB, length, texts, truncate=truncate)
    assert found != expected(VOCAB, length, texts)


def test_real_pairs(java, shared_data):
    with open(os.path.join(shared_data, "lcqmc", "dev.txt"), encoding="utf-8") as stream:
        texts = [tuple(line.split("\t")[:2]) for line in stream.read().split("\n") if line]
    assert len(texts) > 1000
    assert java(VOCAB, 40, texts) == expected(VOCAB, 40, texts)


# ---------------------------------------------------------------------------------------------
# The vectors themselves
# ---------------------------------------------------------------------------------------------

def test_vectors_from_the_command_line():
    status, out, err = run_script("tokenizer_vectors.py", "--vocab_file=" + VOCAB)
    assert status == 0, err
    vectors = [json.loads(line) for line in out.split("\n") if line]
    assert [(vector["text_a"], vector["text_b"]) for vector in vectors] == tokenizer_vectors.TEXTS
    by_text = {vector["text_a"]: vector for vector in vectors}
    assert by_text[""]["input_ids"] == [101, 102]
    assert by_text["Ça va, naïve café? Ünïcödé ÅNGSTRÖM"]["tokens"][1:4] == ["ca", "va", ","]
    assert max(len(vector["input_ids"]) for vector in vectors) == 32
    for vector in vectors:
        assert len(vector["segment_ids"]) == len(vector["input_ids"]) == len(vector["tokens"])


def test_vectors_of_own_texts(tmp_path):
    vocab = write_vocabulary(tmp_path, "天地人")
    (tmp_path / "texts.txt").write_text("天地\n人\t地\n", encoding="utf-8")
    status, out, _ = run_here(tokenizer_vectors, "--vocab_file=" + vocab,
                              "--file=%s" % (tmp_path / "texts.txt"))
    first, second = [json.loads(line) for line in out.split("\n") if line]
    assert status == 0 and first["tokens"] == ["[CLS]", "天", "地", "[SEP]"]
    assert second["segment_ids"] == [0, 0, 0, 1, 1]
    status, _, err = run_here(tokenizer_vectors, "--vocab_file=" + vocab, "--max_seq_length=4")
    assert status == 1 and "--max_seq_length=4: at least 5" in err


def test_the_page_shows_what_is_printed():
    """Each row of the table in MOBILE.md is what the command gives."""
    page = read(os.path.join(ROOT, "MOBILE.md")).decode("utf-8")
    tokenizer = tokenization.from_file(VOCAB)
    rows = [line.split("|") for line in page.split("\n") if line.startswith("| `[")]
    texts = [tuple(json.loads(cells[1].strip().strip("`"))) for cells in rows]
    assert len(texts) >= 8
    for cells, vector in zip(rows, tokenizer_vectors.vectors(tokenizer, 32, texts)):
        assert json.loads(cells[2].strip().strip("`")) == vector["input_ids"]
        assert json.loads(cells[3].strip().strip("`")) == vector["segment_ids"]
