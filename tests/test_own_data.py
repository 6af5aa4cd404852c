"""Your own data: formats, columns found and chosen, labels inferred and taken over, messages."""

import io
import json
import os
import re

import pytest

import files
import own_data
import tasks
from errors import UserError
from tasks import Example


def write(folder, **contents):
    """Writes files: write(folder, train_tsv="...") makes train.tsv; bytes stay as they are."""
    for name, content in contents.items():
        stem, suffix = name.rsplit("_", 1)
        raw = content if isinstance(content, bytes) else content.encode("utf-8")
        with io.open(os.path.join(str(folder), "%s.%s" % (stem, suffix)), "wb") as stream:
            stream.write(raw)
    return str(folder)


def json_lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(folder, split="train", name="sentence", **settings):
    return own_data.task(name, folder, **settings).read(folder, split)


def rows_of(examples):
    return [(e.text_a, e.label) if e.text_b is None else (e.text_a, e.text_b, e.label)
            for e in examples]


def complaint(function, *args, **settings):
    with pytest.raises(UserError) as caught:
        function(*args, **settings)
    return str(caught.value)


TWO = [("好", "1"), ("坏", "0")]
TSV = "text\tlabel\n好\t1\n坏\t0\n"


# Which task the flags mean

def flags(**values):
    return dict({"task_name": "sentence", "data_dir": None, "text_columns": None,
                 "label_column": None}, **values)


def test_names_are_those_of_all_tasks():
    assert own_data.names() == tasks.names() + ["sentence", "sentence_pair"]


def test_registered_tasks_come_as_they_are():
    assert own_data.resolve(flags(task_name="TNEWS")) is tasks.get("tnews")
    assert own_data.resolve({"task_name": "lcqmc_pair"}) is tasks.get("lcqmc")
    assert "--task_name is missing" in complaint(own_data.resolve, flags(task_name=None))
    assert 'Did you mean "sentence"' in complaint(own_data.resolve, flags(task_name="sentense"))


@pytest.mark.parametrize("flag", ["text_columns", "label_column"])
def test_column_flags_are_refused_for_registered_tasks(flag):
    message = complaint(own_data.resolve, flags(task_name="tnews", **{flag: "x"}))
    assert "--%s=x has no meaning for task tnews" % flag in message


@pytest.mark.parametrize("given, name", [("Sentence", "sentence"),
                                         ("sentence_pair", "sentence_pair")])
def test_own_data_has_the_interface_of_a_task(tmp_path, given, name):
    folder = write(tmp_path, train_tsv="text_a\ttext_b\tlabel\na\tb\t1\nc\td\t0\n")
    columns = "text_a" if name == "sentence" else ""
    task = own_data.resolve(flags(task_name=given, data_dir=folder, text_columns=columns))
    assert isinstance(task, tasks.Task)
    assert (task.name, task.aliases, task.labels) == (name, (), ("0", "1"))
    assert task.settings == tasks.settings(name)
    assert task.submission_name is None
    assert task.label_descriptions is None
    assert task.folder(folder) == folder
    assert task.find(folder, "dev") is None
    assert task.path(folder, "train") == os.path.join(folder, "train.tsv")
    assert task.text_columns == ("text_a" if name == "sentence" else "text_a,text_b")
    assert task.label_column == "label"
    assert "train" in task.remedy()


def test_data_dir_is_needed(tmp_path):
    assert "--data_dir is missing" in complaint(own_data.resolve, flags())
    message = complaint(own_data.resolve, flags(data_dir=str(tmp_path)))
    assert "holds no train.tsv, train.csv or train.json" in message


# Formats

@pytest.mark.parametrize("name, content", [
    ("train_tsv", TSV), ("train_txt", TSV), ("train_csv", TSV.replace("\t", ",")),
    ("train_csv", "\ufeff" + TSV.replace("\t", ",").replace("\n", "\r\n")),
    ("train_tsv", "\ufeff" + TSV.replace("\n", "\r\n")), ("train_tsv", TSV + "\n\n"),
    ("train_csv", TSV.replace("\t", ",") + "\n"), ("train_tsv", TSV[:-1]),
    ("train_json", '{"text": "好", "label": "1"}\n\n{"text": "坏", "label": "0"}'),
    ("train_jsonl", '\ufeff{"text": "好", "label": 1}\n{"text": "坏", "label": 0.0}\n'),
    ("train_json", '[{"text": "好", "label": 1}, {"text": "坏", "label": "0"}]'),
    ("train_json", '\ufeff\n [\n  {\n "text": "好",\n "label": 1\n }\n,{"text": "坏",'
                   '"label": 0}\n]\n\n'),
])
def test_every_format_gives_the_same_rows(tmp_path, name, content):
    folder = write(tmp_path, **{name: content})
    assert rows_of(read(folder)) == TWO


