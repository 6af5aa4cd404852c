"""Both READMEs say what the code does: commands, flags, files, figures, and the same in both."""

import ast
import glob
import json
import os
import re

import pytest

import args
import entities
import files
import own_data
import reading_comprehension
import records
import tasks

LANGUAGES = ("README.md", "README_en.md")
# Modules that define flags for a script beside its own.
_PRETRAINING = ["pretraining.py", "estimators.py"]
_CLASSIFYING = ["finetuning.py", "fine_tuning_methods.py", "estimators.py"]
FLAG_MODULES = {"run_pretraining.py": _PRETRAINING, "run_pretraining_google.py": _PRETRAINING,
                "run_classifier.py": _CLASSIFYING, "run_classifier_sp_google.py": _CLASSIFYING,
                "run_mrc.py": _CLASSIFYING + ["model_flags.py"],
                "run_ner.py": _CLASSIFYING + ["model_flags.py"]}

# What a shell script takes beside the flags of the Python script behind it.
SHELL_SCRIPTS = {
    "run_classifier_clue.sh": ("run_classifier.py", {"sample", "from_scratch"}),
    "run_classifier_lcqmc.sh": ("run_classifier.py", {"sample", "from_scratch"}),
    "create_pretrain_data.sh": ("create_pretraining_data.py", {"sample"}),
    "run_tests.sh": (None, set()),
    "tests/faults/run_all.sh": (None, {"short", "list", "only", "seed"}),
    "tests/fuzz/run.sh": (None, set()),
}
ABSL_FLAGS = {"help", "helpfull"}

# Named in the texts, made by the scripts or brought by the user.
OUTPUTS = {
    "clue_submission.zip", "eval_results.json", "eval_results.txt", "eval_report.txt",
    "test_results.tsv", "predictions.tsv", "run.json", "labels.txt", "classifier.json",
    "albert_config.json", "config.json", "tokenizer_config.json", "tokenizer.json", "export.json",
    "vectors.json", "openapi.json",
    "corpus.json", "corpus.held_out.txt", "tf_news_zh_1.tfrecord", "tf_corpus.json",
    "tf_corpus-00000-of-00004.tfrecord",
    "tf_news_2016_zh_raw_news2016zh_1.tfrecord",
    "predictions.json", "nbest_predictions.json", "cmrc2018_predict.json", "dev_predictions.json",
    "dev_nbest_predictions.json", "reading.json", "cluener_predict.json", "entities.json",
    "choices.json", "c310_predict.json", "chid10_predict.json", "results.md", "results.json",
    "sweep_results.md", "sweep_results.json", "finished.json"}
BROUGHT = {"train.txt", "dev.txt", "test.txt", "xnli.dev.tsv", "xnli.test.tsv",
           "multinli.train.zh.tsv", "train.tsv", "dev.tsv", "test.tsv", "dev_matched.tsv",
           "test_matched.tsv", "train.json", "dev.json", "m-train.json", "d-train.json",
           "train_answer.json", "test1.0.json", "test1.1.json"}


# ---------------------------------------------------------------------------------------------
# Taking the documents apart
# ---------------------------------------------------------------------------------------------

def read(root, name):
    with files.open_binary(os.path.join(root, name)) as stream:
        return stream.read().decode("utf-8")


def code_blocks(text, kind="bash"):
    return re.findall(r"^```%s\n(.*?)^```$" % kind, text, re.MULTILINE | re.DOTALL)


def commands(text):
    """Returns the shell lines of all bash blocks, continued lines joined."""
    joined = "".join(code_blocks(text)).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.split("\n") if line.strip()]


