"""Runs of scripts within the test's process, and small vocabularies for them.

Another process for every run would take most of a test's time. The first run of a test file
should still be helpers.run_script's, which starts the script as users do.
"""

import contextlib
import io
import os

from helpers import run_main

import files
from errors import UserError


def run_here(script, *arguments):
    """Runs a script in this process; returns (exit status, stdout, stderr) like run_script.

    Args:
        script: a module of the project with define_flags and main.
        arguments: its command line, "--name=value".
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_main(script, *arguments)
        except UserError as error:
            status = 1
            err.write("ERROR: %s\n" % error)
    return status, out.getvalue(), err.getvalue()


def write_vocabulary(folder, texts, size=60):
    """Writes a vocabulary of the texts' characters, with as many entries as helpers.TINY has rows.

    Returns:
        its path.
    """
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set("".join(texts)))
    assert len(entries) <= size
    entries += ["[unused%d]" % number for number in range(size - len(entries))]
    path = os.path.join(str(folder), "vocab.txt")
    files.write_text(path, "".join(entry + "\n" for entry in entries))
    return path
