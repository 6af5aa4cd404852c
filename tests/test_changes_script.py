"""What `python test_changes.py` shows; the changes themselves are asserted in that file."""

import os
import subprocess
import sys

import pytest
import test_changes
from conftest import ROOT
from helpers import assert_user_error, run_script

import console


def test_the_counts_are_shown(capsys):
    test_changes.show_factorised_embedding()
    test_changes.show_sharing()
    out, err = capsys.readouterr()
    for figure in ("122,880,000", "4,364,288", "125,976,576", "10,498,048"):
        assert figure in out
    assert err == ""


def test_pairs_are_shown_side_by_side_with_their_places(capsys):
    test_changes.show_sentence_order(shown=3)
    lines = capsys.readouterr().out.split("\n")
    assert max(map(console.width, lines)) <= 100
    places = [line.split() for line in lines if line.startswith("place in the text")]
    assert len(places) == 3
    for words in places:
        assert words.index("before") < words.index("after")
    numbers = lines[-2].split("for ")[1].rstrip(".").split(" of ")
    assert numbers[0] == numbers[1].split()[0] != "0"


def test_segments_are_found_in_either_order():
    assert test_changes.find_both("甲乙丙丁", "乙", "丙丁") == ((1, 2), (2, 4))
    assert test_changes.find_both("甲乙丙丁", "丙丁", "乙") == ((2, 4), (1, 2))
    assert test_changes.find_both("甲乙丙丁", "[UNK]丁", "甲[UNK]") == ((2, 4), (0, 2))


@pytest.mark.parametrize("first, second", [("甲", "丁"), ("戊", "甲"), ("[UNK]", "[UNK]")])
def test_an_order_that_the_text_does_not_tell_is_no_proof(first, second):
    with pytest.raises(ValueError, match="does not tell the order"):
        test_changes.find_both("甲乙丙丁", first, second)


def test_configurations_are_shown_and_drawn(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(test_changes, "parameter_rows", lambda: [("small", 1000, 4500)])
    path = tmp_path / "parameters.png"
    test_changes.show_configurations(str(path))
    out, err = capsys.readouterr()
    assert out.split("\n")[-2].split() == ["small", "1,000", "4,500", "1", "/", "4.5"]
    assert path.exists() and "Picture: " in err


def test_the_picture_goes_where_git_looks_away():
    assert os.path.relpath(test_changes.PICTURE, ROOT).split(os.sep)[0] == "sample_output"


def test_as_a_script_faults_are_told_at_once(tmp_path):
    (tmp_path / "file").write_text(u"")
    assert_user_error(run_script("test_changes.py", "--output_file=%s" % (
        tmp_path / "file" / "parameters.png")), "--output_file")


def test_the_script_needs_no_test_runner():
    code = "import sys; sys.modules['pytest'] = None; import test_changes"
    assert subprocess.call([sys.executable, "-c", code], cwd=ROOT) == 0