def prose(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def table(text, name):
    """Returns the rows, lists of cells, of the table that follows the comment `table: name`."""
    match = re.search(r"<!-- table: %s -->\n((?:\|.*\n)+)" % name, text)
    assert match, "no table %s" % name
    lines = match.group(1).strip().split("\n")[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def number(cell):
    """Returns the number in a cell such as 4,295,186 or 2e-5; None for a dash."""
    return None if cell == "–" else float(cell.replace(",", ""))


def defined_flags(root, script):
    """Returns the names of the flags that a Python script defines."""
    names = set(ABSL_FLAGS)
    for source in [script] + FLAG_MODULES.get(script, []):
        for node in ast.walk(ast.parse(read(root, source))):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                    and node.func.attr.startswith("DEFINE_")):
                names.add(ast.literal_eval(node.args[0]))
    return names


def known_flags(root, script):
    """Returns the flags of a Python or shell script."""
    if not script.endswith(".sh"):
        return defined_flags(root, script)
    behind, own = SHELL_SCRIPTS[script]
    return own | (defined_flags(root, behind) if behind else set())


def scripts_and_flags(command):
    """Yields (script, set of flag names) of one command line, an inner $(...) apart."""
    for part in re.findall(r"\$\(([^)]*)\)", command) + [re.sub(r"\$\([^)]*\)", "", command)]:
        script = re.search(r"[\w./]*\.(?:py|sh)\b", part)
        if script:
            yield (os.path.normpath(script.group(0)),
                   set(re.findall(r"(?<=\s)--(\w+)", part[script.end():])))


@pytest.fixture(params=LANGUAGES)
def text(request, root):
    return read(root, request.param)


@pytest.fixture
def both(root):
    return [read(root, name) for name in LANGUAGES]


# ---------------------------------------------------------------------------------------------
# Both languages
# ---------------------------------------------------------------------------------------------

def test_each_links_to_the_other_at_its_top(both):
    assert "(README_en.md)" in "".join(both[0].split("\n")[:4])
    assert "(README.md)" in "".join(both[1].split("\n")[:4])


def test_both_give_the_same_commands(both):
    assert commands(both[0]) == commands(both[1])
    assert commands(both[0])[0] == "bash run_classifier_clue.sh --sample"
    assert commands(both[0])[1] == "bash run_tests.sh"


def test_both_have_the_same_sections_and_tables(both):
    shapes = [[re.match(r"#*", line).group(0) for line in prose(text).split("\n")
               if line.startswith("#")] for text in both]
    assert shapes[0] == shapes[1]
    names = [re.findall(r"<!-- table: (\w+) -->", text) for text in both]
    assert names[0] == names[1]
    rows = [sum(line.startswith("|") for line in text.split("\n")) for text in both]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", [
    "models", "configurations", "clue", "lcqmc_xnli", "pretraining", "tasks", "records"])
def test_both_give_the_same_figures(both, name):
    figures = [[re.findall(r"\d[\d,.e-]*|–", cell) for row in table(text, name) for cell in row]
               for text in both]
    assert figures[0] == figures[1]


def test_both_quote_the_same_messages(both):
    messages = [[row[0] for row in table(text, "errors")] for text in both]
    assert messages[0] == messages[1]


def test_links_within_a_document_lead_somewhere(text):
    titles = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
              for title in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)}
    targets = re.findall(r"\]\(#([^)]*)\)", text)
    assert targets
    assert set(targets) <= titles


# ---------------------------------------------------------------------------------------------
# Scripts, flags, files
# ---------------------------------------------------------------------------------------------

def test_every_command_names_scripts_and_flags_that_exist(text, root):
    checked = 0
    for command in commands(text):
        for script, given in scripts_and_flags(command.partition(" -- ")[0]):  # then Beam's own
            assert os.path.isfile(os.path.join(root, script)), command
            if script == "env.sh":
                continue
            assert given <= known_flags(root, script), command
            checked += 1
    assert checked > 25


def test_a_misspelt_flag_in_a_command_would_be_noticed(root):
    (script, given), = scripts_and_flags('"$PYTHON" run_classifier.py --do_trian --data_dir=x')
    assert given - known_flags(root, script) == {"do_trian"}


