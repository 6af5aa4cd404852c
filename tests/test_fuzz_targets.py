"""The targets that tests/fuzz/run.sh fuzzes at length, on a few inputs each, and past findings."""

import os
import random
import sys

import pytest

pytest.importorskip("hypothesis")

import helpers  # noqa: E402
from conftest import ROOT  # noqa: E402
from hostile import bounded, contents  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import tokenization  # noqa: E402
from errors import UserError  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tests", "fuzz"))
import targets  # noqa: E402

every_target = pytest.mark.parametrize("name", list(targets.TARGETS))


@pytest.fixture(scope="module", autouse=True)
def no_remains():
    yield
    targets.clean_up()


@every_target
def test_sound_inputs_are_taken(name):
    assert targets.seeds(name)
    for data in targets.seeds(name):
        targets.TARGETS[name](data)


@every_target
@bounded(60)
@given(data=st.tuples(st.binary(min_size=1, max_size=1), contents()).map(b"".join))
def test_anything_is_read_or_refused(name, data):
    targets.TARGETS[name](data)


@every_target
def test_damaged_inputs_are_read_or_refused(name):
    rng = random.Random(name)
    for data in targets.seeds(name):
        for _ in range(40):
            targets.TARGETS[name](damaged(data, rng))


def damaged(data, rng):
    """Returns data with a few faults: bytes changed, cut out, repeated, the end cut off."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data) + 1)
        length = rng.randint(1, 8)
        kind = rng.randrange(5)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place:place + length]
        elif kind == 2:
            data[place:place] = data[max(place - length, 0):place]
        elif kind == 3:
            data[place:place + length] = bytes(rng.randrange(256) for _ in range(length))
        else:
            del data[place:]
    return bytes(data)


def test_a_sentencepiece_model_with_a_piece_that_is_no_text_is_refused(tmp_path):
    model = helpers.read(helpers.train_spm(tmp_path))
    path = tmp_path / "x.model"
    path.write_bytes(model.replace("\u2581".encode("utf-8"), b"\xe2\x28\xa1", 1))
    with pytest.raises(UserError, match="x.model is damaged: its piece [0-9]+ is no text"):
        tokenization.FullTokenizer(None, True, str(path))
