"""Errors, files and the console: what every script relies on."""

import errno
import gzip
import hashlib
import os
import subprocess
import sys

import pytest
from conftest import ROOT

import console
import errors
import files
from errors import UserError


def run_python(code):
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    out, err = process.communicate()
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


def script(body, more=""):
    return "import errors, files\ndef main(_):\n    %s\nerrors.run(main%s)" % (body, more)


def test_user_errors_end_without_a_traceback():
    status, _, err = run_python(script("raise errors.UserError('--x is wrong: use 3')"))
    assert (status, err) == (1, "ERROR: --x is wrong: use 3\n")


def test_file_errors_name_the_file():
    status, _, err = run_python(script("open('/no/such/file')"))
    assert (status, err) == (1, "ERROR: /no/such/file: No such file or directory\n")


def test_defects_keep_their_traceback():
    status, _, err = run_python(script("[][1]"))
    assert status != 0 and "IndexError" in err


def test_stray_arguments_are_refused():
    status, _, err = run_python("import sys; sys.argv = ['x', 'stray']\n" + script("pass"))
    assert status == 1 and "unexpected argument 'stray'" in err


def test_arguments_that_may_stand_there_are_passed_on():
    program = "import sys; sys.argv = ['x'] + %r\n" + script("print(_[1:])", ", positional=2")
    assert run_python(program % ["one", "two"])[:2] == (0, "['one', 'two']\n")
    status, _, err = run_python(program % ["one", "two", "three"])
    assert status == 1 and "unexpected argument 'three'" in err


def test_unknown_flags_end_without_a_traceback():
    status, out, err = run_python(
        "import sys; sys.argv = ['x', '--verbosty=1']\n" + script("print('ran')"))
    assert status != 0 and out == "" and "Traceback" not in err
    assert "Unknown command line flag 'verbosty'" in err and "verbosity" in err


def test_help_lists_the_flags_of_all_modules():
    """Those that a script shares with others, too, and not those of the libraries."""
    status, out, _ = run_python(
        "import runpy, sys; sys.argv = ['run_ner.py', '--help']\n"
        "runpy.run_path('run_ner.py', run_name='__main__')")
    assert status == 1  # absl's own
    for name in ("bert_config_file", "task_name", "[no]do_train", "precision", "fgm"):
        assert "\n  --%s:" % name in out, name
    assert "stderrthreshold" not in out


def test_nearest():
    assert errors.nearest("hiden_size", ["hidden_size", "vocab"]) == ' Did you mean "hidden_size"?'
    assert errors.nearest("zzz", ["hidden_size"]) == ""


def test_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeff一\u2028二\r\n三\u0085\n\n四".encode("utf-8"))
    assert list(files.read_lines(str(path))) == [
        (1, "一\u2028二"), (2, "三\u0085"), (3, ""), (4, "四")]


def test_a_wrong_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("好\n".encode("utf-8") + "中文内容\n".encode("gb18030"))
    with pytest.raises(UserError, match="x.txt line 2 is not UTF-8.*GB18030"):
        list(files.read_lines(str(path)))


@pytest.mark.parametrize("content, told", [
    ("中文\n".encode("utf-16"), "looks like UTF-16; .*iconv -f UTF-16 -t UTF-8"),
    (b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\xff[Content_Types].xml",
     "an office document; save it as text"),
    (b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\xfftrain.tsv", "packed by zip; unpack it first"),
    (b"BZh91AY&SY\xd8r\x01/", "packed by bzip2; unpack it first"),
    (gzip.compress("中文".encode("utf-8")), "packed by gzip"),
    (b"\xff\n", "iconv -f GB18030 -t UTF-8")])
def test_the_remedy_is_that_of_the_encoding(tmp_path, content, told):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.txt line 1 is not UTF-8.*" + told):
        list(files.read_lines(str(path)))


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(str(tmp_path / "x"))
    with pytest.raises(UserError, match="--data=.*x is a pipe or a device"):
        files.require_file(str(tmp_path / "x"), "data")


def test_json_faults_are_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}\n\n{"a": \n', encoding="utf-8")
    with pytest.raises(UserError, match="x.json line 3 is not valid JSON"):
        list(files.read_json_lines(str(path)))
    path.write_text("[1]\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1 holds list"):
        list(files.read_json_lines(str(path)))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as stream:
        stream.write(b"half")
        assert not any("tfrecord" in name for name in os.listdir(str(tmp_path))
                       if name != "x.tfrecord")
        raise RuntimeError("interrupted")
    assert os.listdir(str(tmp_path)) == ["x.tfrecord"]
    assert list(files.read_lines(path)) == [(1, "old")]


def test_globs_and_lists(tmp_path):
    for name in ("a.txt", "b.txt", "c.dat"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    folder = str(tmp_path)
    found = files.expand("%s/*.txt, %s/c.dat,%s/a.txt" % (folder, folder, folder), "input_file")
    assert [os.path.basename(path) for path in found] == ["a.txt", "b.txt", "c.dat"]
    with pytest.raises(UserError, match="--input_file: no file matches .*z"):
        files.expand(folder + "/z*", "input_file")
    (tmp_path / "empty").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="empty is empty"):
        files.expand(folder + "/empty", "input_file")


def test_a_file_may_move_to_another_disk(tmp_path, monkeypatch):
    replace, source = os.replace, tmp_path / "finished"
    source.write_text("all of it", encoding="utf-8")

    def between_disks(here, there):
        if here == str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(here, there)

    monkeypatch.setattr(os, "replace", between_disks)
    files.move(str(source), str(tmp_path / "place"))
    assert os.listdir(str(tmp_path)) == ["place"]
    assert (tmp_path / "place").read_text(encoding="utf-8") == "all of it"


def test_a_path_from_the_root_on():
    assert files.absolute("a") == os.path.join(os.getcwd(), "a")
    assert files.absolute("gs://bucket/a") == "gs://bucket/a"


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="--output_dir=.*out cannot be written to"):
        files.make_dir(str(tmp_path / "out"), "output_dir")


def test_a_fingerprint_is_that_of_the_content_or_of_its_start(tmp_path):
    content = os.urandom((1 << 20) + 17)
    path = tmp_path / "data"
    path.write_bytes(content)
    for most in (None, 0, 5, 1 << 20, (1 << 20) + 1, 1 << 30):
        expected = hashlib.sha256(content if most is None else content[:most]).hexdigest()
        assert files.fingerprint(str(path), most) == expected


def test_progress_tells_how_far_how_fast_and_how_long(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "time", lambda: now[0])
    progress = console.Progress("train", 3000, "step", start=1000)
    now[0] = 4.0
    progress.update(1400)  # too soon after the start to say anything
    now[0] = 10.0
    progress.update(2000, "loss 0.5")
    now[0] = 20.0
    progress.update(3000)
    assert capsys.readouterr().err == (
        "train  step 2,000/3,000  100 step/s  0:10 left  loss 0.5\n"
        "train  step 3,000/3,000  100 step/s\n")


def test_tables_line_up_with_chinese():
    text = console.table(["任务", "n"], [["情感", 1], ["ab", 22]])
    assert text.split("\n") == ["任务   n", "----  --", "情感   1", "ab    22"]


def test_durations():
    assert [console.duration(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
