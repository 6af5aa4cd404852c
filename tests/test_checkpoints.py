"""Finding checkpoints, recognising layouts, refusing what does not fit."""

import os

import numpy as np
import pytest
from helpers import TINY, pretraining_weights, write_checkpoint, write_config

import checkpoints
import files
import modeling
from errors import UserError
from run_record import RunRecord

import tensorflow.compat.v1 as tf


def config(**changes):
    return modeling.BertConfig.from_dict(dict(TINY, **changes))


def shapes(**changes):
    return modeling.pretraining_variable_shapes(config(**changes), modeling.BertModel)


@pytest.fixture()
def released(tmp_path):
    """A folder like an unpacked archive: albert_model.ckpt, a config, a stray state file."""
    write_checkpoint(tmp_path / "albert_model.ckpt", pretraining_weights())
    write_config(tmp_path, "albert_config_tiny.json")
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/nowhere/on/earth/model.ckpt-36000"\n', encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------------------------------------
# Finding
# ---------------------------------------------------------------------------------------------

def test_prefix_folder_and_parts_name_the_same_checkpoint(released):
    prefix = str(released / "albert_model.ckpt")
    for path in (str(released), prefix, prefix + ".index", prefix + ".data-00000-of-00001",
                 prefix + ".meta"):
        assert checkpoints.resolve(path) == prefix


def test_a_prefix_that_does_not_exist_is_answered_with_those_that_do(released):
    with pytest.raises(UserError, match="bert_model.ckpt does not exist.*albert_model.ckpt"):
        checkpoints.resolve(str(released / "bert_model.ckpt"))
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoints.resolve(str(released / "sub" / "x.ckpt"))
    with pytest.raises(UserError, match="--init_checkpoint is missing"):
        checkpoints.resolve("")


def test_the_state_file_decides_among_several(released):
    write_checkpoint(released / "model.ckpt-10", pretraining_weights())
    with pytest.raises(UserError, match="several checkpoints"):
        checkpoints.resolve(str(released))
    (released / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-10"\n',
                                         encoding="utf-8")
    assert checkpoints.resolve(str(released)).endswith("model.ckpt-10")


def test_the_latest_of_a_run(tmp_path):
    assert checkpoints.latest_in(str(tmp_path / "none")) is None
    for step in (0, 90, 100):
        write_checkpoint(tmp_path / ("model.ckpt-%d" % step), {"x": np.zeros(1, np.float32)})
    assert checkpoints.step_in_name(checkpoints.latest_in(str(tmp_path))) == 100
    os.remove(str(tmp_path / "model.ckpt-100.data-00000-of-00001"))  # half-written
    assert checkpoints.step_in_name(checkpoints.latest_in(str(tmp_path))) == 90


# ---------------------------------------------------------------------------------------------
# Recognising and refusing
# ---------------------------------------------------------------------------------------------

def test_everything_fits(released):
    fit = checkpoints.fit(str(released / "albert_model.ckpt"), shapes())
    assert len(fit.loaded) == 31 and not fit.fresh


def test_slots_and_foreign_heads_are_ignored_missing_heads_are_fresh(tmp_path):
    weights = {k: v for k, v in pretraining_weights().items() if k.startswith("bert/")}
    weights["bert/pooler/dense/bias/lamb_m"] = np.zeros(3, np.float32)
    weights["output_weights"] = np.zeros([7, 16], np.float32)
    write_checkpoint(tmp_path / "x.ckpt", weights)
    fit = checkpoints.fit(str(tmp_path / "x.ckpt"), shapes())
    assert len(fit.loaded) == 24
    assert all(name.startswith("cls/") for name in fit.fresh) and len(fit.fresh) == 7
    with pytest.raises(UserError, match="no fitting head(.|\n)*cls/predictions/output_bias"):
        checkpoints.fit_with_heads(str(tmp_path / "x.ckpt"), shapes())


def test_missing_and_mismatched_names_are_listed(tmp_path):
    weights = pretraining_weights()
    del weights["bert/pooler/dense/bias"]
    weights["bert/embeddings/LayerNorm/beta"] = np.zeros(4, np.float32)
    prefix = write_checkpoint(tmp_path / "x.ckpt", weights)
    with pytest.raises(UserError) as error:
        checkpoints.fit(prefix, shapes())
    assert "bert/pooler/dense/bias [16] is missing" in str(error.value)
    assert "LayerNorm/beta is [4] in the file, [16] in the model" in str(error.value)
    assert "--allow_partial_init" in str(error.value)
    fit = checkpoints.fit(prefix, shapes(), allow_partial=True)
    assert set(fit.fresh) == {"bert/pooler/dense/bias", "bert/embeddings/LayerNorm/beta"}


