"""What --engine=beam says where apache-beam is missing; the rest is in test_beam_engine.py."""

import os
import subprocess
import sys

from conftest import ROOT

# Importing a module that is None here fails, whether or not it is installed.
PROGRAM = """
import sys
sys.path.insert(0, %r)
sys.modules["apache_beam"] = None
import create_pretraining_data as script
import errors
script.define_flags()
errors.run(script.main, positional=None)
"""


def test_a_lacking_package_is_named_and_nothing_is_written(tmp_path, vocab_file):
    (tmp_path / "a.txt").write_bytes("今天下雨。\n我没有出门。\n".encode("utf-8"))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM % ROOT, "--engine=beam", "--vocab_file=" + vocab_file,
         "--input_file=" + str(tmp_path / "a.txt"),
         "--output_file=" + str(tmp_path / "x.tfrecord")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    err = process.communicate()[1].decode("utf-8")
    assert process.returncode == 1
    assert "--engine=beam needs the package apache-beam: pip install apache-beam==" in err
    assert "Traceback" not in err
    assert os.listdir(str(tmp_path)) == ["a.txt"]