def test_every_flag_in_the_prose_exists(text, root):
    known = {"name", "do_train"}
    for path in glob.glob(os.path.join(root, "*.py")):
        known |= defined_flags(root, os.path.basename(path))
    for name in ("reviews.py", "create_data.py", "side_by_side.py", "memory.py", "serve.py",
                 "better_small_models.py"):
        known |= defined_flags(root, "benchmarks/" + name)
    for _, own in SHELL_SCRIPTS.values():
        known |= own
    known |= {"family", "show"}  # of tests/faults/bad_inputs/run.py
    spans = re.findall(r"`([^`\n]*)`", prose(text))
    named = {flag for span in spans for flag in re.findall(r"(?<!\w)--([a-z0-9_]+)", span)}
    assert len(named) > 20
    assert named <= known


def test_variables_set_before_a_command_are_read_by_its_script(text, root):
    readers = read(root, "common.sh") + read(root, "env.sh")
    found = 0
    for command in commands(text):
        match = re.match(r'((?:[A-Z_]+=(?:"[^"]*"|\S*) )+)bash (\S+\.sh)', command)
        if match:
            for name in re.findall(r"([A-Z_]+)=", match.group(1)):
                assert "${%s:" % name in readers + read(root, match.group(2)), command
                found += 1
    assert found > 8


def test_tasks_named_in_commands_exist(text):
    named = re.findall(r"--(?:task_name|settings)=(\w+)", " ".join(commands(text)))
    named += re.findall(r"TASKS=\"?(\w+)", " ".join(commands(text)))
    assert set(own_data.NAMES) < set(named) <= set(own_data.names()) | {"all"} | set(
        reading_comprehension.TASK_NAMES) | set(entities.TASK_NAMES)


def test_downloads_named_in_commands_exist(text, root):
    known = json.loads(read(root, "data/downloads.json"))["archives"]
    named = re.findall(r"download\.py --name=(\w+)", " ".join(commands(text)))
    assert named and set(named) <= set(known)


def test_files_named_in_the_text_exist_or_are_known_outputs(text, root):
    here = {os.path.basename(path) for pattern in (
        "*", "data/*", "albert_config/*", "benchmarks/*", "requirements/*", "tests/*",
        "tests/faults/*", "tests/faults/bad_inputs/*", "tests/fuzz/*")
            for path in glob.glob(os.path.join(root, pattern))}
    here |= {os.path.basename(table_row[1]) for table_row in table(text, "models")}
    here |= {tasks.get(name).submission_name for name in tasks.clue_names()}
    named = re.findall(r"[\w./-]+\.(?:py|sh|json|txt|tsv|md|zip|tfrecord)\b", re.sub(
        r"\(https?:[^)]*\)|https?:\S*", "", prose(text)))
    unknown = {os.path.basename(name) for name in named} - here - OUTPUTS - BROUGHT
    unknown = {name for name in unknown if not name.startswith("_predict")}
    assert unknown <= {"test.json"}


def test_flags_of_both_layouts_are_told_apart(text, root):
    rows = [line for line in text.split("\n") if line.startswith("| ") and
            "`--bert_config_file`" in line]
    (_, ours, googles), = [[cell.strip().strip("`-") for cell in row.strip("|").split("|")]
                           for row in rows]
    for kind in ("pretraining", "classifier"):
        scripts = [name for name in FLAG_MODULES if kind in name]
        flags = [defined_flags(root, name) for name in sorted(scripts, key=len)]
        assert (ours in flags[0], googles in flags[0]) == (True, False)
        assert (ours in flags[1], googles in flags[1]) == (False, True)


def test_defaults_of_googles_pretraining(text, root):
    for node in ast.walk(ast.parse(read(root, "run_pretraining_google.py"))):
        if isinstance(node, ast.Call) and ast.dump(node.func).count("'define_flags'"):
            given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            if given:
                break
    paragraph, = [line for line in text.split("\n") if "`model.ckpt-best`" in line]
    assert given["do_train"] is True and "`--do_train=True`" in paragraph
    told = [float(number.replace(",", ""))
            for number in re.findall(r"\d[\d,]*\.?\d*", paragraph)]
    for name in ("max_seq_length", "train_batch_size", "learning_rate", "num_train_steps",
                 "num_warmup_steps", "save_checkpoints_steps"):
        assert given[name] in told, name


