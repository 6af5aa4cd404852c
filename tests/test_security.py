"""No code runs from data: what must not stand in the sources; licence and notice."""

import ast
import hashlib
import io
import os
import re
import subprocess

import pytest
from conftest import ROOT

# Calls that run, or may run, what they are given. torch.load is fine with weights_only=True,
# np.load with allow_pickle left alone.
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "cPickle.load", "marshal.loads", "marshal.load", "shelve.open", "yaml.load", "yaml.unsafe_load",
    "joblib.load", "dill.load", "subprocess.getoutput", "subprocess.getstatusoutput",
    "commands.getoutput", "tarfile.open", "shutil.unpack_archive", "tempfile.mktemp"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "joblib", "marshal", "shelve", "yaml",
                     "commands"}
# benchmarks/reviews.py reads two named members of a package's archive, and extracts nothing.
ALLOWED = {("benchmarks/reviews.py", "tarfile.open")}


def sources(ending):
    """Returns the names of the project's files with an ending, as git sees them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*" + ending],
        cwd=ROOT, stdout=subprocess.PIPE, check=False)
    names = [name for name in listed.stdout.decode("utf-8").split("\n") if name]
    if listed.returncode != 0 or not names:
        pytest.skip("the project is not in a git checkout")
    return [name for name in names if os.path.exists(os.path.join(ROOT, name))]


def text_of(name):
    with io.open(os.path.join(ROOT, name), encoding="utf-8") as stream:
        return stream.read()


def dotted(node):
    """Returns the name that a call's function is written as: "os.system"."""
    if isinstance(node, ast.Attribute):
        return "%s.%s" % (dotted(node.value), node.attr)
    return node.id if isinstance(node, ast.Name) else "?"


def faults_of(text, name="x.py"):
    """Returns what must not stand in a source, list of str."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            faults += ["import " + one.name for one in node.names
                       if one.name.split(".")[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                FORBIDDEN_IMPORTS):
            faults.append("from %s import" % node.module)
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        settings = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in FORBIDDEN_CALLS and (name, called) not in ALLOWED:
            faults.append(called)
        for setting in ("shell", "allow_pickle"):
            if setting in settings and not _is_constant(settings[setting], False):
                faults.append("%s(%s=...)" % (called, setting))
        if called == "torch.load" and not _is_constant(settings.get("weights_only"), True):
            faults.append("torch.load without weights_only=True")
        if called == "tf.import_graph_def" and name not in GRAPH_READERS:
            faults.append(called)
    return faults


# Graphs are programs: these take only what this project has just made or written.
GRAPH_READERS = ("tensorflow_export.py", "tflite_export.py", "exported_graph.py", "inference.py",
                 "benchmarks/tflite.py")


def _is_constant(node, value):
    return node is not None and isinstance(node, (ast.Constant, ast.NameConstant)) and (
        node.value is value)


def test_no_source_runs_what_it_reads():
    checked = 0
    for name in sources(".py"):
        if not name.startswith("tests/"):
            assert not faults_of(text_of(name), name), name
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("text", [
    "import pickle", "from pickle import loads", "eval(text)", "exec(text)", "os.system(text)",
    "subprocess.run(text, shell=True)", "subprocess.Popen(text, shell=flag)", "yaml.load(stream)",
    "np.load(path, allow_pickle=True)", "torch.load(path)", "torch.load(path, weights_only=False)",
    "tf.import_graph_def(graph)"])
def test_the_check_finds_what_it_looks_for(text):
    assert faults_of(text)


@pytest.mark.parametrize("text", [
    "subprocess.run([text], shell=False)", "np.load(path)", "np.load(path, allow_pickle=False)",
    "torch.load(path, weights_only=True)", "re.compile(text)", "session.run(text)"])
def test_the_check_lets_sound_calls_pass(text):
    assert not faults_of(text)


def test_no_shell_script_evaluates_text():
    checked = 0
    for name in sources(".sh") + [".ci/run"]:
        lines = [re.sub(r"(^|\s)#.*", "", line) for line in text_of(name).split("\n")]
        for number, line in enumerate(lines, 1):
            assert not re.search(r"(^|[\s;|&(])(eval|source /dev/stdin)\s", line), (name, number)
            assert not re.search(r"\|\s*(ba|z)?sh(\s|$)", line), (name, number)
        checked += 1
    assert checked >= 6


def test_licence_and_notice_name_what_is_included():
    licence = " ".join(text_of("LICENSE").split())
    assert "Apache License Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    notice = text_of("NOTICE")
    with io.open(os.path.join(ROOT, "albert_config", "vocab.txt"), "rb") as stream:
        vocabulary = stream.read()
    for part in ("Apache License, Version 2.0", "albert_config/vocab.txt", "Google Research",
                 hashlib.md5(vocabulary).hexdigest(), format(len(vocabulary), ","),
                 "data/news_zh_1.txt", "data/clue_sample/"):
        assert part in notice, part


def test_the_security_note_says_what_holds():
    note = text_of("SECURITY.md")
    for part in ("TensorFlow 1.15", "1.15.5", "weights_only=True", "requirements/hashes/"):
        assert note.count(part) >= 2, part  # in both languages