def test_tsv_has_no_quoting(tmp_path):
    folder = write(tmp_path, train_tsv='text\tlabel\n"好\t1\n"他说"a,b" \t0\n')
    assert rows_of(read(folder)) == [('"好', "1"), ('"他说"a,b" ', "0")]


def test_csv_fields_hold_commas_quotes_and_line_ends(tmp_path):
    rows = 'label,text\r\n1,"a, ""b""\r\nc"\r\n0,他说"d"\r\n"2"," e"\r\n'
    folder = write(tmp_path, train_csv=rows)
    assert rows_of(read(folder)) == [('a, "b"\nc', "1"), ('他说"d"', "0"), (" e", "2")]


def test_long_documents_pass(tmp_path):
    long = "长" * 300000  # beyond the csv module's limit of 131072
    folder = write(tmp_path, train_csv='label,text\n1,"%s"\n0,b\n' % long)
    assert read(folder)[0].text_a == long


def test_texts_keep_unicode_line_separators(tmp_path):
    for name in ("train_csv", "train_tsv"):
        separator = "," if name.endswith("csv") else "\t"
        folder = tmp_path / name
        folder.mkdir()
        content = "label,text\n1,a\u2028b\u0085c\n0,d\n".replace(",", separator)
        assert read(write(folder, **{name: content}))[0].text_a == "a\u2028b\u0085c"


@pytest.mark.parametrize("name, content, problem", [
    ("train_tsv", TSV + "中\n", "train.tsv line 4 has 1 column, between tabs, where line 1 has 2"),
    ("train_tsv", TSV + "a\tb\t1\n", "line 4 has 3 columns"),
    ("train_tsv", "text\tlabel\n\n好\t1\n", "line 2 is blank, and rows follow it"),
    ("train_csv", "text,label\n\n好,1\n", "line 2 is blank, and rows follow it"),
    ("train_csv", 'text,label\n"a\nb",1\nc\n', "line 4 has 1 column, between commas"),
    ("train_csv", 'text,label\na,1\n"b,0\nc,1\n', "train.csv line 3 is no CSV"),
    ("train_csv", 'text,label\n"a"b,1\n', "train.csv line 2 is no CSV"),
    ("train_csv", "text,label\na\rb,1\n", "train.csv line 2 is no CSV"),
    ("train_csv", "text,label\na\0,1\n", "train.csv line 2 holds a NUL character"),
    ("train_tsv", "text\tlabel\n \t1\n", "line 2: the text is empty"),
    ("train_tsv", "text\tlabel\na\t \n", 'line 2: column "label" must hold a label'),
    ("train_csv", 'text,label\na,"1\n2"\n', 'line 2: column "label" must hold a label'),
    ("train_tsv", "", "train.tsv holds no example"),
    ("train_csv", "text,label\n", "train.csv holds no example"),
    ("train_json", "[]", "train.json holds no example"),
    ("train_json", '{"text": "a", "label": 1}\n{"text": "a"}', 'line 2: column "label" must hold'),
    ("train_json", '{"text": "a", "label": [1]}', 'line 1: column "label" must hold'),
    ("train_json", '{"text": "a", "label": null}', 'line 1: column "label" must hold'),
    ("train_json", '{"text": "a", "label": NaN}', 'line 1: column "label" must hold'),
    ("train_json", '{"text": "a", "label": 1}\n{"label": 1}', 'line 2: the field "text" is'),
    ("train_json", '{"text": 5, "label": 1}', 'line 1: the field "text" must be a string'),
    ("train_json", '{"text": "a", "label": "\\ud83d"}', "half a character"),
    ("train_json", '{"text": "a", "label": 1}\n[]', "line 2 holds list"),
    ("train_json", '[\n{"text": "a", "label": 1},\n5]', "line 3 holds int"),
    ("train_json", '[\n{"text": "a", "label": 1}\n{}]', "line 3 is not valid JSON"),
    ("train_json", '[{"text": "a", "label": 1},]', "is not valid JSON"),
    ("train_json", '[\n{"text": "a", "label": 1}', "is not valid JSON"),
    ("train_json", '[{"text": "a", "label": 1}] x', "line 1 is not valid JSON"),
    ("train_json", '[{"text": "a", "label": 1},\n{"text": "b", "label": }]', "line 2 column"),
])
def test_faults_are_named_with_file_and_line(tmp_path, name, content, problem):
    message = complaint(read, write(tmp_path, **{name: content}))
    assert os.path.join(str(tmp_path), name.replace("_", ".")) in message
    assert problem in message