def test_the_python_example_uses_what_there_is(both, root):
    codes = ["".join(code_blocks(text, "python")) for text in both]
    assert ast.dump(ast.parse(codes[0])) == ast.dump(ast.parse(codes[1]))
    methods = {function.name: [argument.arg for argument in function.args.args]
               for node in ast.parse(read(root, "similarity.py")).body
               if isinstance(node, ast.ClassDef) and node.name == "BertSim"
               for function in node.body if isinstance(function, ast.FunctionDef)}
    used = 0
    for node in ast.walk(ast.parse(codes[0])):
        if isinstance(node, ast.Call) and ast.dump(node.func).startswith(
                "Attribute(value=Name(id='sim'"):
            assert len(node.args) < len(methods[node.func.attr])
            used += 1
    assert used > 3


def test_settings_of_args_are_said_as_they_are(text):
    spans = re.findall(r"`([^`\n]*)`", prose(text))
    variables = [span for span in spans if span.startswith(args.PREFIX) and "=" in span]
    assert variables
    for span in variables:
        assert span.split("=")[0][len(args.PREFIX):].lower() in args.NAMES


def test_keys_of_run_json(text, root):
    paragraph, = [line for line in text.split("\n") if "`init_fingerprint`" in line]
    keys = set(re.findall(r"`(\w+)`", paragraph))
    written = set(re.findall(r'_record\["(\w+)"\] = ', read(root, "run_record.py")))
    assert keys == written


def test_the_map_of_the_files_leaves_none_out(text, root):
    there = {os.path.basename(path) for pattern in ("*.py", "*.sh")
             for path in glob.glob(os.path.join(root, pattern))}
    there |= {"albert_config/", "data/", "requirements/", "tests/", ".ci/run"}
    mapped = {name for line in text.split("\n") if line.startswith("| `")
              for name in re.findall(r"`([^`]*)`", line.split("|")[1])}
    assert there <= mapped


def test_quoted_messages_stand_in_the_sources(text, root):
    paths = glob.glob(os.path.join(root, "*.py")) + glob.glob(os.path.join(root, "*.sh"))
    source = "\n".join(read(root, os.path.basename(path)) for path in sorted(paths))
    source = re.sub(r'"(?: \\)?\s*\n\s*"', "", source).replace('\\"', '"')
    rows = table(text, "errors")
    assert len(rows) >= 12
    for row in rows:
        if "Flags parsing error" in row[0]:  # absl's own
            continue
        message = re.sub(r"^(ERROR|WARNING): ", "", row[0]).replace("'…'", "…")
        longest = max(message.split("…"), key=len).strip()
        # A colon may be where one message was put together from two.
        assert longest in source or all(
            part in source for part in longest.split(": ")), row[0]


# ---------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------

def parameters(config):
    """Returns (with heads, encoder only), counted from the list of variables of each layout."""
    v, e, h = config["vocab_size"], config["embedding_size"], config["hidden_size"]
    i, p, t = (config["intermediate_size"], config["max_position_embeddings"],
               config["type_vocab_size"])
    block = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 4 * h
    pooler = h * h + h
    if "num_hidden_groups" in config:
        encoder = (v + p + t + 2) * e + (e * h + h) + block + pooler
        heads = (h * e + e) + 2 * e + v + (2 * h + 2)
    else:
        encoder = v * e + e * h + (p + t + 2) * h + block + pooler
        heads = (h * h + h) + 2 * h + v + (2 * h + 2)
    return encoder + heads, encoder


