"""Tasks: readers against hand-written rows and the real data; submissions written and packed."""

import io
import json
import os
import subprocess
import sys
import zipfile

import pytest

import submission
import tasks
from errors import UserError
from tasks import Example

AFQMC_ROW = {"sentence1": "怎么还款", "sentence2": "如何还款", "label": "1"}
WSC_ROW = {"target": {"span1_index": 0, "span1_text": "小明", "span2_index": 3, "span2_text": "他"},
           "idx": 7, "label": "true", "text": "小明说他累"}
CSL_ROW = {"id": 3, "abst": "摘要", "keyword": ["水泥", "强度"], "label": "0"}
TNEWS_ROW = {"label": "108", "label_desc": "news_edu", "sentence": "高考", "keywords": "学校"}


def write_json(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n"
                   for row in rows)
    with io.open(str(folder / name), "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    return str(folder)


write_tsv = write_json


def changed(row, **fields):
    """Returns a copy of a row with other fields; a field set to KeyError is left out."""
    copy = dict(row, **fields)
    return {key: value for key, value in copy.items() if value is not KeyError}


def complaint(function, *args):
    with pytest.raises(UserError) as caught:
        function(*args)
    return str(caught.value)


def run_script(root, *arguments):
    return subprocess.run([sys.executable] + list(arguments), cwd=root, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)


# The registry

def test_labels_stand_in_class_index_order():
    inference = ("contradiction", "entailment", "neutral")
    expected = {
        "afqmc": ("0", "1"), "csl": ("0", "1"), "lcqmc": ("0", "1"), "wsc": ("true", "false"),
        "cmnli": inference, "xnli": inference, "iflytek": tuple(str(n) for n in range(119)),
        "tnews": tuple(str(n) for n in range(100, 117) if n not in (105, 111)),
        "cola": ("0", "1"), "mrpc": ("0", "1"), "mnli": inference, "ocnli": inference,
        "c3": (), "chid": (),  # each question has options of its own
    }
    assert {name: tasks.get(name).labels for name in tasks.names()} == expected


def test_settings_are_the_published_ones():
    expected = {
        "afqmc": (128, 16, 2e-5, 3, 300), "cmnli": (128, 64, 3e-5, 2, 300),
        "csl": (128, 16, 1e-5, 5, 100), "iflytek": (128, 32, 2e-5, 3, 300),
        "tnews": (128, 16, 2e-5, 3, 300), "wsc": (128, 16, 1e-5, 10, 10),
        "lcqmc": (128, 64, 1e-4, 5, None), "xnli": (128, 32, 3e-5, 2, None),
        "cola": (512, 16, 1e-5, 10, None), "mnli": (512, 128, 3e-5, 3.26, None),
        "mrpc": (512, 32, 2e-5, 7, None),
        # Not published as far as we know, but for the lengths of c3 and chid.
        "ocnli": (128, 32, 3e-5, 3, 500), "c3": (512, 16, 2e-5, 8, 500),
        "chid": (64, 16, 2e-5, 3, 5000),
    }
    assert {name: tuple(tasks.settings(name)) for name in tasks.names()} == expected


@pytest.mark.parametrize("name, rows, steps", [
    ("cola", 8551, 5336), ("mnli", 392702, 10000), ("mrpc", 3668, 800)])
def test_settings_of_glue_come_to_the_papers_steps(name, rows, steps):
    settings = tasks.settings(name)
    run = rows / settings.train_batch_size * settings.num_train_epochs
    assert abs(run - steps) < 0.005 * steps


def test_settings_print_as_flags(root):
    done = run_script(root, "tasks.py", "--settings", "tnews")
    assert done.stdout == ("--max_seq_length=128 --train_batch_size=16 --learning_rate=2e-5 "
                           "--num_train_epochs=3 --save_checkpoints_steps=300\n")
    assert done.returncode == 0
    lcqmc = tasks.settings_flags(tasks.settings("lcqmc"))
    assert "save_checkpoints_steps" not in lcqmc
    assert "--learning_rate=0.0001 " in lcqmc


def test_settings_of_an_unknown_task_are_refused(root):
    done = run_script(root, "tasks.py", "--settings=tnew")
    assert done.returncode == 1
    assert done.stdout == ""
    assert 'ERROR: --settings=tnew is no known task. Did you mean "tnews"?' in done.stderr


def test_overview_has_a_line_for_every_task(root):
    lines = run_script(root, "tasks.py").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == tasks.names() + list(tasks.OWN_DATA)


@pytest.mark.parametrize("name", tasks.OWN_DATA)
def test_own_data_has_settings_and_is_no_registered_task(root, name):
    done = run_script(root, "tasks.py", "--settings=%s" % name)
    assert done.stdout == ("--max_seq_length=128 --train_batch_size=32 --learning_rate=0.0001 "
                           "--num_train_epochs=3\n")
    assert name not in tasks.names()
    message = complaint(tasks.get, name.upper())
    assert "--task_name=%s: that is your own data" % name.upper() in message
    assert "--task_name=%s --data_dir=" % name in message
    done = run_script(root, "tasks.py", "--submission_name=%s" % name)
    assert done.returncode == 1
    assert "--submission_name=%s: that is your own data" % name in done.stderr


def test_names_in_any_case_and_aliases():
    assert tasks.get("TNEWS") is tasks.get("tnews")
    assert tasks.get("lcqmc_pair") is tasks.get("LCQMC")
    assert tasks.get("lcqmc_pair").name == "lcqmc"
    assert tasks.clue_names() == [
        "afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc", "ocnli", "c3", "chid"]


@pytest.mark.parametrize("name", ["tnew", "tnews2", "", None])
def test_unknown_names_are_answered_with_the_known_ones(name):
    message = complaint(tasks.get, name)
    assert "--task_name" in message
    assert "afqmc, " in message
    assert "sentence_pair" in message
    assert ('Did you mean "tnews"?' in message) == bool(name)


def test_import_needs_no_tensorflow(root):
    done = run_script(root, "-c", "import sys, tasks, submission; "
                                  "sys.exit('tensorflow' in sys.modules)")
    assert done.returncode == 0, done.stderr


# Reading JSON rows

def test_pairs_and_row_numbers(tmp_path):
    folder = write_json(tmp_path, "train.json", [
        AFQMC_ROW, changed(AFQMC_ROW, label="0", sentence2="a\u2028b\u0085c")])
    assert tasks.get("afqmc").read(folder, "train") == [
        Example(0, "怎么还款", "如何还款", "1"), Example(1, "怎么还款", "a\u2028b\u0085c", "0")]


def test_ids_keep_their_type(tmp_path):
    rows = [dict(AFQMC_ROW, id=12), dict(AFQMC_ROW, id="12"), dict(AFQMC_ROW, idx=7),
            dict(AFQMC_ROW, id=0, idx=9), dict(AFQMC_ROW, id=None)]
    folder = write_json(tmp_path, "test.json", rows)
    assert [e.id for e in tasks.get("afqmc").read(folder, "test")] == [12, "12", 7, 0, 4]


@pytest.mark.parametrize("value", [1.5, True, [1], {"a": 1}])
def test_ids_of_other_types_are_refused(tmp_path, value):
    folder = write_json(tmp_path, "test.json", [dict(AFQMC_ROW, id=value)])
    assert 'line 1: the field "id" must be' in complaint(tasks.get("afqmc").read, folder, "test")


def test_an_id_that_comes_twice_is_refused_where_predictions_are_told_by_it(tmp_path):
    rows = [dict(AFQMC_ROW, id=3), dict(AFQMC_ROW, id="3"), dict(AFQMC_ROW, id=3)]
    message = complaint(tasks.get("afqmc").read, write_json(tmp_path, "test.json", rows), "test")
    assert "test.json line 3: id 3 is that of line 1 too" in message
    assert len(tasks.get("afqmc").read(write_json(tmp_path, "dev.json", rows), "dev")) == 3


def test_single_texts_use_the_sentence_only(tmp_path):
    folder = write_json(tmp_path, "dev.json", [TNEWS_ROW])
    assert tasks.get("tnews").read(folder, "dev") == [Example(0, "高考", None, "108")]
    assert tasks.get("iflytek").read(folder, "dev") == [Example(0, "高考", None, "108")]


@pytest.mark.parametrize("name, value, label", [
    ("tnews", 108, "108"), ("tnews", 108.0, "108"), ("tnews", "108", "108"),
    ("iflytek", 0, "0"), ("iflytek", 118, "118"),
])
def test_labels_as_numbers_equal_their_strings(tmp_path, name, value, label):
    folder = write_json(tmp_path, "train.json", [changed(TNEWS_ROW, label=value)])
    assert tasks.get(name).read(folder, "train")[0].label == label


@pytest.mark.parametrize("value, label", [(True, "true"), (False, "false"), ("false", "false")])
def test_labels_as_booleans_equal_their_strings(tmp_path, value, label):
    folder = write_json(tmp_path, "train.json", [changed(WSC_ROW, label=value)])
    assert tasks.get("wsc").read(folder, "train")[0].label == label


@pytest.mark.parametrize("value", ["105", 105, 108.5, True, "", "-", [], "new_edu", -1])
def test_unknown_labels_are_refused(tmp_path, value):
    folder = write_json(tmp_path, "train.json", [TNEWS_ROW, changed(TNEWS_ROW, label=value)])
    message = complaint(tasks.get("tnews").read, folder, "train")
    assert os.path.join(folder, "train.json") + " line 2: " in message
    shown = value if isinstance(value, str) else json.dumps(value)
    assert 'label "%s" is unknown to task tnews' % shown in message
    assert "100, 101, 102, 103, 104, 106," in message


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("value", [KeyError, None])
def test_rows_without_label_are_for_test_only(tmp_path, split, value):
    folder = write_json(tmp_path, split + ".json", [changed(AFQMC_ROW, label=value)])
    message = complaint(tasks.get("afqmc").read, folder, split)
    assert 'line 1: the field "label" is missing, and only test rows may go without' in message


def test_test_rows_may_or_may_not_carry_labels(tmp_path):
    values = [KeyError, None, "", "-", -1, "1", 0]
    folder = write_json(tmp_path, "test.json", [changed(AFQMC_ROW, label=v) for v in values])
    assert [e.label for e in tasks.get("afqmc").read(folder, "test")] == [None] * 5 + ["1", "0"]


def test_unknown_labels_of_test_rows_are_refused(tmp_path):
    folder = write_json(tmp_path, "test.json", [changed(AFQMC_ROW, label="2")])
    assert 'line 1: label "2" is unknown' in complaint(tasks.get("afqmc").read, folder, "test")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_cmnli_leaves_disagreed_rows_out_and_says_so(tmp_path, capsys, split):
    rows = [changed(AFQMC_ROW, label=label) for label in ("neutral", "-", "entailment", "-")]
    folder = write_json(tmp_path, split + ".json", rows)
    examples = tasks.get("cmnli").read(folder, split)
    assert [(e.id, e.label) for e in examples] == [(0, "neutral"), (2, "entailment")]
    assert 'their label is "-": 2 (first: line 2)' in capsys.readouterr().err


def test_cmnli_keeps_every_test_row(tmp_path):
    rows = [changed(AFQMC_ROW, label=label) for label in ("neutral", "-")]
    folder = write_json(tmp_path, "test.json", rows)
    assert [e.label for e in tasks.get("cmnli").read(folder, "test")] == ["neutral", None]


@pytest.mark.parametrize("name, row, field", [
    ("afqmc", changed(AFQMC_ROW, sentence2=KeyError), "sentence2"),
    ("afqmc", changed(AFQMC_ROW, sentence1=5), "sentence1"),
    ("afqmc", changed(AFQMC_ROW, sentence1=None), "sentence1"),
    ("tnews", changed(TNEWS_ROW, sentence=["高考"]), "sentence"),
    ("csl", changed(CSL_ROW, keyword="水泥"), "keyword"),
    ("csl", changed(CSL_ROW, keyword=["水泥", 3]), "keyword"),
    ("csl", changed(CSL_ROW, abst=KeyError), "abst"),
    ("wsc", changed(WSC_ROW, target=KeyError), "target"),
    ("wsc", changed(WSC_ROW, target="x"), "target"),
    ("wsc", changed(WSC_ROW, target=changed(WSC_ROW["target"], span2_text=KeyError)),
     "target.span2_text"),
    ("wsc", changed(WSC_ROW, target=changed(WSC_ROW["target"], span1_index="0")),
     "target.span1_index"),
    ("wsc", changed(WSC_ROW, target=changed(WSC_ROW["target"], span1_index=True)),
     "target.span1_index"),
])
def test_wrong_fields_are_named_with_file_and_line(tmp_path, name, row, field):
    good = {"afqmc": AFQMC_ROW, "tnews": TNEWS_ROW, "csl": CSL_ROW, "wsc": WSC_ROW}[name]
    folder = write_json(tmp_path, "train.json", [good, good, row])
    message = complaint(tasks.get(name).read, folder, "train")
    assert os.path.join(folder, "train.json") + ' line 3: the field "%s"' % field in message


def test_half_a_character_is_refused(tmp_path):
    folder = write_json(tmp_path, "train.json", [
        '{"sentence1": "a\\ud83d", "sentence2": "b", "label": "0"}\n'])
    message = complaint(tasks.get("afqmc").read, folder, "train")
    assert 'line 1: the field "sentence1" holds half a character (\\ud83d)' in message


def test_malformed_json_is_named_with_file_and_line(tmp_path):
    folder = write_json(tmp_path, "train.json", [AFQMC_ROW, '{"sentence1": \n'])
    assert "train.json line 2 is not valid JSON" in complaint(
        tasks.get("afqmc").read, folder, "train")


def test_one_text_may_be_empty_but_not_all(tmp_path):
    task = tasks.get("afqmc")
    folder = write_json(tmp_path, "train.json", [changed(AFQMC_ROW, sentence2="")])
    assert task.read(folder, "train")[0].text_b == ""
    write_json(tmp_path, "train.json", [AFQMC_ROW, changed(AFQMC_ROW, sentence1=" ", sentence2="")])
    assert "line 2: the text is empty" in complaint(task.read, folder, "train")
    write_json(tmp_path, "train.json", [changed(TNEWS_ROW, sentence="")])
    assert "line 1: the text is empty" in complaint(tasks.get("tnews").read, folder, "train")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    folder = write_json(tmp_path, "dev.json", [content])
    assert "dev.json holds no example of task afqmc" in complaint(
        tasks.get("afqmc").read, folder, "dev")


def test_csl_joins_keywords_by_a_space(tmp_path):
    folder = write_json(tmp_path, "train.json", [CSL_ROW, changed(CSL_ROW, keyword=[], id=4)])
    assert tasks.get("csl").read(folder, "train") == [
        Example(3, "水泥 强度", "摘要", "0"), Example(4, "", "摘要", "0")]


# WSC's marks

def test_wsc_marks_both_spans_in_one_text(tmp_path):
    folder = write_json(tmp_path, "train.json", [WSC_ROW])
    assert tasks.get("wsc").read(folder, "train") == [Example(7, "_小明_说[他]累", None, "true")]


@pytest.mark.parametrize("first, second, marked", [
    ((0, 2), (3, 4), "_ab_c[d]ef"),
    ((3, 5), (0, 1), "[a]bc_de_f"),
    ((0, 2), (2, 4), "_ab_[cd]ef"),  # adjacent
    ((2, 4), (0, 2), "[ab]_cd_ef"),
    ((0, 4), (1, 3), "_a[bc]d_ef"),  # nested
    ((1, 3), (0, 4), "[a_bc_d]ef"),
    ((0, 2), (0, 4), "[_ab_cd]ef"),  # nested, same start
    ((0, 4), (0, 2), "_[ab]cd_ef"),
    ((2, 4), (0, 4), "[ab_cd_]ef"),  # nested, same end
    ((0, 4), (2, 4), "_ab[cd]_ef"),
    ((1, 3), (1, 3), "a_[bc]_def"),  # the same span
    ((0, 3), (2, 5), "_ab[c_de]f"),  # overlapping
    ((0, 1), (5, 6), "_a_bcde[f]"),
])
def test_spans_are_marked_wherever_they_lie(first, second, marked):
    assert tasks.mark_spans("abcdef", first, second) == marked


def test_offsets_count_characters_not_bytes_or_utf16_units(tmp_path):
    target = {"span1_index": 1, "span1_text": "小明", "span2_index": 4, "span2_text": "他"}
    folder = write_json(tmp_path, "train.json", [
        changed(WSC_ROW, text="😀小明说他累", target=target)])
    assert tasks.get("wsc").read(folder, "train")[0].text_a == "😀_小明_说[他]累"


@pytest.mark.parametrize("fields", [
    {"span2_index": 5}, {"span2_index": -1}, {"span1_index": 4}, {"span1_text": ""},
    {"span1_index": 10 ** 12},
])
def test_spans_beyond_the_text_are_refused(tmp_path, fields):
    row = changed(WSC_ROW, target=changed(WSC_ROW["target"], **fields))
    folder = write_json(tmp_path, "train.json", [WSC_ROW, row])
    message = complaint(tasks.get("wsc").read, folder, "train")
    assert os.path.join(folder, "train.json") + " line 2: span" in message
    assert "does not lie within the text of 5 characters" in message


def test_spans_that_differ_from_the_text_are_marked_by_index_and_told(tmp_path, capsys):
    row = changed(WSC_ROW, target=changed(WSC_ROW["target"], span2_text="她"))
    folder = write_json(tmp_path, "train.json", [WSC_ROW, row])
    assert tasks.get("wsc").read(folder, "train")[1].text_a == "_小明_说[他]累"
    assert "not what stands at span2_index: 1 (first: line 2)" in capsys.readouterr().err


# Where the files are looked for

def test_the_parent_folder_serves_and_this_is_said(tmp_path, capsys):
    write_json(tmp_path / "tnews", "train.json", [TNEWS_ROW])
    write_json(tmp_path / "afqmc", "train.json", [AFQMC_ROW])
    task = tasks.get("tnews")
    assert task.path(str(tmp_path), "train") == str(tmp_path / "tnews" / "train.json")
    assert task.read(str(tmp_path), "train")[0].text_a == "高考"
    assert "reading " + str(tmp_path / "tnews" / "train.json") in capsys.readouterr().err
    assert task.read(str(tmp_path / "tnews"), "train")[0].text_a == "高考"
    assert capsys.readouterr().err == ""


def test_a_folder_with_files_of_its_own_is_not_taken_for_a_parent(tmp_path):
    write_json(tmp_path, "train.json", [TNEWS_ROW])
    write_json(tmp_path / "tnews", "dev.json", [TNEWS_ROW])
    task = tasks.get("tnews")
    assert task.find(str(tmp_path), "dev") is None
    assert str(tmp_path / "dev.json") + " does not exist" in complaint(
        task.path, str(tmp_path), "dev")


def test_two_fitting_subfolders_are_refused(tmp_path):
    write_json(tmp_path / "wsc", "train.json", [WSC_ROW])
    write_json(tmp_path / "cluewsc2020", "train.json", [WSC_ROW])
    message = complaint(tasks.get("wsc").read, str(tmp_path), "train")
    assert str(tmp_path / "wsc") in message
    assert str(tmp_path / "cluewsc2020") in message


def test_missing_files_are_told_with_flag_and_remedy(tmp_path):
    message = complaint(tasks.get("tnews").read, str(tmp_path), "train")
    assert str(tmp_path / "train.json") + " does not exist: --data_dir" in message
    assert "python download.py --name=tnews --output_dir=CLUEdataset" in message
    assert "--data_dir is missing" in complaint(tasks.get("tnews").read, "", "train")
    write_json(tmp_path, "train.json", [TNEWS_ROW])
    assert "is a file" in complaint(
        tasks.get("tnews").read, str(tmp_path / "train.json"), "train")


# LCQMC

def test_lcqmc_has_no_header_and_plain_quotes(tmp_path, capsys):
    folder = write_tsv(tmp_path, "train.txt", [
        '"你好\t他说"好"吗\t1\n', "二\t三\t0\r\n", "四\u2028\t五\t1\n", "\n"])
    assert tasks.get("lcqmc").read(folder, "train") == [
        Example(0, '"你好', '他说"好"吗', "1"), Example(1, "二", "三", "0"),
        Example(2, "四\u2028", "五", "1")]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("header", [
    "text_a\ttext_b\tlabel", "sentence1\tsentence2\tlabel", "Query1\tQuery2\tLabel\r",
    "\ufeffquestion1\tquestion2\tscore", "q1\tq2\tis_same", "句子1\t句子2\t标签"])
def test_lcqmc_passes_over_a_header_and_says_so(tmp_path, capsys, header):
    folder = write_tsv(tmp_path, "train.txt", [header + "\n", "二\t三\t0\n"])
    assert tasks.get("lcqmc").read(folder, "train") == [Example(0, "二", "三", "0")]
    assert "train.txt: line 1 reads as a header" in capsys.readouterr().err


def test_lcqmc_keeps_a_first_row_whose_texts_look_like_names(tmp_path):
    folder = write_tsv(tmp_path, "train.txt", ["text_a\ttext_b\t1\n", "label\tquery\t0\n"])
    assert len(tasks.get("lcqmc").read(folder, "train")) == 2


@pytest.mark.parametrize("rows, problem", [
    (["一\t二\t1\n", "一\t二\n"], "line 2 has 2 columns where 3 are expected"),
    (["一\t二\t1\n", "一\t二\t三\t1\n"], "line 2 has 4 columns where 3 are expected"),
    (["一 二 1\n"], "line 1 has 1 column where 3 are expected"),
    (["一\t二\tx\n"], 'line 1: label "x" is unknown'),
    (["一\t二\t1\n", "text_a\ttext_b\tlabel\n"], 'line 2: label "label" is unknown'),
    (["一\t二\t\n"], 'line 1: label "" is unknown'),
    (["一\t二\t1\n", "\n", "一\t二\t1\n"], "line 2 is blank, and rows follow it"),
    (["\t \t1\n"], "line 1: the text is empty"),
    (["text_a\ttext_b\tlabel\n"], "holds no example"),
])
def test_lcqmc_never_drops_a_row_in_silence(tmp_path, rows, problem):
    folder = write_tsv(tmp_path, "dev.txt", rows)
    message = complaint(tasks.get("lcqmc").read, folder, "dev")
    assert os.path.join(folder, "dev.txt") in message
    assert problem in message


def test_lcqmc_misses_the_test_file_only_when_asked_for_it(tmp_path):
    write_tsv(tmp_path, "train.txt", ["一\t二\t1\n"])
    task = tasks.get("lcqmc_pair")
    assert len(task.read(str(tmp_path), "train")) == 1
    assert task.find(str(tmp_path), "test") is None
    message = complaint(task.read, str(tmp_path), "test")
    assert str(tmp_path / "test.txt") + " does not exist: --data_dir" in message
    assert "licensed" in message


def test_other_encodings_are_named_with_the_line(tmp_path):
    (tmp_path / "train.txt").write_bytes(
        "一\t二\t1\n".encode("utf-8") + "怎么还款\t如何还款\t1\n".encode("gb18030"))
    message = complaint(tasks.get("lcqmc").read, str(tmp_path), "train")
    assert "train.txt line 2 is not UTF-8" in message


# XNLI

XNLI_HEADER = "\t".join(["language", "gold_label", "p1", "p2", "p3", "p4", "sentence1", "sentence2",
                         "promptID"]) + "\n"


def xnli_line(language, label, premise, hypothesis):
    return "\t".join([language, label, "", "", "", "", premise, hypothesis, "1"]) + "\n"


def test_xnli_reads_googles_archive(tmp_path, capsys):
    write_tsv(tmp_path / "multinli", "multinli.train.zh.tsv", [
        "premise\thypo\tlabel\n", '"前提\t假设\tcontradictory\n', "二\t三\tneutral\n"])
    write_tsv(tmp_path, "xnli.dev.tsv", [
        XNLI_HEADER, xnli_line("ar", "neutral", "a", "b"), xnli_line("zh", "neutral", "前", "后"),
        xnli_line("en", "neutral", "a", "b"), xnli_line("zh", "contradiction", "一", "二")])
    task, folder = tasks.get("xnli"), str(tmp_path)
    assert task.read(folder, "train") == [
        Example(0, '"前提', "假设", "contradiction"), Example(1, "二", "三", "neutral")]
    capsys.readouterr()
    assert task.read(folder, "dev") == [
        Example(0, "前", "后", "neutral"), Example(1, "一", "二", "contradiction")]
    assert "rows in other languages than zh passed over: 2" in capsys.readouterr().err


def test_xnli_keeps_first_rows_that_are_no_header(tmp_path):
    write_tsv(tmp_path / "multinli", "multinli.train.zh.tsv", ["一\t二\tneutral\n"])
    write_tsv(tmp_path, "xnli.test.tsv", [xnli_line("zh", "entailment", "一", "二")])
    assert len(tasks.get("xnli").read(str(tmp_path), "train")) == 1
    assert len(tasks.get("xnli").read(str(tmp_path), "test")) == 1


def test_xnli_reads_clues_json(tmp_path):
    rows = [{"premise": "前", "hypo": "后", "label": "contradictory"},
            {"premise": "一", "hypo": "二", "label": "entailment"}]
    folder = write_json(tmp_path, "train.json", rows)
    assert tasks.get("xnli").read(folder, "train") == [
        Example(0, "前", "后", "contradiction"), Example(1, "一", "二", "entailment")]


@pytest.mark.parametrize("line, problem", [
    ("zh\tneutral\t一\t二\n", "line 2 has 4 columns"),
    (xnli_line("klingon", "neutral", "a", "b"), "line 2: the first column must name one of"),
    (xnli_line("zh", "maybe", "a", "b"), 'line 2: label "maybe" is unknown'),
    (xnli_line("fr", "neutral", "a", "b"), "holds no example"),
])
def test_xnli_refuses_rows_at_fault(tmp_path, line, problem):
    folder = write_tsv(tmp_path, "xnli.dev.tsv", [XNLI_HEADER, line])
    message = complaint(tasks.get("xnli").read, folder, "dev")
    assert "xnli.dev.tsv" in message
    assert problem in message


def test_xnli_names_both_forms_when_neither_is_there(tmp_path):
    message = complaint(tasks.get("xnli").read, str(tmp_path), "train")
    assert "neither %s nor " % (tmp_path / "multinli/multinli.train.zh.tsv") in message
    assert str(tmp_path / "train.json") in message


# GLUE

MNLI_TRAIN = "\t".join([
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
    "sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "label1", "gold_label"]) + "\n"
MNLI_DEV = MNLI_TRAIN.replace("label1\t", "label1\tlabel2\tlabel3\tlabel4\tlabel5\t")
MNLI_TEST = MNLI_TRAIN.replace("\tlabel1\tgold_label", "")
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def mnli_line(number, first, second, *labels):
    parts = [str(number), "7", "7n", "fiction", "( a )", "( b )", "(ROOT a)", "(ROOT b)", first]
    return "\t".join(parts + [second] + list(labels)) + "\n"


def test_mnli_reads_glues_files(tmp_path, capsys):
    write_tsv(tmp_path, "train.tsv", [
        MNLI_TRAIN, mnli_line(0, 'He said "no.', "No.", "neutral", "neutral"),
        mnli_line(1, "a", "b", "entailment", "contradiction"), mnli_line(2, "c", "d", "-", "-")])
    five = ["neutral"] * 5
    write_tsv(tmp_path, "dev_matched.tsv", [
        MNLI_DEV, mnli_line(0, "a", "b", *(five + ["entailment"]))])
    write_tsv(tmp_path, "test_matched.tsv", [MNLI_TEST, mnli_line(0, "a", "b")])
    task, folder = tasks.get("MNLI"), str(tmp_path)
    assert task.read(folder, "train") == [
        Example(0, 'He said "no.', "No.", "neutral"), Example(1, "a", "b", "contradiction")]
    assert 'their label is "-": 1 (first: line 4)' in capsys.readouterr().err
    assert task.read(folder, "dev") == [Example(0, "a", "b", "entailment")]
    assert task.read(folder, "test") == [Example(0, "a", "b", None)]


def test_mrpc_reads_glues_files_in_glues_folder(tmp_path):
    folder = tmp_path / "MRPC"
    write_tsv(folder, "train.tsv", ["\ufeff" + MRPC, '1\t12\t13\t"A, he said.\tB "\r\n'])
    write_tsv(folder, "test.tsv", [MRPC.replace("Quality", "index"), "0\t12\t13\tA\tB\n"])
    task = tasks.get("mrpc")
    assert task.read(str(tmp_path), "train") == [Example(0, '"A, he said.', 'B "', "1")]
    assert task.read(str(tmp_path), "test") == [Example(0, "A", "B", None)]


def test_mrpc_reads_microsofts_files_without_the_dev_rows(tmp_path, capsys):
    write_tsv(tmp_path, "msr_paraphrase_train.txt", [
        MRPC, "1\t1\t2\tA\tB\n", "0\t3\t4\tC\tD\n", "1\t5\t6\tE\tF\n"])
    write_tsv(tmp_path, "msr_paraphrase_test.txt", [MRPC, "1\t7\t8\tG\tH\n"])
    task, folder = tasks.get("mrpc"), str(tmp_path)
    assert [e.text_a for e in task.read(folder, "train")] == ["A", "C", "E"]
    assert capsys.readouterr().err == ""
    assert task.read(folder, "test") == [Example(0, "G", "H", "1")]
    write_tsv(tmp_path, "dev.tsv", [MRPC, "0\t3\t4\tC\tD\n"])
    assert task.read(folder, "train") == [Example(0, "A", "B", "1"), Example(1, "E", "F", "1")]
    assert "rows left out because they are in dev.tsv: 1" in capsys.readouterr().err
    assert task.read(folder, "dev") == [Example(0, "C", "D", "0")]


def test_cola_reads_glues_files(tmp_path, capsys):
    write_tsv(tmp_path, "train.tsv", [
        'gj04\t1\t\tThe sailors "rode.\n', "c_13\t0\t*\tThem love.\n"])
    write_tsv(tmp_path, "test.tsv", ["index\tsentence\n", "0\tBill whistled.\n"])
    task, folder = tasks.get("cola"), str(tmp_path)
    assert task.read(folder, "train") == [
        Example(0, 'The sailors "rode.', None, "1"), Example(1, "Them love.", None, "0")]
    assert task.read(folder, "test") == [Example(0, "Bill whistled.", None, None)]
    assert capsys.readouterr().err == ""
    write_tsv(tmp_path, "dev.tsv", ["source\tlabel\tstar\tsentence\n", "a\t1\t\tsentence\n"])
    assert task.read(folder, "dev") == [Example(0, "sentence", None, "1")]
    assert "line 1 reads as a header" in capsys.readouterr().err


@pytest.mark.parametrize("name, split, lines, problem", [
    ("cola", "train", ["a\t1\t\tb\n", "a\t1\tb\n"], "train.tsv line 2 has 3 columns where 4"),
    ("cola", "test", ["index\tsentence\n", "0\ta\tb\n"], "test.tsv line 2 has 3 columns where 2"),
    ("cola", "dev", ["a\t2\t\tb\n"], 'line 1: label "2" is unknown to task cola'),
    ("mrpc", "train", ["1\t1\t2\tA\tB\n"], 'line 1 must name the columns of task mrpc; "#1'),
    ("mrpc", "dev", [MRPC.replace("Quality", "index"), "1\t1\t2\tA\tB\n"], '"Quality" is missing'),
    ("mrpc", "train", [MRPC, "1\t1\t2\tA B\n"], "line 2 has 4 columns where 5 are expected"),
    ("mrpc", "train", [MRPC], "holds no example of task mrpc"),
    ("mnli", "train", [MNLI_TRAIN, mnli_line(0, "a", "b", "neutral", "maybe")],
     'line 2: label "maybe" is unknown'),
])
def test_glue_never_drops_a_row_in_silence(tmp_path, name, split, lines, problem):
    folder = write_tsv(tmp_path, split + ".tsv", lines)
    assert problem in complaint(tasks.get(name).read, folder, split)


def test_glues_files_are_named_where_they_are_missing(tmp_path):
    message = complaint(tasks.get("mnli").read, str(tmp_path), "dev")
    assert str(tmp_path / "dev_matched.tsv") + " does not exist" in message
    assert "train.tsv, dev_matched.tsv, test_matched.tsv" in message


# The real data

@pytest.mark.parametrize("name", ["afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc"])
@pytest.mark.parametrize("split", tasks.SPLITS)
def test_real_clue_files_are_read_whole(shared_data, capsys, name, split):
    task, folder = tasks.get(name), os.path.join(shared_data, "clue", name)
    examples = task.read(folder, split)
    with io.open(task.path(folder, split), "rb") as stream:
        assert len(examples) == stream.read().count(b"\n")
    if split == "test":
        assert [example.id for example in examples] == list(range(len(examples)))
        assert {example.label for example in examples} == {None}
    else:
        assert {example.label for example in examples} <= set(task.labels)
    paired = name in ("afqmc", "cmnli", "csl")
    assert all((example.text_b is not None) == paired for example in examples)
    assert capsys.readouterr().err == ""  # nothing was left out, no span disagrees


@pytest.mark.parametrize("split", ["train", "dev"])
def test_real_lcqmc_is_read_whole(shared_data, capsys, split):
    folder = os.path.join(shared_data, "lcqmc")
    examples = tasks.get("lcqmc").read(folder, split)
    with io.open(os.path.join(folder, split + ".txt"), "rb") as stream:
        assert len(examples) == stream.read().count(b"\n")
    assert {example.label for example in examples} == {"0", "1"}
    assert capsys.readouterr().err == ""


def test_real_wsc_texts_hold_just_the_marks_more(shared_data):
    folder = os.path.join(shared_data, "clue", "wsc")
    examples = tasks.get("wsc").read(folder, "train")
    with io.open(os.path.join(folder, "train.json"), encoding="utf-8", newline="\n") as stream:
        rows = [json.loads(line) for line in stream]
    for example, row in zip(examples, rows):
        target = row["target"]
        assert len(example.text_a) == len(row["text"]) + 4
        assert "_%s_" % target["span1_text"] in example.text_a
        assert "[%s]" % target["span2_text"] in example.text_a


def test_real_tnews_descriptions_are_the_tables(shared_data):
    descriptions = tasks.get("tnews").label_descriptions
    found = set()
    for split in ("train", "dev"):
        path = os.path.join(shared_data, "clue", "tnews", split + ".json")
        with io.open(path, encoding="utf-8", newline="\n") as stream:
            found |= {(row["label"], row["label_desc"]) for row in map(json.loads, stream)}
    assert found == set(descriptions.items())


# Submissions

def test_submission_names():
    assert [tasks.get(name).submission_name for name in tasks.names()] == [
        "afqmc_predict.json", "cmnli_predict.json", "csl_predict.json", "iflytek_predict.json",
        "tnews11_predict.json", "cluewsc11_predict.json", "ocnli_50k_predict.json",
        "c311_predict.json", "chid11_predict.json"] + [None] * 5


def examples_with_ids(*ids):
    return [Example(id_, "文", None, None) for id_ in ids]


def test_submission_lines_as_clue_wants_them(tmp_path):
    path = str(tmp_path / "p.json")
    tasks.write_submission(tasks.get("afqmc"), examples_with_ids(0, "b1"), ["0", "1"], path)
    with io.open(path, encoding="utf-8") as stream:
        assert stream.read() == '{"id": 0, "label": "0"}\n{"id": "b1", "label": "1"}\n'
    tasks.write_submission(tasks.get("tnews"), examples_with_ids(5), ["108"], path)
    with io.open(path, encoding="utf-8") as stream:
        assert stream.read() == '{"id": 5, "label": "108", "label_desc": "news_edu"}\n'
    assert os.listdir(str(tmp_path)) == ["p.json"]


@pytest.mark.parametrize("labels", [["0"], ["0", "2"], ["0", 1]])
def test_a_submission_of_wrong_labels_is_not_written(tmp_path, labels):
    with pytest.raises(ValueError):
        tasks.write_submission(tasks.get("afqmc"), examples_with_ids(0, 1), labels,
                               str(tmp_path / "p.json"))
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("name", [name for name in tasks.clue_names() if tasks.get(name).labels])
def test_written_submissions_pass_the_check(tmp_path, name):
    task, path = tasks.get(name), str(tmp_path / "p.json")
    examples = examples_with_ids(*range(len(task.labels)))
    tasks.write_submission(task, examples, list(task.labels), path)
    tasks.check_submission(task, examples, path)


@pytest.mark.parametrize("lines, problem", [
    (['{"id": 0, "label": "0"}'], "holds 1 predictions where the test file of task afqmc has 2"),
    (['{"id": 0, "label": "0"}'] * 3, "holds 3 predictions"),
    (['{"id": 1, "label": "0"}', '{"id": 0, "label": "0"}'], "line 1: id 1 where"),
    (['{"id": 0, "label": "0"}', '{"id": "1", "label": "0"}'], 'line 2: id "1" where'),
    (['{"id": 0, "label": "0"}', '{"id": 1.0, "label": "0"}'], "line 2: id 1.0 where"),
    (['{"id": false, "label": "0"}', '{"id": 1, "label": "0"}'], "line 1: id false where"),
    (['{"id": 0, "label": "2"}', '{"id": 1, "label": "0"}'], 'line 1: label "2" is none'),
    (['{"id": 0, "label": 0}', '{"id": 1, "label": "0"}'], "line 1: label 0 is none"),
    (['{"id": 0, "label": "0"}', '{"id": 1}'], "line 2: the keys are id where"),
    (['{"id": 0, "label": "0"}', '{"id": 1, "label": "0", "x": 1}'], "line 2: the keys are"),
    (['{"id": 0, "label": "0"}', "", '{"id": 1, "label": "0"}'], "line 3: a blank line"),
    (['{"id": 0, "label": "0"}', "{"], "line 2 is not valid JSON"),
])
def test_faulty_submissions_are_refused(tmp_path, lines, problem):
    write_json(tmp_path, "p.json", ["\n".join(lines) + "\n"])
    message = complaint(tasks.check_submission, tasks.get("afqmc"), examples_with_ids(0, 1),
                        str(tmp_path / "p.json"))
    assert str(tmp_path / "p.json") in message
    assert problem in message


@pytest.mark.parametrize("line, problem", [
    ('{"id": 0, "label": "108"}', "where id, label, label_desc are expected"),
    ('{"id": 0, "label": "108", "label_desc": "news_car"}', 'label_desc "news_car" where'),
])
def test_tnews_submissions_need_the_right_description(tmp_path, line, problem):
    write_json(tmp_path, "p.json", [line + "\n"])
    assert problem in complaint(tasks.check_submission, tasks.get("tnews"), examples_with_ids(0),
                                str(tmp_path / "p.json"))


# The zip

@pytest.fixture
def predictions(tmp_path):
    """Test files of two tasks, and fitting predictions in <task>_output/."""
    write_json(tmp_path / "data" / "afqmc", "test.json", [dict(AFQMC_ROW, id=0),
                                                          dict(AFQMC_ROW, id=1)])
    write_json(tmp_path / "data" / "wsc", "test.json", [changed(WSC_ROW, label=KeyError)])
    for name, labels in (("afqmc", ["1", "0"]), ("wsc", ["false"])):
        task = tasks.get(name)
        output = tmp_path / (name + "_output")
        output.mkdir()
        tasks.write_submission(task, task.read(str(tmp_path / "data" / name), "test"), labels,
                               str(output / task.submission_name))
    return tmp_path


def pack_in_shell(root, folder, *more):
    return run_script(root, "submission.py", "--data_dir=%s" % (folder / "data"),
                      "--output_file=%s" % (folder / "out" / "clue.zip"),
                      "--predictions=%s" % (folder / "*_output" / "*_predict.json"), *more)


def test_the_zip_holds_the_files_without_folders(root, predictions):
    done = pack_in_shell(root, predictions)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    assert [line.split() for line in lines] == [["afqmc", "afqmc_predict.json", "2"],
                                                ["wsc", "cluewsc11_predict.json", "1"]]
    assert "tasks not in it: cmnli, csl, iflytek, tnews" in done.stderr
    with zipfile.ZipFile(str(predictions / "out" / "clue.zip")) as archive:
        assert archive.namelist() == ["afqmc_predict.json", "cluewsc11_predict.json"]
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        assert archive.read("cluewsc11_predict.json") == b'{"id": 7, "label": "false"}\n'
    assert os.listdir(str(predictions / "out")) == ["clue.zip"]


def test_packing_twice_gives_equal_bytes(predictions):
    afqmc = str(predictions / "afqmc_output" / "afqmc_predict.json")
    wsc = str(predictions / "wsc_output" / "cluewsc11_predict.json")
    first, second = predictions / "1.zip", predictions / "2.zip"
    submission.pack([afqmc, wsc], str(first))
    os.utime(afqmc, (1000000000, 1000000000))
    submission.pack([wsc, afqmc], str(second))
    assert first.read_bytes() == second.read_bytes()


def test_a_faulty_prediction_leaves_no_zip(root, predictions):
    path = predictions / "afqmc_output" / "afqmc_predict.json"
    path.write_bytes(b'{"id": 0, "label": "1"}\n')
    done = pack_in_shell(root, predictions)
    assert done.returncode == 1
    assert "ERROR: %s holds 1 predictions" % path in done.stderr
    assert "Traceback" not in done.stderr
    assert not (predictions / "out").exists()


def test_files_of_no_task_are_refused(predictions):
    message = complaint(submission.recognise, "out/tnews_predict.json")
    assert 'out/tnews_predict.json is not the name of a CLUE submission file' in message
    assert 'Did you mean "tnews11_predict.json"?' in message


def test_two_files_of_one_task_are_refused(predictions):
    first = str(predictions / "afqmc_output" / "afqmc_predict.json")
    second = str(predictions / "old" / "afqmc_predict.json")
    message = complaint(submission.check, [first, second], str(predictions / "data"))
    assert first in message
    assert second in message


def test_a_single_tasks_folder_serves_as_data_dir(predictions):
    path = str(predictions / "afqmc_output" / "afqmc_predict.json")
    checked = submission.check([path], str(predictions / "data" / "afqmc"))
    assert checked == [(tasks.get("afqmc"), path, 2)]


def test_missing_test_files_and_flags_are_told(root, predictions):
    (predictions / "data" / "wsc" / "test.json").unlink()
    done = pack_in_shell(root, predictions)
    assert done.returncode == 1
    assert "test.json does not exist: --data_dir" in done.stderr
    assert "--data_dir is missing" in run_script(root, "submission.py").stderr
    done = run_script(root, "submission.py", "--data_dir=.")
    assert "--predictions is missing" in done.stderr
    done = pack_in_shell(root, predictions, "--output_file=%s" % predictions)
    assert "is a folder: name a zip file" in done.stderr