def test_a_file_of_another_size_is_named_by_its_configuration(root, tmp_path):
    tiny = modeling.BertConfig.from_json_file(
        os.path.join(root, "albert_config", "albert_config_tiny.json"))
    weights = {name: np.zeros(shape, np.float32) for name, shape in
               modeling.pretraining_variable_shapes(tiny, modeling.BertModel).items()}
    prefix = write_checkpoint(tmp_path / "x.ckpt", weights)
    with pytest.raises(UserError, match="another size, that of albert_config/albert_config_tiny"):
        checkpoints.fit(prefix, shapes())
    with pytest.raises(UserError) as error:  # nothing fits: partial initialisation is no way out
        checkpoints.fit(prefix, shapes(), allow_partial=True)
    assert "--allow_partial_init" not in str(error.value)


@pytest.mark.parametrize("variables, advice", [
    (["bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel",
      "bert/embeddings/word_embeddings"], "Google layout.*run_pretraining_google.py"),
    (["bert/embeddings/word_embeddings", "bert/encoder/layer_0/output/dense/kernel"],
     "a BERT checkpoint"),
    (["resnet/kernel"], "no BERT or ALBERT encoder"),
])
def test_other_layouts_are_named(tmp_path, variables, advice):
    prefix = write_checkpoint(tmp_path / "x.ckpt",
                              {name: np.zeros([2, 2], np.float32) for name in variables})
    with pytest.raises(UserError, match=advice):
        checkpoints.fit(prefix, shapes())


def test_weights_of_another_type_are_refused(tmp_path):
    weights = {name: value.astype(np.float16) for name, value in pretraining_weights().items()}
    prefix = write_checkpoint(tmp_path / "x.ckpt", weights)
    with pytest.raises(UserError, match="float32(.|\n)*pooler/dense/bias is float16"):
        checkpoints.fit(prefix, shapes())


def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused():
    with pytest.raises(UserError, match="--output_dir=out.1. holds"):
        checkpoints.require_plain_path("out[1]", "output_dir")


def test_the_released_google_file_is_recognised(shared_data):
    path = os.path.join(os.path.dirname(shared_data), "reference",
                        "albert_tiny_zh_google.variables.json")
    if not os.path.exists(path):
        pytest.skip("no %s" % path)
    content = files.read_json(path)
    names = content if isinstance(content, dict) else {row[0]: row[1] for row in content}
    assert checkpoints.layout_of(names) == "google"


def test_damaged_files_are_refused(released):
    data = released / "albert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(UserError, match="is cut short"):
        checkpoints.read_shapes(str(released / "albert_model.ckpt"))
    write_checkpoint(released / "flip.ckpt", pretraining_weights())
    data = released / "flip.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(bytes(content))
    with pytest.raises(UserError, match="flip.ckpt is damaged at "):
        checkpoints.fit(str(released / "flip.ckpt"), shapes())
    (released / "albert_model.ckpt.index").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.read_shapes(str(released / "albert_model.ckpt"))


# ---------------------------------------------------------------------------------------------
# The configuration beside a checkpoint; where a run starts
# ---------------------------------------------------------------------------------------------

def test_the_configuration_beside_is_the_witness_of_depth(released):
    prefix = str(released / "albert_model.ckpt")
    checkpoints.require_same_config(config(hidden_dropout_prob=0.1), prefix)
    deeper = config(num_hidden_layers=6)
    with pytest.raises(UserError, match="num_hidden_layers: 2 there, 6 given"):
        checkpoints.require_same_config(deeper, prefix)
    checkpoints.require_same_config(deeper, prefix, allow_partial=True)
    write_config(released, "albert_config_deep.json", num_hidden_layers=6)
    checkpoints.require_same_config(deeper, prefix)  # one that agrees is enough


def start(folder, init=None, slots=("adam_m", "adam_v"), **changes):
    return checkpoints.starting_point(config(**changes), shapes(), RunRecord(str(folder)),
                                      str(folder), init, slot_names=slots)


