"""Which checkpoint is best, what is evaluated again and what is not."""

import json
import os

import pytest

import files
import selection
from errors import UserError

NAN = float("nan")


@pytest.fixture()
def prefixes(tmp_path):
    """Three checkpoints, of which only the index files matter here."""
    return [write_index(tmp_path, step, "content %d" % step) for step in (2, 4, 6)]


def write_index(folder, step, content):
    prefix = str(folder / ("model.ckpt-%d" % step))
    files.write_text(prefix + ".index", content)
    return prefix


def step_of(prefix):
    return int(prefix.rsplit("-", 1)[1])


class Evaluation(object):
    """Gives each step the accuracy it is told, and remembers what it was asked for."""

    def __init__(self, **accuracies):
        self.accuracies, self.asked = accuracies, []

    def __call__(self, prefix):
        step = step_of(prefix)
        self.asked.append(step)
        return {"step": step, "eval_accuracy": self.accuracies["s%d" % step], "eval_loss": 0.5}


def classified(*rows):
    return [{"eval_accuracy": accuracy, "eval_loss": loss, "step": step}
            for accuracy, loss, step in rows]


def pretrained(*rows):
    return [{"masked_lm_loss": loss, "step": step} for loss, step in rows]


def test_the_best_has_the_highest_accuracy_then_the_lowest_loss():
    rows = classified((0.5, 0.1, 1), (0.7, 0.9, 2), (0.7, 0.3, 3), (0.7, 0.3, 4))
    assert selection.best_of(rows)["step"] == 3
    assert selection.best_of(rows[::-1])["step"] == 3


def test_the_best_pretraining_has_the_lowest_masked_loss_then_the_earlier_step():
    rows = pretrained((3.0, 1), (2.0, 2), (2.0, 3))
    assert selection.best_of(rows)["step"] == selection.best_of(rows[::-1])["step"] == 2


@pytest.mark.parametrize("rows", [
    classified((0.9, NAN, 1), (0.4, 2.0, 2), (0.9, float("inf"), 3)),
    pretrained((NAN, 1), (8.0, 2), (float("inf"), 3))])
def test_what_has_no_finite_loss_is_never_the_best(rows):
    assert selection.best_of(rows)["step"] == selection.best_of(rows[::-1])["step"] == 2


def test_results_are_kept_with_the_best(tmp_path, prefixes):
    rows = selection.evaluate_each(str(tmp_path), "tnews", prefixes, "data",
                                   Evaluation(s2=0.5, s4=0.7, s6=0.6))
    assert [row["step"] for row in rows] == [2, 4, 6]
    written = json.loads((tmp_path / selection.NAME).read_text(encoding="utf-8"))
    assert written == {"task": "tnews", "data": "data", "best": rows[1], "checkpoints": rows}
    assert rows[1]["checkpoint"] == "model.ckpt-4"
    assert rows[1]["fingerprint"] == files.fingerprint(prefixes[1] + ".index")
    assert selection.recorded(str(tmp_path)) == rows


def test_only_what_is_new_is_evaluated(tmp_path, prefixes):
    folder, results = str(tmp_path), Evaluation(s2=0.5, s4=0.7, s6=0.6, s8=0.8)
    first = selection.evaluate_each(folder, "t", prefixes, "data", results)
    assert selection.evaluate_each(folder, "t", prefixes, "data", results) == first
    assert results.asked == [2, 4, 6]
    # The first one is gone, as keep_checkpoint_max has it, and another has come.
    grown = prefixes[1:] + [write_index(tmp_path, 8, "content 8")]
    rows = selection.evaluate_each(folder, "t", grown, "data", results)
    assert results.asked == [2, 4, 6, 8]
    assert [row["step"] for row in rows] == [4, 6, 8] == [
        row["step"] for row in selection.recorded(folder)]


def test_other_data_and_other_content_are_evaluated_again(tmp_path, prefixes):
    folder, results = str(tmp_path), Evaluation(s2=0.5, s4=0.7, s6=0.6)
    selection.evaluate_each(folder, "t", prefixes, "data", results)
    selection.evaluate_each(folder, "t", prefixes, "other data", results)
    assert results.asked == [2, 4, 6] * 2
    write_index(tmp_path, 4, "trained anew")
    selection.evaluate_each(folder, "t", prefixes, "other data", results)
    assert results.asked == [2, 4, 6] * 2 + [4]


