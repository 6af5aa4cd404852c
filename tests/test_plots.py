"""Pictures: drawn, quiet, whole or not at all; what they show before it is drawn."""

import collections
import io
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import plots

pytest.importorskip("matplotlib")
# Nothing that matplotlib warns of, such as a missing glyph, may reach the screen.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore::DeprecationWarning")

SERIES = collections.OrderedDict([
    ("loss", [(10, 3.0), (20, 2.5), (30, float("nan")), (40, 2.0)]),
    ("learning_rate", [(10, 1e-5), (20, 2e-5), (30, 1e-5)]),
    ("eval loss", [(20, 2.7), (40, 2.2)]), ("eval accuracy", [(40, 0.7)])])


def picture_of(path):
    """Returns the size (width, height) of a PNG file and its distinct bytes of pixels."""
    from matplotlib import image

    pixels = image.imread(str(path))
    return pixels.shape[1], pixels.shape[0], len(np.unique(pixels.reshape(-1, 4), axis=0))


def run_python(code, *arguments):
    """Runs code in a Python of its own; returns (exit status, stderr)."""
    process = subprocess.Popen([sys.executable, "-c", code] + list(arguments), cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.communicate()
    return process.returncode, err.decode("utf-8")


# ---------------------------------------------------------------------------------------------
# All pictures
# ---------------------------------------------------------------------------------------------

DRAWINGS = {
    "curves": lambda path: plots.curves(SERIES, path, "a run"),
    "confusion": lambda path: plots.confusion_matrix([[3, 1], [0, 4]], ["0", "1"], path),
    "parameters": lambda path: plots.parameters([("tiny", 4295186, 7811738)], path)}


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_a_picture_replaces_the_older_one_whole(name, tmp_path, capsys):
    path = tmp_path / "picture.png"
    path.write_bytes(b"older")
    assert DRAWINGS[name](str(path))
    width, height, colours = picture_of(path)
    assert width > 300 and height > 200 and colours > 20
    assert os.listdir(str(tmp_path)) == ["picture.png"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_the_same_figures_give_the_same_file(name, tmp_path):
    for number in "12":
        assert DRAWINGS[name](str(tmp_path / number))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_without_matplotlib_it_is_said_once_and_nothing_fails(tmp_path):
    status, err = run_python("""
import sys
sys.modules["matplotlib"] = None
import plots
assert plots.curves({"loss": [(1, 1.0)]}, sys.argv[1], "a run") is False
assert plots.confusion_matrix([[1]], ["a"], sys.argv[1]) is False
assert plots.parameters([("tiny", 1, 2)], sys.argv[1]) is False
""", str(tmp_path / "picture.png"))
    assert (status, err) == (0, "no picture drawn: matplotlib is not installed (bash env.sh "
                                "installs it)\n")
    assert os.listdir(str(tmp_path)) == []


def test_matplotlib_is_loaded_at_the_first_picture_only():
    assert run_python("import sys, plots; assert 'matplotlib' not in sys.modules") == (0, "")


def test_the_settings_of_the_user_are_left_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    matplotlib.rcParams["font.size"] = 33
    try:
        assert DRAWINGS["parameters"](str(tmp_path / "1.png"))
        assert matplotlib.rcParams["font.size"] == 33
    finally:
        matplotlib.rcParams.update(before)
    assert DRAWINGS["parameters"](str(tmp_path / "2.png"))
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


# ---------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------

def test_evaluation_shares_the_panel_of_its_tag():
    panels = plots.group_panels(SERIES)
    assert list(panels) == ["loss", "learning_rate", "accuracy"]
    assert panels["loss"] == (SERIES["loss"], SERIES["eval loss"])
    assert panels["accuracy"] == ([], [(40, 0.7)])


def test_without_points_no_curves_are_drawn(tmp_path):
    assert plots.curves({"loss": []}, str(tmp_path / "curves.png"), "a run") is False
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("values", [
    [0.5], [float("nan")], [float("inf"), 1.0], [0.0, 0.0], [1e-7, 2e-7], [1e8, 2e9], [-3.0, 3.0]])
def test_curves_of_any_values(values, tmp_path, capsys):
    points = [(100 * number, value) for number, value in enumerate(values)]
    assert plots.curves({"a_$tag_$": points}, str(tmp_path / "curves.png"), "$a_run$")
    assert capsys.readouterr() == ("", "")


def test_the_trend_of_a_noisy_curve():
    noise = [1.0, -1.0, float("nan"), 2.0, -2.0]
    points = [(10 * step, 0.01 * step + noise[step % 5]) for step in range(1000)]
    found = plots.trend(points)
    assert len(found) == 800 and not any(math.isnan(value) for _, value in found)
    for step, value in found[16:-16]:
        assert value == pytest.approx(0.001 * step, abs=0.1)
    first = [value for _, value in points[:22] if not math.isnan(value)][:17]
    assert found[0] == (0, pytest.approx(sum(first) / 17))  # at the ends of what there is


def test_a_curve_without_noise_or_with_few_points_is_its_own_trend():
    assert plots.trend([(step, 1.0 / (step + 1)) for step in range(500)]) == []
    assert plots.trend([(step, (-1.0) ** step) for step in range(99)]) == []
    assert plots.trend([(step, float("nan")) for step in range(500)]) == []
    assert plots.trend([(step, 3.0) for step in range(500)]) == []


def test_few_points_are_all_kept():
    points = [(step, 1.0 / (step + 1)) for step in range(plots.MOST_POINTS)]
    assert plots.thin(points) == points


def test_many_points_are_thinned_without_losing_a_peak():
    points = [(step, math.sin(step / 500.0)) for step in range(30000)]
    points[12345] = (12345, 9.0)
    points[23456] = (23456, -9.0)
    points[3] = (3, float("nan"))
    thinned = plots.thin(points)
    assert len(thinned) <= plots.MOST_POINTS + 2
    assert set(thinned) <= set(points) and thinned == sorted(thinned)
    assert {points[0], points[-1], points[12345], points[23456]} <= set(thinned)


@pytest.mark.parametrize("value, largest, text", [
    (0.25, 1.0, "0.25"), (0.0, 1e-4, "0"), (1.5e-4, 2e-4, "1.5e-4"), (2e-5, 2e-4, "2e-5"),
    (250.0, 300.0, "250"), (12500.0, 50000.0, "12.5k"), (2e6, 3e6, "2M"), (-0.5, 1.0, "-0.5")])
def test_values_of_an_axis_are_short(value, largest, text):
    assert plots._short_value(value, largest) == text


# ---------------------------------------------------------------------------------------------
# Confusion matrices
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("classes", [1, 2, 15, 21, 119])
def test_confusion_matrices_of_all_tasks(classes, tmp_path, capsys):
    matrix = np.random.RandomState(1).randint(0, 9, size=(classes, classes))
    matrix[0] = 0  # a class without examples
    labels = ["class %d" % number for number in range(classes)]
    assert plots.confusion_matrix(matrix, labels, str(tmp_path / "matrix.png"))
    assert capsys.readouterr() == ("", "")


def test_labels_that_no_font_has_are_numbered_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "CHINESE_FONTS", ())
    named = []
    monkeypatch.setattr(plots, "_name_classes", lambda axes, labels: named.append(list(labels)))
    path = str(tmp_path / "matrix.png")
    assert plots.confusion_matrix([[1, 0], [0, 1]], ["体育", "财经"], path, title="今日头条")
    assert plots.confusion_matrix([[1, 0], [0, 1]], ["sports", "money"], path)
    assert named == [["1", "2"], ["sports", "money"]]


def test_titles_that_no_font_has_are_drawn_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "CHINESE_FONTS", ())
    assert plots.spell(["run 今日", "a$b$"]) == ("DejaVu Sans", ["run ??", r"a\$b\$"])
    assert plots.curves({"损失": [(1, 1.0), (2, 0.5)]}, str(tmp_path / "curves.png"), "今日头条")
    assert plots.parameters([("小", 3, 5)], str(tmp_path / "parameters.png"))


def test_a_font_with_all_characters_is_used(monkeypatch):
    monkeypatch.setattr(plots, "_candidate_fonts", lambda: iter(
        [("Latin", "latin.ttf"), ("Some", "some.ttf"), ("All", "all.ttf"), ("Last", "last.ttf")]))
    holds = {"latin.ttf": "abc ", "some.ttf": "abc 体", "all.ttf": "abc 体育", "last.ttf": "体育"}
    monkeypatch.setattr(plots, "_characters", lambda path: set(map(ord, holds[path])))
    assert plots._font_for(["a"]) == "Latin"
    assert plots._font_for(["a", "体育"]) == "All"
    assert plots._font_for(["体育史"]) is None


def test_a_file_that_is_no_font_has_no_characters(tmp_path):
    path = tmp_path / "broken.ttf"
    with io.open(str(path), "wb") as stream:
        stream.write(b"not a font")
    assert plots._characters(str(path)) == set()
    assert plots._characters(str(tmp_path / "missing.ttf")) == set()