def test_rows_of_a_json_array_keep_their_lines(tmp_path):
    folder = write(tmp_path, train_json='[\n\n{"text": "a",\n"label": 1}, {"text": "b", "label": 0}'
                                        ',\n\n{"text": " ", "label": 1}]')
    assert "train.json line 6: the text is empty" in complaint(read, folder)


@pytest.mark.parametrize("name", ["train_tsv", "train_csv", "train_json"])
def test_other_encodings_are_told_with_the_remedy(tmp_path, name):
    content = '{"text": "a", "label": 1}\n{"text": "这是怎么回事呢", "label": 1}\n'
    message = complaint(read, write(tmp_path, **{name: content.encode("gb18030")}))
    assert name.replace("_", ".") + " line 2 is not UTF-8" in message
    assert "it may be GB18030" in message
    assert "iconv -f GB18030 -t UTF-8" in message


def test_two_files_of_a_split_are_refused(tmp_path):
    folder = write(tmp_path, train_tsv=TSV, train_json="{}")
    message = complaint(read, folder)
    assert os.path.join(folder, "train.tsv") in message
    assert os.path.join(folder, "train.json") in message


def test_splits_may_have_different_formats(tmp_path):
    folder = write(tmp_path, train_tsv=TSV, dev_csv="id,label,text\n7,1,c\n",
                   test_json=json_lines({"text": "d", "id": 9}))
    task = own_data.task("sentence", folder)
    assert task.read(folder, "dev") == [Example("7", "c", None, "1")]
    assert task.read(folder, "test") == [Example(9, "d", None, None)]


# Missing files

def test_only_the_splits_asked_for_must_be_there(tmp_path):
    folder = write(tmp_path, train_tsv=TSV)
    task = own_data.task("sentence", folder)
    assert len(task.read(folder, "train")) == 2
    message = complaint(task.read, folder, "dev")
    assert folder + " holds no dev.tsv, dev.csv or dev.json: --data_dir" in message
    assert "--do_eval needs it: move some rows" in message
    assert "--do_predict needs it" in complaint(task.path, folder, "test")


def test_without_train_there_are_no_labels_to_infer(tmp_path):
    folder = write(tmp_path, test_tsv="text\n好\n")
    message = complaint(own_data.task, "sentence", folder)
    assert "holds no train.tsv" in message
    assert "labels of your own data are read from it" in message


# Columns by name

@pytest.mark.parametrize("header, rows", [
    ("text,label", TWO), ("Text,Label", TWO), (" sentence , label ", TWO), ("评论,情感", TWO),
    ("review,sentiment", TWO), ("review,toxic", TWO), ("toxic,label", TWO), ("句子,类别", TWO),
    ("text_a,label", TWO), ("label,review", [("1", "好"), ("0", "坏")]),
    ("label,foo", [("1", "好"), ("0", "坏")]),
])
def test_known_names_are_found(tmp_path, header, rows):
    folder = write(tmp_path, train_csv=header + "\n好,1\n坏,0\n")
    assert rows_of(read(folder)) == rows


@pytest.mark.parametrize("header, order", [
    ("label,text_a,text_b", "bc"), ("text_b,text_a,label", "ba"),
    ("sentence1,sentence2,gold", "ab"),
    ("title,query,label", "ba"), ("label,premise,hypothesis", "bc"), ("hypo,premise,label", "ba"),
    ("question,answer,label", "ab"), ("id,q1,q2,label", "bc"), ("句子2,句子1,标签", "ba"),
    ("left,right,label", "ab"), ("label,idx,x,y", "cd"), ("Question1,Question2,is_duplicate", "ab"),
])
def test_known_pairs_are_found_in_their_order(tmp_path, header, order):
    width = header.count(",") + 1
    lines = [",".join(letter + str(row) for letter in "abcd"[:width]) for row in range(3)]
    folder = write(tmp_path, train_csv="\n".join([header] + lines) + "\n")
    examples = read(folder, name="sentence_pair")
    assert [(e.text_a, e.text_b) for e in examples] == [
        (order[0] + str(row), order[1] + str(row)) for row in range(3)]


def test_extra_columns_do_not_matter_where_names_are_known(tmp_path):
    folder = write(tmp_path, train_json=json_lines(
        {"label": "108", "label_desc": "教育", "sentence": "高考", "keywords": "学校"},
        {"label": "107", "label_desc": "汽车", "sentence": "底盘", "keywords": ""}))
    assert rows_of(read(folder)) == [("高考", "108"), ("底盘", "107")]