def test_an_interrupted_evaluation_keeps_what_it_has_done(tmp_path, prefixes):
    results = Evaluation(s2=0.5, s4=0.7)  # fails at step 6
    with pytest.raises(KeyError):
        selection.evaluate_each(str(tmp_path), "t", prefixes, "data", results)
    again = Evaluation(s6=0.6)
    rows = selection.evaluate_each(str(tmp_path), "t", prefixes, "data", again)
    assert again.asked == [6]
    assert [row["eval_accuracy"] for row in rows] == [0.5, 0.7, 0.6]


def test_an_interrupted_evaluation_changes_no_best(tmp_path, prefixes):
    folder = str(tmp_path)
    selection.evaluate_each(folder, "t", prefixes, "data", Evaluation(s2=0.5, s4=0.7, s6=0.6))
    with pytest.raises(KeyError):  # at step 4
        selection.evaluate_each(folder, "t", prefixes, "other data", Evaluation(s2=0.9))
    assert selection.recorded_best(folder, prefixes) == prefixes[1]
    again = Evaluation(s4=0.1, s6=0.1)
    selection.evaluate_each(folder, "t", prefixes, "other data", again)
    assert again.asked == [4, 6]
    assert selection.recorded_best(folder, prefixes) == prefixes[0]


def test_checkpoints_after_the_evaluation_are_told_of(tmp_path, prefixes, capsys):
    folder = str(tmp_path)
    selection.evaluate_each(folder, "t", prefixes, "data", Evaluation(s2=0.5, s4=0.7, s6=0.6))
    assert selection.recorded_best(folder, prefixes) == prefixes[1]
    assert capsys.readouterr().err == ""
    later = prefixes + [write_index(tmp_path, 8, "later")]
    assert selection.recorded_best(folder, later) == prefixes[1]
    assert "such as model.ckpt-8; --do_eval evaluates them" in capsys.readouterr().err


def test_of_a_folder_the_best_is_chosen_and_of_a_prefix_itself(tmp_path, prefixes):
    for prefix in prefixes:
        files.write_text(prefix + ".data-00000-of-00001", "data")
    files.write_text(str(tmp_path / "checkpoint"), 'model_checkpoint_path: "model.ckpt-6"\n')
    folder = str(tmp_path)
    assert selection.choose(folder, "predict_checkpoint") == prefixes[2]
    selection.evaluate_each(folder, "t", prefixes, "data", Evaluation(s2=0.5, s4=0.7, s6=0.6))
    assert selection.choose(folder, "predict_checkpoint") == prefixes[1]
    assert selection.choose(prefixes[0], "predict_checkpoint") == prefixes[0]
    with pytest.raises(UserError, match="--predict_checkpoint=.*does not exist"):
        selection.choose(prefixes[0] + "0", "predict_checkpoint")


def test_the_recorded_best_is_found_by_content(tmp_path, prefixes):
    folder = str(tmp_path)
    assert selection.recorded_best(folder, prefixes) is None
    selection.evaluate_each(folder, "t", prefixes, "data", Evaluation(s2=0.5, s4=0.7, s6=0.6))
    assert selection.recorded_best(folder, prefixes) == prefixes[1]
    assert selection.recorded_best(folder, [prefixes[0], prefixes[2]]) == prefixes[2]
    copied = str(tmp_path / "kept.ckpt")
    files.copy(prefixes[1] + ".index", copied + ".index")
    assert selection.recorded_best(folder, [prefixes[0], copied]) == copied
    write_index(tmp_path, 4, "trained anew")
    assert selection.recorded_best(folder, prefixes) == prefixes[2]
    assert selection.recorded_best(folder, []) is None


@pytest.mark.parametrize("content", [
    "[]", "{}", '{"checkpoints": {}}', '{"checkpoints": [1]}', '{"checkpoints": [{"step": 2}]}',
    '{"checkpoints": [{"fingerprint": "x", "data": "y"}]}', '{"checkpoints": [', ""])
def test_a_damaged_file_is_named(tmp_path, prefixes, content):
    files.write_text(str(tmp_path / selection.NAME), content)
    with pytest.raises(UserError, match=r"eval_results\.json is (damaged|not valid JSON)"):
        selection.recorded_best(str(tmp_path), prefixes)
    assert os.listdir(str(tmp_path)).count(selection.NAME) == 1
