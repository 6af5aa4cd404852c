"""choices.py: C3's and ChID's files row by row, tokens, windows, decisions, submission files."""

import itertools
import json

import numpy as np
import pytest

import choices
import files
import submission
import tasks
from errors import UserError

QUESTION = {"question": "他去哪儿？", "choice": ["北京", "上海", "广州"], "answer": "上海"}
TEXTS = ["男：你去哪儿？", "女：我去上海。"]
LINE = {"content": ["他#idiom000001#，从不分心。", "别#idiom000002#，再努力#idiom000003#。"],
        "candidates": ["一心一意", "半途而废", "画蛇添足", "守株待兔"]}
ANSWERS = {"#idiom000001#": 0, "#idiom000002#": 1, "#idiom000003#": 2}


def changed(row, **fields):
    """Returns a copy of a row with other fields; a field set to KeyError is left out."""
    return {key: value for key, value in dict(row, **fields).items() if value is not KeyError}


def put(folder, name, content):
    """Writes a file: text as it is, anything else as JSON; returns its path."""
    path = str(folder / name)
    files.write_text(path, content if isinstance(content, str)
                     else json.dumps(content, ensure_ascii=False))
    return path


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def complaint(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def c3(folder, *questions, **more):
    """Reads one text's questions as C3's."""
    path = put(folder, "m-train.json", [[TEXTS, list(questions), "m-1"]])
    return choices.Comprehension().read([path], **more)


def chid(folder, *rows, **more):
    paths = [put(folder, "train.json", lines(*rows))]
    if more.get("answers", ANSWERS) is not None:
        paths.append(put(folder, more.pop("name", "train_answer.json"),
                         more.pop("answers", ANSWERS)))
    more.pop("answers", None)
    return choices.Idioms().read(paths, **more)


# ---------------------------------------------------------------------------------------------
# C3's files
# ---------------------------------------------------------------------------------------------

def test_c3_questions_come_in_order_with_the_place_of_the_answer(tmp_path):
    second = {"question": "谁问？", "choice": ["男的", "女的", "", ""], "answer": " 女的 "}
    found = c3(tmp_path, QUESTION, second)
    text = "男：你去哪儿？\n女：我去上海。"
    assert found == [
        choices.Question(0, text, "他去哪儿？", ("北京", "上海", "广州"), 1, 0),
        choices.Question(1, text, "谁问？", ("男的", "女的"), 1, 1)]


def test_c3_test_questions_keep_their_ids_and_need_no_answer(tmp_path):
    rows = [changed(QUESTION, answer=KeyError, id=17), changed(QUESTION, answer="", id="b"),
            changed(QUESTION, id=3)]
    found = c3(tmp_path, *rows, answers_needed=False)
    assert [(one.id, one.answer) for one in found] == [(17, None), ("b", None), (3, 1)]


def test_c3_reads_a_text_that_is_no_list_and_several_files_on(tmp_path):
    one = put(tmp_path, "a.json", [["一段文章。", [QUESTION]]])
    two = put(tmp_path, "b.json", [[TEXTS, [QUESTION], 1]])
    found = choices.Comprehension().read([one, two])
    assert [(question.id, question.text[:2]) for question in found] == [(0, "一段"), (1, "男：")]


@pytest.mark.parametrize("document, problem", [
    ({"data": []}, "is not in C3's format"),
    (["文"], "[0]: a list of the text's sentences"),
    ([[TEXTS]], "[0]: a list of the text's sentences"),
    ([[TEXTS, {}]], "[0]: a list of the text's sentences"),
    ([[3, [QUESTION]]], "[0]: the text must be a list of texts; here it holds 3"),
    ([[["文", 3], [QUESTION]]], "an entry of the text must be a text; here it holds 3"),
    ([[["", " "], [QUESTION]]], "[0]: the text is empty"),
    ([[TEXTS, [QUESTION]], [TEXTS, ["问"]]], "[1][1][0]: an object with"),
    ([[TEXTS, [changed(QUESTION, question=KeyError)]]], '"question" must be a text'),
    ([[TEXTS, [changed(QUESTION, question=5)]]], '"question" must be a text; here it holds 5'),
    ([[TEXTS, [changed(QUESTION, choice=KeyError)]]], '"choice" must be a list'),
    ([[TEXTS, [changed(QUESTION, choice="北京")]]], '"choice" must be a list'),
    ([[TEXTS, [changed(QUESTION, choice=["上海", 1])]]], 'an entry of the field "choice" must be'),
    ([[TEXTS, [changed(QUESTION, choice=["上海", "", ""])]]], "2 to 4 options; here it holds 1"),
    ([[TEXTS, [changed(QUESTION, choice=list("上海广州京"))]]], "options; here it holds 5"),
    ([[TEXTS, [changed(QUESTION, choice=["上海", "", "北京"])]]], "an option is empty"),
    ([[TEXTS, [changed(QUESTION, answer=KeyError)]]], '"answer" is missing'),
    ([[TEXTS, [changed(QUESTION, answer="")]]], '"answer" is missing'),
    ([[TEXTS, [changed(QUESTION, answer=1)]]], '"answer" must be a text; here it holds 1'),
    ([[TEXTS, [changed(QUESTION, answer="天津")]]], '"天津" is none of the options: 北京 / 上海'),
    ([[TEXTS, [changed(QUESTION, id=[1])]]], '"id" must be a whole number or a string'),
    ([[TEXTS, [changed(QUESTION, id=True)]]], '"id" must be a whole number or a string'),
])
def test_c3_faults_are_named_with_their_place(tmp_path, document, problem):
    path = put(tmp_path, "m-train.json", document)
    message = complaint(choices.Comprehension().read, [path])
    assert path in message and problem in message


def test_half_a_character_is_refused(tmp_path):
    path = put(tmp_path, "x.json", '[[["\\ud83d"], [], "a"]]')
    assert "half a character (\\ud83d) at character 1" in complaint(
        choices.Comprehension().read, [path])


# ---------------------------------------------------------------------------------------------
# ChID's files
# ---------------------------------------------------------------------------------------------

def test_chid_has_a_question_for_each_blank(tmp_path):
    found = chid(tmp_path, LINE)
    assert [(one.id, one.answer, one.group) for one in found] == [
        ("#idiom000001#", 0, 1), ("#idiom000002#", 1, 1), ("#idiom000003#", 2, 1)]
    assert found[1].text == found[2].text == LINE["content"][1]
    assert {one.options for one in found} == {tuple(LINE["candidates"])}


@pytest.mark.parametrize("answers, name", [
    (ANSWERS, "train_answer.json"),
    ("#idiom000001#,0\n #idiom000002# , 1\n\n#idiom000003#,2\n", "train_answer.csv")])
def test_chid_answers_may_be_an_object_or_lines(tmp_path, answers, name):
    assert [one.answer for one in chid(tmp_path, LINE, answers=answers, name=name)] == [0, 1, 2]


def test_chid_test_rows_go_without_answers_and_content_may_be_one_text(tmp_path):
    row = changed(LINE, content=LINE["content"][1])
    found = chid(tmp_path, row, answers=None, answers_needed=False)
    assert [(one.id, one.answer) for one in found] == [
        ("#idiom000002#", None), ("#idiom000003#", None)]


def test_chid_tells_of_passages_without_a_blank_and_answers_too_many(tmp_path, capsys):
    row = changed(LINE, content=["没有空。"] + LINE["content"])
    chid(tmp_path, row, answers=dict(ANSWERS, **{"#idiom999999#": 0}))
    said = capsys.readouterr().err
    assert "passages without a blank: 1 (first: line 1)" in said
    assert "answers to blanks that stand in no passage: 1" in said


@pytest.mark.parametrize("rows, problem", [
    ([changed(LINE, candidates=KeyError)], 'line 1: the field "candidates" must be a list'),
    ([changed(LINE, candidates=["一心一意"])], "2 to 10 idioms; here it holds 1"),
    ([changed(LINE, candidates=["词"] * 11)], "2 to 10 idioms; here it holds 11"),
    ([changed(LINE, candidates=["词", " "])], 'an entry of the field "candidates" is empty'),
    ([changed(LINE, candidates=["词", 2])], 'of the field "candidates" must be a text'),
    ([changed(LINE, content=KeyError)], 'the field "content" must be a list of texts'),
    ([changed(LINE, content=[""])], 'an entry of the field "content" is empty'),
    ([LINE, changed(LINE, content="又#idiom000001#")],
     "line 2: the blank #idiom000001# stands in line 1 already"),
    ([changed(LINE, content="又#idiom000001#再#idiom000001#")],
     "line 1: the blank #idiom000001# stands in line 1 already"),
    ([changed(LINE, content="又#idiom000004#")], "has no answer to the blank #idiom000004#"),
])
def test_chid_faults_are_named_with_their_line(tmp_path, rows, problem):
    message = complaint(lambda: chid(tmp_path, *rows))
    assert str(tmp_path / "train.json") in message and problem in message


@pytest.mark.parametrize("answers, name, problem", [
    ([1], "train_answer.json", "an object that gives each blank"),
    (dict(ANSWERS, **{"#idiom000002#": 4}), "train_answer.json", "from 0 to 3; it is 4"),
    (dict(ANSWERS, **{"#idiom000002#": -1}), "train_answer.json", "from 0 to 3; it is -1"),
    (dict(ANSWERS, **{"#idiom000002#": "1"}), "train_answer.json", 'from 0 to 3; it is "1"'),
    (dict(ANSWERS, **{"#idiom000002#": True}), "train_answer.json", "from 0 to 3; it is true"),
    ("#idiom000001#;0\n", "train_answer.csv", "line 1: a blank and the index"),
])
def test_chid_faulty_answers_are_named(tmp_path, answers, name, problem):
    message = complaint(lambda: chid(tmp_path, LINE, answers=answers, name=name))
    assert str(tmp_path / name) in message and problem in message


# ---------------------------------------------------------------------------------------------
# Which files are read
# ---------------------------------------------------------------------------------------------

def test_c3_reads_both_parts_and_misses_one(tmp_path):
    task = tasks.get("c3")
    put(tmp_path, "m-train.json", [[TEXTS, [QUESTION], "m"]])
    message = complaint(task.read, str(tmp_path), "train")
    assert "d-train.json does not exist" in message
    put(tmp_path, "d-train.json", [[["女：好。"], [QUESTION, QUESTION], "d"]])
    assert [one.text[:1] for one in task.read(str(tmp_path), "train")] == ["男", "女", "女"]
    assert [path.rsplit("/", 1)[1] for path in task.paths(str(tmp_path), "train")] == [
        "m-train.json", "d-train.json"]
    assert "m-dev.json" in complaint(task.read, str(tmp_path), "dev")


@pytest.mark.parametrize("task_name, names, read, submitted", [
    ("c3", ("test1.0.json",), "test1.0.json", "c310_predict.json"),
    ("c3", ("test1.0.json", "test1.1.json"), "test1.1.json", "c311_predict.json"),
    ("c3", ("test1.0.json", "test.json"), "test.json", "c311_predict.json"),
    ("chid", ("test1.0.json",), "test1.0.json", "chid10_predict.json"),
    ("chid", ("test1.1.json", "test.json"), "test1.1.json", "chid11_predict.json")])
def test_the_submission_is_named_by_the_test_file(tmp_path, task_name, names, read, submitted):
    for name in names:
        put(tmp_path, name, [])
    task = tasks.get(task_name)
    assert task.path(str(tmp_path), "test").endswith("/" + read)
    assert task.submission_in(str(tmp_path)) == submitted


def test_chid_misses_the_answers_and_takes_either_kind(tmp_path):
    task = tasks.get("chid")
    put(tmp_path, "train.json", lines(LINE))
    assert "train_answer.json does not exist" in complaint(task.read, str(tmp_path), "train")
    put(tmp_path, "train_answer.csv", "#idiom000001#,0\n#idiom000002#,1\n#idiom000003#,2\n")
    assert len(task.read(str(tmp_path), "train")) == 3


def test_files_without_a_question_and_ids_that_come_twice_are_refused(tmp_path):
    task = tasks.get("c3")
    put(tmp_path, "test1.1.json", [])
    assert "holds no question of task c3" in complaint(task.read, str(tmp_path), "test")
    put(tmp_path, "test1.1.json", [[TEXTS, [changed(QUESTION, id=4), changed(QUESTION, id=4)]]])
    assert "2 rows have the id 4" in complaint(task.read, str(tmp_path), "test")


def test_ocnli_reads_the_largest_training_file(tmp_path):
    row = {"sentence1": "甲", "sentence2": "乙", "label": "neutral"}
    for name, count in (("train.3k.json", 1), ("train.30k.json", 2), ("train.json", 3),
                        ("train.50k.json", 4)):
        put(tmp_path, name, lines(*[row] * count, dict(row, label="-")))
        assert len(tasks.get("ocnli").read(str(tmp_path), "train")) == count
    assert tasks.get("ocnli").labels == tasks.get("cmnli").labels


# ---------------------------------------------------------------------------------------------
# Tokens
# ---------------------------------------------------------------------------------------------

def head(tokens, count):
    return tokens[:count]


def test_c3_tokens_share_the_room(tmp_path):
    question = choices.Question(0, "a" * 20, "q" * 4, ("x" * 3, "y"), 0, 0)

    def parts(room):
        text, options = choices.Comprehension().tokens(question, list, "M", room, head)
        return "".join(text), ["".join(option) for option in options]

    assert parts(40) == ("a" * 20, ["qqqqxxx", "qqqqy"])
    assert parts(20) == ("a" * 13, ["qqqqxxx", "qqqqy"])  # the text gives way
    assert parts(10) == ("a" * 5, ["qqxxx", "qqy"])  # then the question, from its end
    assert parts(4) == ("aa", ["xx", "y"])  # at last the options


def test_chid_windows_lie_around_the_blank():
    question = choices.Question("#idiom1#", "a" * 9 + "#idiom1#bb#idiom2#" + "c" * 9, "",
                                ("wxyz", "uv"), 0, 1)

    def parts(room):
        text, options = choices.Idioms().tokens(question, list, "M", room, head)
        return "".join(text), ["".join(option) for option in options]

    assert parts(40) == ("a" * 9 + "MMMMbbM" + "c" * 9, ["wxyz", "uv"])
    assert parts(12) == ("aaMMMMbb", ["wxyz", "uv"])
    assert parts(8) == ("MMMM", ["wxyz", "uv"])


def test_chid_windows_always_hold_the_blank():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    text = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="#"),
                   max_size=30)

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(st.lists(text, min_size=2, max_size=6), st.data(),
                      st.lists(text.filter(str.strip), min_size=2, max_size=10),
                      st.integers(choices.SHORTEST - 3, 80))
    def holds(pieces, data, options, room):
        asked = data.draw(st.integers(0, len(pieces) - 2))
        whole = pieces[0] + "".join(
            "#idiom%d#%s" % (number, piece) for number, piece in enumerate(pieces[1:]))
        question = choices.Question("#idiom%d#" % asked, whole, "", tuple(options), 0, 0)
        kind = choices.Idioms()
        window, candidates = kind.tokens(question, list, None, room, head)
        # Four masks in a row are the blank; the others are single ones, between text or not.
        marks = "".join("M" if token is None else "." for token in window)
        assert "M" * choices.MASKS in marks
        assert len(window) + max(map(len, candidates)) <= room
        assert all(options), "no candidate is lost"
        assert [len(one) for one in candidates] == [
            min(len(option), room // 2) for option in options]
        everything, _ = kind.tokens(question, list, None, 10000, head)
        start = next(place for place in range(len(everything))
                     if everything[place:place + len(window)] == window)
        assert everything[start:start + len(window)] == window

    holds()


def test_c3_rows_always_fit_and_hold_some_of_every_option():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    text = st.text(max_size=60)

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(text, text, st.lists(text.filter(bool), min_size=2, max_size=4),
                      st.integers(choices.SHORTEST - 3, 120))
    def holds(whole, asked, options, room):
        question = choices.Question(0, whole, asked, tuple(options), 0, 0)
        kept, seconds = choices.Comprehension().tokens(question, list, None, room, head)
        assert len(kept) + max(map(len, seconds)) <= room
        assert kept == list(whole)[:len(kept)]
        for second, option in zip(seconds, options):
            assert second[-1] in option  # a part of it ends the row
        if len(whole) + len(asked) + max(map(len, options)) <= room:
            assert ["".join(second) for second in seconds] == [asked + one for one in options]
            assert "".join(kept) == whole

    holds()


# ---------------------------------------------------------------------------------------------
# Decisions
# ---------------------------------------------------------------------------------------------

def test_assignment_is_the_best_there_is():
    rng = np.random.RandomState(3)
    for _ in range(200):
        rows, options = rng.randint(1, 5), rng.randint(2, 7)
        scores = np.log(rng.dirichlet(np.ones(options), size=rows))
        found = choices.assign(scores)
        if rows > options:
            assert found == scores.argmax(axis=1).tolist()
            continue
        best = max(itertools.permutations(range(options), rows),
                   key=lambda some: sum(scores[row, option] for row, option in enumerate(some)))
        assert found == list(best)


def test_numbers_that_are_none_give_some_answer():
    assert sorted(choices.assign(np.full([3, 4], np.nan))) == sorted(
        set(choices.assign(np.full([3, 4], np.nan))))
    assert choices.assign(np.array([[np.nan, -1.0], [-1.0, np.nan]])) == [1, 0]


def question(group, options=3, answer=0):
    return choices.Question(group, "文", "", ("词",) * options, answer, group)


def test_groups_are_decided_apart_from_each_other():
    scores = np.array([[-1., -2., -9.], [-1., -9., -9.], [-1., -3., -4.], [-5., -9., -1.]])
    decide = choices.Idioms().decide
    assert decide([question(1), question(1), question(2), question(3)], scores) == [1, 0, 0, 2]
    assert decide([question(1), question(2), question(3), question(3)], scores) == [0, 0, 0, 2]
    assert choices.Comprehension().decide([question(1)] * 4, scores) == [0, 0, 0, 2]


def test_options_that_a_question_lacks_are_never_chosen():
    scores = np.array([[-3.0, -2.0, 0.0, 0.0]])
    for kind in (choices.Comprehension(), choices.Idioms()):
        assert kind.decide([question(1, options=2)], scores) == [1]


# ---------------------------------------------------------------------------------------------
# Submissions
# ---------------------------------------------------------------------------------------------

def c3_questions():
    return [question(4)._replace(id=4), question(7)._replace(id="b")]


def test_c3_submission_is_a_line_a_question_and_passes_its_check(tmp_path):
    kind = choices.Comprehension()
    text = kind.submission(c3_questions(), [2, 0])
    assert text == '{"id": 4, "label": 2}\n{"id": "b", "label": 0}\n'
    tasks.get("c3").check_submission(c3_questions(), put(tmp_path, "c311_predict.json", text))


@pytest.mark.parametrize("text, problem", [
    ('{"id": 4, "label": 2}\n', "holds 1 predictions where the test file has 2"),
    ('{"id": 4, "label": 3}\n{"id": "b", "label": 0}\n', "line 1: 3 is none of the indexes 0 to 2"),
    ('{"id": 4, "label": "1"}\n{"id": "b", "label": 0}\n', 'line 1: "1" is none'),
    ('{"id": 4, "label": true}\n{"id": "b", "label": 0}\n', "line 1: true is none"),
    ('{"id": 4, "label": -1}\n{"id": "b", "label": 0}\n', "line 1: -1 is none"),
    ('{"id": "4", "label": 1}\n{"id": "b", "label": 0}\n', 'id "4" where the test file has 4'),
    ('{"id": "b", "label": 1}\n{"id": 4, "label": 0}\n', 'id "b" where the test file has 4'),
    ('{"id": 4}\n{"id": "b", "label": 0}\n', "the keys are id where id, label"),
    ('{"id": 4, "label": 1}\n\n{"id": "b", "label": 0}\n', "ends with blank lines"),
    ('{"id": 4, "label": 1, "label": 1}\n{"id": "b", "label": 0}\n', "a key comes twice"),
])
def test_c3_faulty_submissions_are_refused(tmp_path, text, problem):
    path = put(tmp_path, "c311_predict.json", text)
    assert problem in complaint(tasks.get("c3").check_submission, c3_questions(), path)


def test_chid_submission_is_one_object_and_passes_its_check(tmp_path):
    questions = chid(tmp_path, LINE)
    text = choices.Idioms().submission(questions, [3, 1, 0])
    assert list(json.loads(text).items()) == [
        ("#idiom000001#", 3), ("#idiom000002#", 1), ("#idiom000003#", 0)]
    tasks.get("chid").check_submission(questions, put(tmp_path, "chid11_predict.json", text))


@pytest.mark.parametrize("content, problem", [
    ([1], "one object with an index for each blank"),
    ({"#idiom000001#": 0, "#idiom000002#": 1}, "the blank #idiom000003# of the test file"),
    (dict(ANSWERS, **{"#idiom000009#": 1}), "#idiom000009#: the test file has no such blank"),
    (dict(ANSWERS, **{"#idiom000001#": 4}), "#idiom000001#: 4 is none of the indexes 0 to 3"),
    (dict(ANSWERS, **{"#idiom000001#": "0"}), '#idiom000001#: "0" is none'),
    ('{"#idiom000001#": 0, "#idiom000001#": 0}', "comes twice"),
])
def test_chid_faulty_submissions_are_refused(tmp_path, content, problem):
    questions = chid(tmp_path, LINE)
    path = put(tmp_path, "chid11_predict.json", content)
    assert problem in complaint(tasks.get("chid").check_submission, questions, path)


def test_the_zip_takes_all_kinds_each_checked_against_its_own_test_file(tmp_path, root):
    """Predictions of every kind; those of c3 for both versions of the test file."""
    data = tmp_path / "data"
    for name in ("c3", "chid", "ocnli", "cmrc2018", "cluener"):
        (data / name).mkdir(parents=True)
    put(data / "c3", "test1.1.json", [[TEXTS, [changed(QUESTION, id=1)]]])
    put(data / "c3", "test1.0.json", [[TEXTS, [changed(QUESTION, id=1), changed(
        QUESTION, id=2)]]])
    put(data / "chid", "test.json", lines(LINE))
    put(data / "ocnli", "test.json", lines({"sentence1": "甲", "sentence2": "乙", "id": 0}))
    put(data / "cmrc2018", "test.json", {"data": [{"paragraphs": [{
        "context": "他在上海。", "qas": [{"id": "Q1", "question": "在哪儿？"}]}]}]})
    put(data / "cluener", "test.json", lines({"id": 0, "text": "他在上海。"}))
    paths = [
        put(tmp_path, "c311_predict.json", lines({"id": 1, "label": 0})),
        put(tmp_path, "c310_predict.json", lines({"id": 1, "label": 0}, {"id": 2, "label": 1})),
        put(tmp_path, "chid11_predict.json", ANSWERS),
        put(tmp_path, "ocnli_50k_predict.json", lines({"id": 0, "label": "neutral"})),
        put(tmp_path, "cmrc2018_predict.json", {"Q1": "上海"}),
        put(tmp_path, "cluener_predict.json", lines(
            {"id": 0, "label": {"address": {"上海": [[2, 3]]}}}))]
    checked = submission.check(paths, str(data))
    assert [(task.name, path.rsplit("/", 1)[1], count) for task, path, count in checked] == [
        ("ocnli", "ocnli_50k_predict.json", 1), ("c3", "c311_predict.json", 1),
        ("c3", "c310_predict.json", 2), ("chid", "chid11_predict.json", 3),
        ("cmrc2018", "cmrc2018_predict.json", 1), ("cluener", "cluener_predict.json", 1)]
    for place, content, problem in (
            (1, lines({"id": 1, "label": 0}), "the test file has 2 questions"),
            (4, {"Q1": 3}, "the answer to Q1 is no text"),
            (4, {"Q2": "上海"}, "does not answer the 1 questions"),
            (5, lines({"id": 0, "label": {"address": {"上海": [[1, 2]]}}}), "does not stand")):
        kept = files.read_lines(paths[place])
        kept = "".join(text + "\n" for _, text in kept)
        put(tmp_path, paths[place].rsplit("/", 1)[1], content)
        assert problem in complaint(submission.check, paths, str(data))
        put(tmp_path, paths[place].rsplit("/", 1)[1], kept)


# ---------------------------------------------------------------------------------------------
# The embedded samples
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["c3", "chid", "ocnli"])
def test_samples_are_whole_and_share_no_question(root, name, capsys):
    task = tasks.get(name)
    seen = {}
    for split in tasks.SPLITS:
        examples = task.read("%s/data/clue_sample/%s" % (root, name), split)
        assert len(examples) >= 19
        for example in examples:
            content = (example.text, example.question, example.options) if name != "ocnli" else (
                example.text_a, example.text_b)
            assert seen.setdefault(content, split) == split
        if split != "test" and name != "ocnli":
            counts = np.bincount([example.answer for example in examples])
            assert len(counts) == task.kind.most_options and counts.min() > 0
    assert "no answer" not in capsys.readouterr().err