@pytest.mark.parametrize("name, header", [
    ("sentence", "title,content,label"), ("sentence", "a,b,label"), ("sentence", "a,b"),
    ("sentence", "text,a,b"), ("sentence", "class,category,text"), ("sentence_pair", "text,label"),
    ("sentence_pair", "title,query,answer,label"), ("sentence", "id,label"),
])
def test_columns_are_not_guessed_where_several_would_do(tmp_path, name, header):
    folder = write(tmp_path, train_json=json_lines(
        *[{key: key + str(row) for key in header.split(",")} for row in range(3)]))
    message = complaint(read, folder, name=name)
    assert "train.json: it cannot be told which column is" in message
    assert "give --text_columns=NAME%s and --label_column=NAME." % (
        "" if name == "sentence" else ",NAME") in message
    assert "There are: " + header.replace(",", ", ") in message


def test_flags_choose_columns_by_name_and_in_their_order(tmp_path):
    content = "id,title,body,kind,label\n1,a,b,x,0\n2,c,d,y,1\n"
    folder = write(tmp_path, train_csv=content)
    task = own_data.task("sentence_pair", folder, "body, Title", "kind")
    assert task.read(folder, "train") == [Example("1", "b", "a", "x"), Example("2", "d", "c", "y")]
    assert (task.text_columns, task.label_column) == ("body,title", "kind")
    assert rows_of(read(folder, text_columns="kind")) == [("x", "0"), ("y", "1")]
    assert rows_of(read(folder, text_columns="3", label_column="4")) == [("b", "x"), ("d", "y")]
    assert rows_of(read(folder, text_columns="title", label_column="4")) == [("a", "x"), ("c", "y")]


def test_a_flag_leaves_the_other_columns_to_be_found(tmp_path):
    folder = write(tmp_path, train_csv="foo,toxic\na,x\nb,y\n")
    assert rows_of(read(folder, label_column="toxic")) == [("a", "x"), ("b", "y")]
    assert rows_of(read(folder, text_columns="toxic")) == [("x", "a"), ("y", "b")]


@pytest.mark.parametrize("settings, problem", [
    ({"text_columns": "titel"}, '--text_columns=titel: '),
    ({"text_columns": "titel"}, 'Did you mean "title"?'),
    ({"text_columns": "titel"}, "It has: 1: id, 2: title, 3: kind; without a header, give"),
    ({"label_column": "4", "text_columns": "title"}, "--label_column=4: "),
    ({"label_column": "0", "text_columns": "title"}, "--label_column=0: "),
    ({"label_column": "²", "text_columns": "title"}, "--label_column=²: "),
    ({"text_columns": "id,title"}, "names 2 columns where task sentence reads 1"),
    ({"text_columns": "title", "label_column": "title"}, "every column must be another one"),
    ({"text_columns": "title", "label_column": "2"}, 'both name column "title"'),
    ({"text_columns": ",title", "name": "sentence_pair"}, "every column must be another one"),
    ({"text_columns": "title,title", "name": "sentence_pair"}, "every column must be another one"),
    ({"text_columns": "title", "name": "sentence_pair"}, "names 1 column where task sentence_pair"),
])
def test_wrong_column_flags_are_refused(tmp_path, settings, problem):
    folder = write(tmp_path, train_csv="id,title,kind\n1,a,x\n2,b,y\n")
    assert problem in complaint(read, folder, **settings)


def test_json_has_names_only(tmp_path):
    folder = write(tmp_path, train_json=json_lines({"2": "a", "label": 1}, {"2": "b", "label": 0}))
    assert rows_of(read(folder, text_columns="2")) == [("a", "1"), ("b", "0")]
    message = complaint(read, folder, text_columns="1")
    assert "--text_columns=1: " in message
    assert "It has: 2, label" in message


def test_columns_of_one_name_are_refused_where_they_are_read(tmp_path):
    folder = write(tmp_path, train_csv="text,text,label,x,x\na,b,0,c,c\nd,e,1,c,c\n")
    assert 'two columns are called "text"' in complaint(read, folder, text_columns="2")
    folder = write(tmp_path, train_csv="text,label,x,x\na,0,c,c\nd,1,c,c\n")
    assert rows_of(read(folder)) == [("a", "0"), ("d", "1")]


def test_what_is_read_is_said(tmp_path, capsys):
    folder = write(tmp_path, train_tsv="q\ttitle\tlabel\na\tb\t0\nc\td\t1\n")
    read(folder, name="sentence_pair")
    assert capsys.readouterr().err == (
        '%s: texts from column "q" and column "title"; label from column "label"\n'
        % os.path.join(folder, "train.tsv"))


# Columns by position