def test_table_of_configurations(text, root):
    rows = table(text, "configurations")
    names = {os.path.basename(path)
             for path in glob.glob(os.path.join(root, "albert_config", "*.json"))}
    assert {row[0] for row in rows} == names
    for name, layout, *numbers in rows:
        config = json.loads(read(root, "albert_config/" + name))
        assert layout == ("Google" if "num_hidden_groups" in config else "albert_zh")
        assert [number(cell) for cell in numbers[:4]] == [
            config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"],
            config["intermediate_size"]]
        assert numbers[4] == config.get("ln_type", "–")
        assert tuple(number(cell) for cell in numbers[5:]) == parameters(config)


def test_what_all_configurations_share(root):
    for path in glob.glob(os.path.join(root, "albert_config", "*.json")):
        config = files.read_json(path)
        assert (config["vocab_size"], config["embedding_size"], config["hidden_act"],
                config["max_position_embeddings"], config["type_vocab_size"]) == (
                    21128, 128, "gelu", 512, 2)
        assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0


def test_figures_of_the_three_changes(text):
    h, i = 1024, 3072
    layer = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 4 * h
    assert f"{layer:,}" in text and f"{12 * layer:,}" in text
    factorised, whole = 30000 * 128 + 128 * 4096, 30000 * 4096
    assert (round(factorised / 1e4), round(whole / 1e6)) == (436, 123)
    assert ("436 万" in text and "1.23 亿" in text) or (
        "4.36 million" in text and "123 million" in text)


def test_table_of_tasks(text, root):
    downloads = json.loads(read(root, "data/downloads.json"))["archives"]
    rows = table(text, "tasks")
    assert [re.match(r"\w+", row[0]).group(0) for row in rows] == tasks.names()
    for row in rows:
        task = tasks.get(re.match(r"\w+", row[0]).group(0))
        assert all(alias in row[0] or task.name == "wsc" for alias in task.aliases)
        assert number(row[1]) == (len(task.labels) or None)
        if task.name in downloads and row[2] != "–":
            assert row[2] in downloads[task.name]["about"]
        assert [number(cell) for cell in row[3:8]] == list(task.settings)
        assert row[8] == (task.submission_name or "–")


def test_table_of_models(text, root):
    downloads = json.loads(read(root, "data/downloads.json"))["archives"]
    models = {name: entry for name, entry in downloads.items() if entry["kind"] == "model"}
    rows = table(text, "models")
    assert {re.match(r"\w+", row[0]).group(0) for row in rows} == set(models)
    for row in rows:
        entry = models[re.match(r"\w+", row[0]).group(0)]
        assert row[1] == entry["archive"]
        size = entry.get("about_bytes")
        assert row[2] == ("–" if size is None else "%d MB" % (size / 1e6))
        assert "%s layout" % row[3] in entry["about"]
        assert os.path.isfile(os.path.join(root, "albert_config", row[4]))
        assert ("google" in row[4]) == (row[3] == "Google")


def test_table_of_record_keys(text):
    assert [row[0] for row in table(text, "records")] == [
        field.name for field in records.PRETRAINING]
    assert [row[1] for row in table(text, "records")] == [
        field.dtype.replace("float32", "float") for field in records.PRETRAINING]


def test_square_root_rule(text):
    for batch_size, rate in ((256, "4.4e-4"), (32, "1.6e-4")):
        assert "%.1e" % (0.00176 * (batch_size / 4096.0) ** 0.5) == rate.replace("e-4", "e-04")
        assert rate in text


# ---------------------------------------------------------------------------------------------
# The other documents
# ---------------------------------------------------------------------------------------------

def test_licence_and_notice(root):
    licence = read(root, "LICENSE")
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    vocabulary = os.path.join(root, "albert_config", "vocab.txt")
    entries = sum(1 for _ in files.read_lines(vocabulary))
    notice = read(root, "NOTICE")
    assert f"{entries:,} entries" in notice
    assert f"{os.path.getsize(vocabulary):,} bytes" in notice


def test_changelog_names_flags_that_exist(root):
    known = {flag for path in glob.glob(os.path.join(root, "*.py"))
             for flag in defined_flags(root, os.path.basename(path))} | {"sample"}
    named = set(re.findall(r"--(\w+)", read(root, "CHANGELOG.md")))
    assert named and named <= known