def test_where_a_run_starts(released, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert start(empty) is None
    assert "random" in capsys.readouterr().err
    assert start(empty, str(released)).prefix.endswith("albert_model.ckpt")
    assert "31 of 31 variables" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds no checkpoint"):
        start(empty, slots=())


def test_a_folder_with_another_model_or_optimizer_is_refused(released):
    weights = pretraining_weights()
    write_checkpoint(released / "model.ckpt-5", dict(weights))
    (released / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n',
                                         encoding="utf-8")
    with pytest.raises(UserError, match="another optimizer.*adam_m and adam_v"):
        start(released)
    assert start(released, slots=()) is None
    del weights["bert/pooler/dense/bias"]
    write_checkpoint(released / "model.ckpt-5", weights)
    with pytest.raises(UserError, match="another model(.|\n)*pooler/dense/bias"):
        start(released)


def test_a_run_from_other_weights_is_refused(released, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    first, second = str(released / "albert_model.ckpt"), str(tmp_path / "other.ckpt")
    other = pretraining_weights()
    other["bert/pooler/dense/bias"] = other["bert/pooler/dense/bias"] + 1
    write_checkpoint(second, other)
    RunRecord(str(run)).begin({"learning_rate": 1.0}, first, keep_start=False)
    RunRecord(str(run)).require_same_start(first)
    with pytest.raises(UserError, match="started from .*albert_model.ckpt, not from .*other.ckpt"):
        RunRecord(str(run)).require_same_start(second)
    RunRecord(str(run)).require_same_start(None)
    assert "WARNING: the run in this folder started from" in capsys.readouterr().err


def test_loading_takes_the_values(released):
    fit = checkpoints.fit(str(released / "albert_model.ckpt"), shapes())
    with tf.Graph().as_default(), tf.Session() as session:
        for name, shape in shapes().items():
            tf.get_variable(name, shape)
        checkpoints.load(fit)
        session.run(tf.global_variables_initializer())
        for name, value in pretraining_weights().items():
            variable = [v for v in tf.global_variables() if v.op.name == name][0]
            np.testing.assert_array_equal(session.run(variable), value)


# ---------------------------------------------------------------------------------------------
# What was only half written
# ---------------------------------------------------------------------------------------------

@pytest.fixture()
def run_folder(tmp_path):
    """Checkpoints of steps 0, 4 and 8; the state file names the last."""
    for step in (0, 4, 8):
        write_checkpoint(tmp_path / ("model.ckpt-%d" % step), {"x": np.full([50], step, "float32")})
    files.write_text(str(tmp_path / "checkpoint"), 'model_checkpoint_path: "model.ckpt-8"\n')
    return tmp_path


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])


def flip(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage, message", [
    (lambda data, index: cut(data, 0.9), "is cut short: its data files hold 180 bytes"),
    (lambda data, index: cut(data, 0), "is cut short"),
    (lambda data, index: os.remove(str(data)), "has no data file"),
    (lambda data, index: cut(index, 0.5), "cannot be read"),
    (lambda data, index: cut(index, 0), "cannot be read"),
    (lambda data, index: flip(data), "is damaged at x")])
def test_the_last_whole_checkpoint_is_gone_on_from(run_folder, capsys, damage, message):
    damage(run_folder / "model.ckpt-8.data-00000-of-00001", run_folder / "model.ckpt-8.index")
    assert checkpoints.last_sound_in(str(run_folder)) == str(run_folder / "model.ckpt-4")
    err = capsys.readouterr().err
    assert "WARNING: passed over: checkpoint %s" % (run_folder / "model.ckpt-8") in err
    assert message in err
    checkpoints.last_sound_in(str(run_folder))
    assert not capsys.readouterr().err  # it has been said
    if message != "is damaged at x":  # which only the numbers tell
        assert checkpoints.latest_in(str(run_folder)) == str(run_folder / "model.ckpt-4")
        assert checkpoints.step_reached(str(run_folder)) == 4
        assert checkpoints.trained_in(str(run_folder)) == [str(run_folder / "model.ckpt-4")]


def test_numbers_that_are_none_are_no_checkpoint(run_folder, capsys):
    for value in (np.nan, np.inf):
        write_checkpoint(run_folder / "model.ckpt-8", {"x": np.float32([1, value])})
        assert checkpoints.last_sound_in(str(run_folder)) == str(run_folder / "model.ckpt-4")
    assert "x holds NaN or infinite numbers" in capsys.readouterr().err


def test_without_any_sound_checkpoint_nothing_is_begun_anew(run_folder):
    for name in os.listdir(str(run_folder)):
        if ".data-" in name:
            cut(run_folder / name, 0.5)
    with pytest.raises(UserError, match="no checkpoint in --output_dir=.* can be used"):
        checkpoints.last_sound_in(str(run_folder))


@pytest.mark.parametrize("content", [
    b"", b"\0\0", b"\xff\xfe\x00", b'model_checkpoint_path: "model.ckpt-77"\n',
    b'model_checkpoint_path: "model.c'])
def test_a_state_file_that_names_nothing_does_not_matter(run_folder, content):
    (run_folder / "checkpoint").write_bytes(content)
    assert checkpoints.last_sound_in(str(run_folder)) == str(run_folder / "model.ckpt-8")
    checkpoints._make_state_name(str(run_folder), str(run_folder / "model.ckpt-8"))
    assert tf.train.latest_checkpoint(str(run_folder)) == str(run_folder / "model.ckpt-8")


def test_an_empty_folder_holds_no_checkpoint(tmp_path):
    assert checkpoints.last_sound_in(str(tmp_path)) is None
    assert checkpoints.last_sound_in(str(tmp_path / "none")) is None
    assert checkpoints.step_reached(str(tmp_path)) == 0
