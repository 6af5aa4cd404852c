"""A part of the table of bad inputs; `bash tests/faults/run_all.sh --only="bad input"` tries all.

See tests/faults/bad_inputs/rows.py.
"""

import collections
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

FOLDER = os.path.join(ROOT, "tests", "faults", "bad_inputs")
EVERY = 4  # of the rows is tried here


@pytest.fixture(scope="module")
def rows():
    sys.path.insert(0, FOLDER)
    try:
        import rows
        return rows.ROWS
    finally:
        sys.path.remove(FOLDER)


def test_the_table_has_all_families_and_no_row_twice(rows):
    families = collections.Counter(row.family for row in rows)
    assert sum(families.values()) >= 400 and min(families.values()) >= 20
    assert len({(row.family, row.name) for row in rows}) == len(rows)
    # Each names a place or a remedy in words that the message must hold.
    assert all(any(row.says) for row in rows)


def test_the_table_tries_every_script(rows):
    tried = {row.script for row in rows}
    scripts = {name for name in os.listdir(ROOT) if name.endswith(".py")
               and 'if __name__ == "__main__":' in open_text(os.path.join(ROOT, name))}
    assert scripts - tried <= {"test_changes.py"}  # takes nothing but the name of a picture


def open_text(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def test_bad_inputs_end_with_one_message_and_leave_nothing(tmp_path):
    results = str(tmp_path / "results.json")
    done = subprocess.run(
        [sys.executable, os.path.join(FOLDER, "run.py"), "--every=%d" % EVERY, "--json=" + results],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said
    assert len(json.loads(open_text(results))) >= 100
