"""corpus.py: documents, pieces and compressed files."""

import doctest
import gzip
import random

import hypothesis
import pytest
from hypothesis import strategies

import corpus
import files
from errors import UserError


def read_all(paths, piece_bytes=None):
    return list(corpus.read_documents(corpus.plan_pieces(paths, piece_bytes)))


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(corpus)
    assert result.attempted >= 1 and result.failed == 0


def test_a_document_ends_at_a_blank_line_and_at_the_end_of_a_file(tmp_path):
    (tmp_path / "a.txt").write_bytes("一\n二\n\n \u3000\n\n三".encode("utf-8"))
    (tmp_path / "b.txt").write_bytes("\ufeff四\r\n五\u2028六\x85七\r\n\r\n\n".encode("utf-8"))
    found = read_all([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert found == [(0, 0, 0, ["一", "二"]), (0, 15, 0, ["三"]),
                     (1, 0, 0, ["四", "五\u2028六\x85七"])]


def test_long_lines_and_documents_are_divided_without_loss(tmp_path, monkeypatch):
    line = "".join(random.Random(3).choice("甲乙丙丁戊，。 ") for _ in range(23456)) + "完"
    pieces = list(corpus.cut_line(line))
    assert "".join(pieces) == line and max(map(len, pieces)) <= corpus.LINE_CHARACTERS
    monkeypatch.setattr(corpus, "PART_CHARACTERS", 100)
    sentences = ["第%d句话没有结束。" % i for i in range(50)]
    (tmp_path / "a.txt").write_bytes(("\n".join(sentences) + "\n\n下一篇").encode("utf-8"))
    parts = read_all([str(tmp_path / "a.txt")])
    assert [line for part in parts[:-1] for line in part.lines] == sentences
    assert [part.part for part in parts[:-1]] == list(range(len(parts) - 1)) and len(parts) > 4
    assert {part.offset for part in parts[:-1]} == {0}
    assert max(map(corpus.count_characters, parts)) <= 100
    assert parts[-1].part == 0 and parts[-1].lines == ["下一篇"]


LINES = strategies.lists(strategies.sampled_from(
    ["", "", " ", "\u3000", "一二三", "四", "五六七八九十", "a b", "\r"]), max_size=30)


@hypothesis.settings(deadline=None, max_examples=300,
                     suppress_health_check=hypothesis.HealthCheck.all())
@hypothesis.given(LINES, strategies.integers(1, 40))
def test_pieces_of_any_size_hold_the_same_documents(tmp_path, lines, piece_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes("\n".join(lines).encode("utf-8"))
    whole = read_all([str(path)], 1 << 20)
    assert read_all([str(path)], piece_bytes) == whole
    assert [document.lines for document in whole] == documents_of(lines)
    assert len({document.offset for document in whole}) == len(whole)


def documents_of(lines):
    """Returns the documents of lines, one by one."""
    found = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [document for document in found if document]


def test_pieces_depend_on_sizes_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    (tmp_path / "b.txt").write_bytes(b"y" * 10)
    pieces = corpus.plan_pieces([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], 300)
    assert [(piece.file, piece.start, piece.end) for piece in pieces] == [
        (0, 0, 250), (0, 250, 500), (0, 500, 750), (0, 750, None), (1, 0, None)]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_compressed_files_are_read_as_plain_ones(tmp_path, ending):
    text = "一\n二\n\n三\n".encode("utf-8") * 500
    (tmp_path / "a.txt").write_bytes(text)
    packed = tmp_path / ("a.txt." + ending)
    packed.write_bytes(compress(text, ending))
    assert read_all([str(packed)]) == read_all([str(tmp_path / "a.txt")])
    assert len(corpus.plan_pieces([str(packed)], 10)) == 1
    packed.write_bytes(packed.read_bytes()[:-20])
    if ending == "gz":  # a stream of Zstandard may end anywhere
        with pytest.raises(UserError, match="a.txt.gz is damaged"):
            read_all([str(packed)])
    packed.write_bytes(b"no such file at all" * 10)
    with pytest.raises(UserError, match="a.txt.%s is damaged or no .%s file" % (ending, ending)):
        read_all([str(packed)])


def compress(text, ending):
    if ending == "gz":
        return gzip.compress(text)
    zstandard = pytest.importorskip("zstandard")
    # Two frames, as a file has that was written in two goes.
    compressor = zstandard.ZstdCompressor()
    return compressor.compress(text[:1000]) + compressor.compress(text[1000:])


def test_a_lacking_package_for_zstandard_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    (tmp_path / "a.zst").write_bytes(b"x")
    with pytest.raises(UserError, match="pip install zstandard"):
        read_all([str(tmp_path / "a.zst")])


@pytest.mark.parametrize("piece_bytes", [50, 1 << 20])
def test_what_is_not_utf8_is_named_by_its_line(tmp_path, piece_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes("好的。\n\n".encode("utf-8") * 300 + "中文。\n".encode("gb18030"))
    with pytest.raises(UserError, match="a.txt line 601 is not UTF-8.*GB18030"):
        read_all([str(path)], piece_bytes)


def test_a_file_without_blank_lines_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes("没有空行的文本。\n".encode("utf-8") * 1000)
    decoded = []
    monkeypatch.setattr(corpus, "cut_line", lambda line: decoded.append(line) or [line])
    pieces = corpus.plan_pieces([str(path)], 1000)
    lines = sum(len(list(corpus._lines_of_piece(piece))) for piece in pieces[:2])
    assert len(pieces) == 25 and lines > 1900
    assert len(list(corpus.read_documents(pieces))) == 1 and len(decoded) == 1000
    # The second piece stops at its end.
    offsets = []
    whole = corpus._lines_of_piece
    monkeypatch.setattr(corpus, "_lines_of_piece", lambda piece: (
        offsets.append(offset) or (offset, line) for offset, line in whole(piece)))
    assert list(corpus.read_documents(pieces[1:2])) == [] and max(offsets) <= pieces[1].end + 30


def test_an_endless_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MOST_LINE_BYTES", 1 << 20)
    (tmp_path / "a.txt").write_bytes(b"one\n" + b"x" * (2 << 20))
    with pytest.raises(UserError, match="a.txt line 2 is longer than 1 MB"):
        read_all([str(tmp_path / "a.txt")])


def test_surveys_add_up(tmp_path):
    (tmp_path / "a.txt").write_bytes("一\n二二\n\n三\n".encode("utf-8") * 40)
    pieces = corpus.plan_pieces([str(tmp_path / "a.txt")], 100)
    total = corpus.add_surveys([corpus.survey(piece) for piece in pieces])
    assert len(pieces) > 3 and total == (41, 120, 160)
    assert corpus.add_surveys([]) == (0, 0, 0)
    with pytest.raises(UserError, match="holds only blank lines"):
        corpus.require_text(corpus.Survey(0, 0, 0), ["a.txt"])


def test_units_are_of_about_the_wanted_size():
    documents = [corpus.Document(0, number, 0, ["甲" * 30]) for number in range(10)]
    units = list(corpus.in_units(documents, 100))
    assert [len(unit) for unit in units] == [4, 4, 2] and sum(units, []) == documents


def test_lines_of_compressed_files_are_read_by_all_scripts(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("一\r\n二\n".encode("utf-8")))
    assert list(files.read_lines(str(tmp_path / "a.txt.gz"))) == [(1, "一"), (2, "二")]