@pytest.mark.parametrize("content", [
    "好啊\t1\n坏啊\t0\n很好\t1\n坏极了\t0\n", "1\t好啊\n0\t坏啊\n1\t很好\n0\t坏极了\n",
    "好啊\t正\n坏啊\t反\n很好\t正\n坏极了\t反\n", "text\t正\n坏啊\t反\n很好\t正\n坏极了\t反\n",
])
def test_the_label_is_the_column_of_few_short_values(tmp_path, capsys, content):
    folder = write(tmp_path, train_tsv=content)
    examples = read(folder)
    assert len(examples) == 4
    assert sorted({example.label for example in examples}) in (["0", "1"], ["反", "正"])
    assert "column 1" in capsys.readouterr().err


def test_long_texts_are_no_labels_though_they_repeat(tmp_path):
    rows = [("长" * (31 + n % 2), "正" if n % 3 else "反") for n in range(6)]
    folder = write(tmp_path, train_tsv="".join("%s\t%s\n" % row for row in rows))
    assert rows_of(read(folder)) == rows


def test_the_column_beside_the_texts_is_the_label(tmp_path):
    folder = write(tmp_path, train_tsv="a\tx\nb\ty\nc\tz\n")
    assert rows_of(read(folder, text_columns="1")) == [("a", "x"), ("b", "y"), ("c", "z")]
    assert rows_of(read(folder, label_column="1")) == [("x", "a"), ("y", "b"), ("z", "c")]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_pairs_without_a_header(tmp_path, order):
    rows = [("问%d" % (n // 3), "答%d" % n, "%d" % (n % 2)) for n in range(9)]
    folder = write(tmp_path, train_tsv="".join(
        "\t".join(row[place] for place in order) + "\n" for row in rows))
    assert rows_of(read(folder, name="sentence_pair")) == rows


@pytest.mark.parametrize("content", [
    "a,x\nb,y\na,y\nb,x\n",    # both columns could be labels
    "a,x\nb,y\nc,z\n",         # none could
    "1,a,x\n2,b,y\n3,c,x\n",   # three columns
    "a\nb\n",                  # one column
    "foo,toxic\na,0\nb,1\nc,1\n",  # a header, by the looks of its label
])
def test_columns_without_names_are_not_guessed_in_doubt(tmp_path, content):
    message = complaint(read, write(tmp_path, train_csv=content))
    assert os.path.join(str(tmp_path), "train.csv") in message
    assert "--text_columns" in message
    assert "--label_column" in message


def test_messages_show_the_first_row(tmp_path):
    folder = write(tmp_path, train_csv="7,%s,x\n8,b,y\n" % ("长" * 100))
    assert "There are: 1: 7, 2: %s..., 3: x" % ("长" * 40) in complaint(read, folder)


def test_flags_choose_columns_by_position(tmp_path):
    folder = write(tmp_path, train_tsv="7\ta\tb\tx\n8\tc\td\ty\n9\te\tf\tx\n")
    task = own_data.task("sentence_pair", folder, "3,2", "4")
    assert rows_of(task.read(folder, "train")) == [
        ("b", "a", "x"), ("d", "c", "y"), ("f", "e", "x")]
    assert (task.text_columns, task.label_column) == ("3,2", "4")
    assert "It has: 1: 7, 2: a, 3: b, 4: x" in complaint(
        read, folder, text_columns="5", label_column="4")


def test_a_header_is_passed_over_when_columns_are_given_by_position(tmp_path):
    folder = write(tmp_path, train_csv="id,comment_text,toxic\n1,a,x\n2,b,y\n",
                   dev_csv="id,comment_text,toxic\n3,c,x\n")
    task = own_data.task("sentence", folder, "2", "3")
    assert rows_of(task.read(folder, "train")) == [("a", "x"), ("b", "y")]
    assert rows_of(task.read(folder, "dev")) == [("c", "x")]
    assert task.labels == ("x", "y")


def test_a_line_that_may_be_a_header_is_warned_of(tmp_path, capsys):
    folder = write(tmp_path, train_csv="foo,toxic\na,0\nb,1\nc,1\n")
    assert len(read(folder, text_columns="1", label_column="2")) == 4
    assert 'its label, "toxic", occurs nowhere else' in capsys.readouterr().err
    assert len(read(folder, text_columns="foo", label_column="toxic")) == 3
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize("rows, is_header", [
    (["text,label", "a,1"], True), (["text,1", "a,0"], False), (["a,b", "c,d"], False),
    (["question,好", "a,坏", "question,好"], False), (["id,foo,bar", "1,a,b"], True),
    (["user_text,foo", "a,b"], True), (["x_,foo", "a,b"], False),
    (["label," + "长" * 41, "a,b"], False), (["text"], True),
])
def test_headers_are_told_from_rows(rows, is_header):
    assert own_data.reads_as_header([
        (line, row.split(",")) for line, row in enumerate(rows, 1)]) == is_header


# Splits read alike

@pytest.mark.parametrize("train, test", [
    ("label\ttext\n1\ta\n0\tb\n", "text\nc\n"), ("label\ttext\n1\ta\n0\tb\n", "text\tlabel\nc\t\n"),
    ("label\ttext\n1\ta\n0\tb\n", "x\ttext\n5\tc\n"),
    ("1\taa\n0\tbb\n1\tcc\n0\tdd\n", "c\n"), ("1\taa\n0\tbb\n1\tcc\n0\tdd\n", "\tc\n"),
    ("1\taa\n0\tbb\n1\tcc\n0\tdd\n", "text\nc\n"), ("aa\t1\nbb\t0\ncc\t1\ndd\t0\n", "c\n"),
])
def test_test_rows_may_go_without_label(tmp_path, train, test):
    folder = write(tmp_path, train_tsv=train, test_tsv=test)
    assert rows_of(read(folder, "test")) == [("c", None)]


def test_labelled_test_rows_keep_their_labels(tmp_path):
    folder = write(tmp_path, train_tsv=TSV, test_tsv=TSV)
    assert rows_of(read(folder, "test")) == TWO
    write(tmp_path, test_tsv="text\tlabel\nc\t2\n")
    assert 'test.tsv line 2: label "2" is unknown' in complaint(read, folder, "test")


def test_minus_one_is_a_label_where_train_has_it(tmp_path):
    folder = write(tmp_path, train_tsv="text\tlabel\na\t-1\nb\t1\n", test_tsv=TSV[:11] + "c\t-1\n")
    assert rows_of(read(folder, "test")) == [("c", "-1")]


@pytest.mark.parametrize("train, dev, problem", [
    (TSV, "好\t1\n", 'line 1 must be a header with column "text"'),
    (TSV, "text\tkind\n好\t1\n", 'line 2: column "label" must hold'),
    ("好啊\t1\n坏啊\t0\n很好\t1\n", "好\n", "dev.tsv has 1 column where"),
    ("好啊\t1\n坏啊\t0\n很好\t1\n", "好\t1\t2\n", "dev.tsv has 3 columns where"),
])
def test_dev_must_have_the_columns_of_train(tmp_path, train, dev, problem):
    folder = write(tmp_path, train_tsv=train, dev_tsv=dev)
    message = complaint(own_data.task, "sentence", folder)
    assert "dev.tsv" in message
    assert problem in message


def test_json_cannot_follow_a_file_without_names(tmp_path):
    folder = write(tmp_path, train_tsv="好啊\t1\n坏啊\t0\n很好\t1\n",
                   dev_json=json_lines({"text": "a", "label": 1}))
    message = complaint(own_data.task, "sentence", folder)
    assert "dev.json names its columns and" in message


# The old files of sentence_pair

OLD = "1\ta\tb\n0\tc\td\n"


def test_the_old_pair_files_still_read(tmp_path):
    folder = write(tmp_path, train_0827_tsv=OLD, dev_0827_tsv="1\te\tf\n", test_0827_tsv=OLD)
    task = own_data.task("sentence_pair", folder)
    assert task.read(folder, "train") == [Example(0, "a", "b", "1"), Example(1, "c", "d", "0")]
    assert rows_of(task.read(folder, "dev")) == [("e", "f", "1")]
    assert rows_of(task.read(folder, "test")) == [("a", "b", "1"), ("c", "d", "0")]
    write(tmp_path, test_0827_tsv="a\tb\n")
    assert rows_of(task.read(folder, "test")) == [("a", "b", None)]
    only_test = tmp_path / "test"
    only_test.mkdir()
    write(only_test, test_0827_tsv="a\tb\n")
    assert rows_of(read(str(only_test), "test", "sentence_pair", labels=("0", "1"))) == [
        ("a", "b", None)]


def test_flags_hold_for_the_old_pair_files_too(tmp_path):
    folder = write(tmp_path, train_0827_tsv=OLD)
    assert rows_of(read(folder, name="sentence_pair", text_columns="3,2", label_column="1")) == [
        ("b", "a", "1"), ("d", "c", "0")]


def test_new_files_come_before_old_ones(tmp_path):
    folder = write(tmp_path, train_0827_tsv=OLD, dev_0827_tsv=OLD,
                   train_tsv="text_a\ttext_b\tlabel\nx\ty\tA\nx\tz\tB\n")
    task = own_data.task("sentence_pair", folder)
    assert task.labels == ("A", "B")
    assert task.find(folder, "dev") is None


def test_the_old_pair_files_are_none_of_the_single_text_task(tmp_path):
    folder = write(tmp_path, train_0827_tsv=OLD)
    assert "holds no train.tsv" in complaint(own_data.task, "sentence", folder)


# Labels

@pytest.mark.parametrize("found, labels", [
    (["b", "a", "c"], ("a", "b", "c")), (["10", "9", "-1", "2"], ("-1", "2", "9", "10")),
    (["1.5", "1", "0"], ("0", "1", "1.5")), (["负", "正"], ("正", "负")),
    (["10", "b", "9", "a", "nan"], ("9", "10", "a", "b", "nan")), ([" a ", "b\u3000"], ("a", "b")),
])
def test_labels_are_sorted(tmp_path, found, labels):
    folder = write(tmp_path, train_tsv="text\tlabel\n" + "".join("t\t%s\n" % x for x in found))
    task = own_data.task("sentence", folder)
    assert task.labels == labels
    assert [e.label for e in task.read(folder, "train")] == [label.strip() for label in found]


def test_json_spellings_of_a_label_are_one(tmp_path):
    folder = write(tmp_path, train_json=json_lines(
        *[{"text": "a", "label": label} for label in (1, 1.0, "1", " 1 ", 0, True, "true")]))
    task = own_data.task("sentence", folder)
    assert task.labels == ("0", "1", "true")
    assert [e.label for e in task.read(folder, "train")] == ["1"] * 4 + ["0", "true", "true"]


def test_labels_of_dev_count_and_are_warned_of(tmp_path, capsys):
    folder = write(tmp_path, train_tsv=TSV, dev_tsv="text\tlabel\n中\t2\n好\t1\n")
    assert own_data.task("sentence", folder).labels == ("0", "1", "2")
    err = capsys.readouterr().err
    assert "WARNING: " in err
    assert "labels that stand in dev only cannot be learnt: 2\n" in err


@pytest.mark.parametrize("dev", ["text\tlabel\n中\t差\n好\t差\n", "text\tlabel\n0\t中文\n1\t好\n"])
def test_dev_without_a_label_of_train_is_refused(tmp_path, dev):
    message = complaint(read, write(tmp_path, train_tsv=TSV, dev_tsv=dev))
    assert 'dev.tsv, column "label" holds no label of train: train has 0, 1, dev ' in message


@pytest.mark.parametrize("name, mark, told", [
    ("train_csv", ";", "with semicolons in it: a .csv has commas between its columns"),
    ("train_csv", "\t", "with tabs in it: .* or call it .tsv"),
    ("train_tsv", ",", "with commas in it: a .tsv has tabs between its columns; .* call it .csv")])
def test_columns_that_something_else_divides_are_told(tmp_path, name, mark, told):
    folder = write(tmp_path, **{name: TSV.replace("\t", mark)})
    for columns in ({}, {"text_columns": "text", "label_column": "label"}):
        assert re.search(told, complaint(read, folder, **columns))


def test_one_label_is_refused(tmp_path):
    message = complaint(read, write(tmp_path, train_tsv="text\tlabel\na\t1\nb\t1\n"))
    assert 'train.tsv, column "label": all labels are "1"' in message


@pytest.mark.parametrize("different, refused", [(30, False), (31, True)])
def test_texts_are_not_taken_for_labels(tmp_path, different, refused):
    rows = "".join("文%d\tlabel%d\n" % (n, n % different) for n in range(60))
    folder = write(tmp_path, train_tsv="text\tlabel\n" + rows)
    if refused:
        message = complaint(read, folder)
        assert "31 different labels in 60 rows" in message
        assert "--label_column" in message
    else:
        assert len(read(folder)) == 60


def test_few_rows_may_all_differ_in_label(tmp_path):
    rows = "".join("t\t%d\n" % n for n in range(19))
    assert len(read(write(tmp_path, train_tsv="text\tlabel\n" + rows))) == 19


def test_known_labels_hold_as_they_are(tmp_path):
    folder = write(tmp_path, train_tsv=TSV, test_tsv="text\n中\n")
    task = own_data.task("sentence", folder, labels=("1", "2", "0"))
    assert task.labels == ("1", "2", "0")
    assert rows_of(task.read(folder, "train")) == TWO
    write(tmp_path, train_tsv=TSV + "中\t3\n")
    task = own_data.task("sentence", folder, labels=("1", "0"))
    message = complaint(task.read, folder, "train")
    assert os.path.join(folder, "train.tsv") + ' line 4: label "3" is unknown' in message


@pytest.mark.parametrize("content, settings, rows", [
    ("text\n中\n", {}, [("中", None)]), ("text\tlabel\n中\t1\n", {}, [("中", "1")]),
    ("中文\n文中\n", {}, [("中文", None), ("文中", None)]),
    ("中文\t1\n文中\t\n", {}, [("中文", "1"), ("文中", None)]),
    ("0\t中文\n1\t文中\n", {}, [("中文", "0"), ("文中", "1")]),
    ("中文\n", {"text_columns": "2", "label_column": "1"}, [("中文", None)]),
    ("中文\n", {"text_columns": "1", "label_column": "2"}, [("中文", None)]),
    ("题\t文\n甲\t乙\n", {"text_columns": "文", "label_column": "类"}, [("乙", None)]),
])
def test_prediction_needs_the_test_file_only(tmp_path, content, settings, rows):
    folder = write(tmp_path, test_tsv=content)
    assert rows_of(read(folder, "test", labels=("0", "1"), **settings)) == rows


def test_unlabelled_json_rows_may_be_mixed_with_labelled_ones(tmp_path):
    folder = write(tmp_path, test_json=json_lines({"text": "a"}, {"text": "b", "kind": 1}))
    assert rows_of(read(folder, "test", labels=("0", "1"), label_column="kind")) == [
        ("a", None), ("b", "1")]


def test_labels_are_read_back_as_they_were_written(tmp_path):
    folder = write(tmp_path, train_tsv="text\tlabel\na\t体育 新闻\nb\ta\u2028b\nc\t10\nd\t9\n",
                   test_tsv="text\n中\n")
    task = own_data.task("sentence", folder)
    path = os.path.join(folder, "labels.txt")
    files.write_text(path, "".join(label + "\n" for label in task.labels))
    assert own_data.read_labels(path) == task.labels
    again = own_data.resolve(flags(data_dir=folder), labels_file=path)
    assert again.labels == task.labels
    os.remove(os.path.join(folder, "train.tsv"))
    again = own_data.resolve(flags(data_dir=folder), labels_file=path)
    assert again.labels == task.labels
    assert rows_of(again.read(folder, "test")) == [("中", None)]


@pytest.mark.parametrize("content", ["", "a\n", "a\na\n", "a\n\nb\n", "a\n b\n"])
def test_damaged_label_files_are_refused(tmp_path, content):
    write(tmp_path, labels_txt=content)
    assert "labels.txt is damaged" in complaint(
        own_data.read_labels, str(tmp_path / "labels.txt"))


# Reading

def test_ids_are_kept(tmp_path):
    folder = write(tmp_path, train_csv="idx,text,label\nx7,a,1\n,b,0\n")
    assert [e.id for e in read(folder)] == ["x7", 1]
    folder = write(tmp_path, dev_json=json_lines({"id": 3, "text": "a", "label": 1},
                                                 {"text": "b", "label": 1}))
    assert [e.id for e in read(folder, "dev")] == [3, 1]


def test_files_are_parsed_once(tmp_path, monkeypatch):
    folder = write(tmp_path, train_tsv=TSV, dev_csv=TSV.replace("\t", ","), test_json=json_lines(
        {"text": "a"}))
    opened = []
    read_lines = files.read_lines
    monkeypatch.setattr(files, "read_lines", lambda path: opened.append(
        os.path.basename(path)) or read_lines(path))
    task = own_data.task("sentence", folder)
    assert opened == ["train.tsv", "dev.csv"]
    first = task.read(folder, "train")
    first.pop()
    assert rows_of(task.read(folder, "train")) == TWO
    assert rows_of(task.read(folder, "dev")) == TWO
    assert opened == ["train.tsv", "dev.csv"]


def test_a_task_that_knows_its_labels_reads_only_what_is_asked_for(tmp_path, monkeypatch):
    folder = write(tmp_path, train_tsv=b"\xff\xff", test_tsv="text\n中\n")
    assert rows_of(read(folder, "test", labels=("0", "1"))) == [("中", None)]


# Real data, read by the registered tasks' readers and as anybody's own

@pytest.mark.parametrize("registered, name, folder", [
    ("tnews", "sentence", "clue/tnews"), ("iflytek", "sentence", "clue/iflytek"),
    ("afqmc", "sentence_pair", "clue/afqmc"), ("lcqmc", "sentence_pair", "lcqmc")])
def test_real_data_reads_as_by_its_own_reader(shared_data, registered, name, folder):
    folder = os.path.join(shared_data, folder)
    own, known = own_data.task(name, folder), tasks.get(registered)
    assert set(own.labels) <= set(known.labels)
    assert own.read(folder, "train") == known.read(folder, "train")
    assert own.read(folder, "dev") == known.read(folder, "dev")
    if known.find(folder, "test"):
        assert own.read(folder, "test") == known.read(folder, "test")
