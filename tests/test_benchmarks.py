"""The benchmarks: the harness with workers made up here, then every benchmark with tiny sizes.

No time is asserted. Only the first run of a real benchmark starts its workers as processes; the
others have theirs in this process, where starting takes no time.
"""

import importlib.util
import itertools
import io
import json
import os
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import TINY, assert_user_error, run_here, run_script, write_config

import batching
import files
import heads
from errors import UserError

sys.path.append(os.path.join(ROOT, "benchmarks"))  # at the end: the root has an inference.py too

import finetune  # noqa: E402
import memory  # noqa: E402
import pretrain  # noqa: E402
import side_by_side  # noqa: E402
from side_by_side import (  # noqa: E402
    BASELINE, THIS, Measure, Outcome, Reference, Summary, Variant, WorkerError)

_spec = importlib.util.spec_from_file_location(
    "inference_benchmark", os.path.join(ROOT, "benchmarks", "inference.py"))
inference_benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inference_benchmark)

SCRIPTS = {"finetune.py": finetune, "memory.py": memory, "pretrain.py": pretrain,
           "inference.py": inference_benchmark}
HAS_TORCH = importlib.util.find_spec("torch") is not None

RATE = Measure("rate", "Speed", "things/s", True, (("worst", "worst"),))
TIME = Measure("time", "Time", "ms", False, ())

# What a worker made up here does, its settings say: {"log", "name", "values", ...}.
FAKE = """
import json
import os
import sys

sys.path.insert(0, %r)
import side_by_side
from errors import UserError


def prepare(settings):
    print("a library prints this")
    os.system("echo a library in C prints this")
    if "import" in settings:
        __import__(settings["import"])
    if "error" in settings:
        raise {"user": UserError, "other": ValueError}[settings["error"]]("no good\\nat all")
    values = iter(settings["values"])

    def run_round():
        value = next(values)
        with open(settings["log"], "a") as log:
            log.write(settings["name"])
        if value == "exit":
            os._exit(3)
        return {"rate": 1.0 / (1.0 / value), "worst": value / 2.0, "time": 10.0 / value}

    return {"runtime": "Fake 1.0"}, run_round


side_by_side.serve(prepare, json.loads(sys.argv[1][len("--worker="):]))
""" % os.path.join(ROOT, "benchmarks")


@pytest.fixture()
def fakes(tmp_path):
    """Returns a function that runs workers made up here: {name: settings} to list of Outcome."""
    script = str(tmp_path / "fake.py")
    files.write_text(script, FAKE)

    def run(rounds=3, baseline=None, **workers):
        variants = [Variant(name, name.upper(), settings.pop("interpreter", THIS),
                            dict(settings, name=name, log=str(tmp_path / "log")))
                    for name, settings in sorted(workers.items())]
        return side_by_side.measure(
            script, variants, {THIS: sys.executable, BASELINE: baseline}, rounds)

    run.log = tmp_path / "log"
    return run


def outcome(key, values, problem=None):
    """An Outcome with one value a round, for both measures."""
    return Outcome(Variant(key, "variant " + key, THIS, {}), {"runtime": "Fake 1.0"},
                   [{"rate": value, "worst": value / 2.0, "time": value} for value in values],
                   problem)


# ---------------------------------------------------------------------------------------------
# The harness
# ---------------------------------------------------------------------------------------------

def test_workers_take_turns_and_what_libraries_print_is_no_answer(fakes):
    first, second = fakes(a={"values": [1, 2, 3]}, b={"values": [10, 20, 30]})
    assert fakes.log.read_text() == "ababab"
    assert [values["rate"] for values in first.rounds] == [1, 2, 3]
    assert [values["rate"] for values in second.rounds] == [10, 20, 30]
    assert (first.problem, first.about) == (None, {"runtime": "Fake 1.0"})


def test_a_worker_that_cannot_run_says_why_and_the_others_go_on(fakes):
    found = fakes(
        a={"values": [], "import": "package_nobody_has"}, b={"values": [], "error": "user"},
        c={"values": [], "error": "other"}, d={"values": [5, "exit"]}, e={"values": [1, 2, 3]},
        f={"values": [1], "interpreter": BASELINE}, g={"values": [7]})
    problems = [one.problem for one in found]
    assert problems == [
        "package_nobody_has is not installed", "no good\nat all", "failed: ValueError: no good",
        "ended with status 3 (see above)", None,
        "no Python with TensorFlow 1.15 (--baseline_python)", "failed: StopIteration: "]
    assert fakes.log.read_text() == "deg" + "de" + "e"
    assert len(found[4].rounds) == 3
    assert side_by_side.summary_of(found[3], "rate") is None  # it did not get to the end


def test_the_baseline_runs_on_its_own_interpreter(fakes):
    found, = fakes(rounds=1, baseline=sys.executable,
                   a={"values": [1], "interpreter": BASELINE})
    assert found.problem is None and len(found.rounds) == 1


@pytest.mark.parametrize("values, summary", [
    ([4, 1, 3, 2, 5], Summary(2, 3, 4)), ([7], Summary(7, 7, 7)),
    ([1, 2], Summary(1.25, 1.5, 1.75)), ([10, 0, 30, 20], Summary(7.5, 15, 22.5))])
def test_quartiles(values, summary):
    assert side_by_side.summarise(values) == pytest.approx(summary)
    assert summary == pytest.approx(Summary(*np.percentile(values, [25, 50, 75])))


def test_ratios_above_one_are_better_whichever_way_the_measure_goes():
    outcomes = [outcome("a", [1, 2, 30]), outcome("b", [8, 8, 8]), outcome("c", [4, 4, 4]),
                outcome("d", [1000], problem="it failed")]
    one, best = Reference("to a", ("a",)), Reference("to the best", ("b", "c", "d", "absent"))
    assert side_by_side.ratios(outcomes, RATE, one) == {"a": 1, "b": 4, "c": 2}
    assert side_by_side.ratios(outcomes, RATE, best) == {"a": 0.25, "b": 1, "c": 0.5}
    assert side_by_side.ratios(outcomes, TIME, best) == {"a": 2, "b": 0.5, "c": 1}
    assert side_by_side.ratios(outcomes, RATE, Reference("to d", ("d",))) == {}


def test_the_report_is_printed_and_saved(tmp_path, capsys):
    outcomes = [outcome("a", [1, 2, 3]), outcome("b", [6, 8, 10]),
                outcome("c", [], problem="torch is not installed")]
    references = [Reference("to a", ("a",)), Reference("to c", ("c",))]
    side_by_side.report("speed", "How fast", {"cpu": "a|b", "cpu_flags": ["avx2", "fma"]}, outcomes,
                        [RATE, TIME], references, str(tmp_path))
    out = capsys.readouterr().out
    assert "  cpu_flags: avx2 fma" in out and "Speed, things/s" in out and "Time, ms" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("variant b")]
    assert rows == [["variant", "b", "Fake", "1.0", "8", "7", "to", "9", "4", "4.00x", "-"],
                    ["variant", "b", "Fake", "1.0", "8", "7", "to", "9", "0.25x", "-"]]
    assert "not run: torch is not installed" in out

    page = (tmp_path / "speed.md").read_text()
    assert "| variant b | Fake 1.0 | 8 | 7 to 9 | 4 | 4.00x | - |" in page
    assert "- command: `python " in page
    saved = json.loads((tmp_path / "speed.json").read_text())
    assert saved["conditions"]["cpu_flags"] == ["avx2", "fma"]
    assert [one["key"] for one in saved["measures"]] == ["rate", "time"]
    second = saved["variants"][1]
    assert second["medians"] == {"rate": 8, "time": 8}
    assert second["ratios"] == {"to a": {"rate": 4, "time": 0.25}, "to c": {}}
    assert [one["rate"] for one in second["rounds"]] == [6, 8, 10]
    assert saved["variants"][2]["problem"] == "torch is not installed"
    with io.open(str(tmp_path / "speed.png"), "rb") as stream:
        assert stream.read(8) == b"\x89PNG\r\n\x1a\n"


def test_profiles_are_shown_of_variants_that_have_one_and_ran():
    profile = {"waiting": 0.123, "matrix products": 81.6}
    outcomes = [outcome("a", [1]), outcome("b", [1]), outcome("c", [1], problem="it failed")]
    outcomes[1:] = [one._replace(about={"profile": profile}) for one in outcomes[1:]]
    assert side_by_side.profile_rows(outcomes)[1:] == [["variant b", "0.12", "82"]]


def test_a_bar_inside_a_table_cell_does_not_part_it():
    assert "| a\\|b |" in side_by_side.markdown("t", {}, [("h", [["x"], ["a|b"]])])


@pytest.mark.parametrize("value, text", [
    (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")])
def test_numbers_have_three_digits(value, text):
    assert side_by_side.number(value) == text


def test_variants_are_chosen_by_name():
    variants = [Variant(key, key, THIS, {}) for key in ("older", "hf", "bfloat16")]
    assert side_by_side.choose(variants, None) == variants
    assert [one.key for one in side_by_side.choose(variants, "bfloat16, older")] == [
        "older", "bfloat16"]
    with pytest.raises(UserError, match='--variants: bfloat is unknown. Did you mean "bfloat16"'):
        side_by_side.choose(variants, "bfloat")


def test_the_machine_is_described():
    facts = side_by_side.machine()
    assert facts["cores"] >= 1 and facts["cpu"]
    assert facts["date"].endswith(" UTC")
    assert set(facts["cpu_flags"]) <= set(side_by_side.CPU_FLAGS)


def test_the_fastest_is_chosen_after_a_warm_up(monkeypatch):
    clock = iter([0, 5, 5, 9, 9, 12, 12, 16])  # begin and end: 5, 4 of "a"; 3, 4 of "b"
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: next(clock))
    calls = []
    assert side_by_side.fastest(["a", "b"], lambda name: lambda: calls.append(name)) == "b"
    assert calls == ["a"] * 3 + ["b"] * 3


# ---------------------------------------------------------------------------------------------
# What the benchmarks feed
# ---------------------------------------------------------------------------------------------

def test_transformers_get_the_batches_that_this_project_trains_on():
    rows = [{"input_ids": [1] * (number % 7 + 2)} for number in range(24)]
    lengths = [len(row["input_ids"]) for row in rows]
    batches, order = finetune.Batches(rows, 8, True), batching.TrainingOrder(
        lengths, 8, finetune.SEED)
    theirs = list(itertools.islice(batches.of_training(), 6))
    assert theirs == [order.batch(number).tolist() for number in range(6)]
    plain = finetune.Batches(rows, 8, False)
    training = plain.of_training()
    for epoch in (list(itertools.islice(training, 3)), list(itertools.islice(training, 3)),
                  plain.by_length(), batches.by_length()):
        assert sorted(sum(epoch, [])) == list(range(24))
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch)
              for batch in batches.by_length()]
    assert max(spread) < 4


def test_random_pairs_are_as_long_as_real_ones():
    rows, what = finetune._random_rows(
        {"examples": 2000, "max_seq_length": 128, "vocab_size": 50}, None)
    lengths = np.array([len(row["input_ids"]) for row in rows])
    assert "no LCQMC" in what and 26 < lengths.mean() < 30
    assert lengths.min() >= finetune.SHORTEST and lengths.max() <= finetune.LONGEST
    assert all(len(row["segment_ids"]) == len(row["input_mask"]) == length
               for row, length in zip(rows, lengths))


def test_pretraining_records_are_whole_or_short_as_wanted():
    whole = pretrain.make_rows(20, 40, 50, 0.0)
    assert all(sum(row["input_mask"]) == 40 and sum(row["masked_lm_weights"]) == 6
               for row in whole)
    some = pretrain.make_rows(200, 40, 50, 0.5)
    lengths = [sum(row["input_mask"]) for row in some]
    assert 60 < sum(length < 40 for length in lengths) < 140 and min(lengths) >= 16
    for row, length in zip(some, lengths):
        count = pretrain.predictions_of(length)
        assert max(row["masked_lm_positions"][:count]) < length
        assert sum(row["masked_lm_weights"]) == count and len(row["masked_lm_ids"]) == 6
        assert not any(row["input_ids"][length:])


def test_the_head_on_masked_positions_has_the_loss_of_the_whole_one():
    torch = pytest.importorskip("torch", reason='PyTorch is missing: ALBERT_EXTRAS="test hf"')
    model = side_by_side.hugging_face(TINY, "AlbertForPreTraining", "eager").eval()
    rows = pretrain.make_rows(6, 32, 60, 0.7)
    longest = max(sum(row["input_mask"]) for row in rows)
    labels = np.full([6, longest], -100)
    for label, row in zip(labels, rows):
        count = int(sum(row["masked_lm_weights"]))
        label[row["masked_lm_positions"][:count]] = row["masked_lm_ids"][:count]
    batch = pretrain.torch_batch(rows)
    assert batch["input_ids"].shape == (6, longest) and "attention_mask" in batch
    with torch.no_grad():
        whole = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"],
                      labels=torch.from_numpy(labels), sentence_order_label=batch["order"]).loss
        assert pretrain.masked_loss(model, batch).item() == pytest.approx(whole.item(), rel=1e-5)


def test_pairs_have_the_lengths_that_the_table_names(vocab_file):
    import tokenization
    tokenizer = tokenization.from_file(vocab_file)
    texts = inference_benchmark.make_texts([5, 16, 33], 50)
    for length, pair in texts["single"].items():
        assert sum(len(tokenizer.tokenize(text)) for text in pair) + 3 == int(length)
    assert len(texts["many"]) == 50
    assert all(7 <= len(first) + len(second) + 3 <= 61 for first, second in texts["many"])


# ---------------------------------------------------------------------------------------------
# Memory: from cells to batches
# ---------------------------------------------------------------------------------------------

def cells_of(kinds, batches=(2, 4, 8)):
    return [memory.Cell("albert_config_tiny.json", 128, batch, kind)
            for batch in batches for kind in kinds]


def test_a_line_is_fitted_and_gives_the_largest_batch():
    assert memory.fit([(2, 500.0), (4, 700.0)]) == memory.Line(300.0, 100.0)
    points = [(2, 510.0), (4, 690.0), (8, 1130.0)]
    slope, start = np.polyfit(*zip(*points), deg=1)
    assert memory.fit(points) == pytest.approx((start, slope))
    assert memory.largest_batch(memory.Line(300.0, 100.0), 12 * 1024.0) == 119
    assert memory.largest_batch(memory.Line(20000.0, 100.0), 12 * 1024.0) == 0
    assert memory.largest_batch(memory.Line(300.0, 0.0), 12 * 1024.0) is None
    assert memory.largest_batch(memory.fit([(2, 500.0)]), 12 * 1024.0) is None


def test_a_kind_that_cannot_run_leaves_the_others_their_cells():
    asked = []

    def run_cell(settings):
        asked.append((settings["kind"], settings["batch"]))
        if settings["kind"] == memory.HF:
            raise WorkerError("torch is not installed")
        if settings["batch"] == 8:
            raise WorkerError("ended with status -9 (see above)")
        return {"memory": 300.0 + 100.0 * settings["batch"], "runtime": "Fake 1.0"}

    found, runtimes = memory.measure(cells_of([memory.OURS, memory.HF]), 2, run_cell)
    assert asked == [(memory.OURS, 2), (memory.HF, 2), (memory.OURS, 4), (memory.OURS, 8)]
    assert runtimes == {memory.OURS: "Fake 1.0", memory.HF: "not run: torch is not installed"}
    assert memory.cell_rows(found, [memory.OURS])[1:] == [
        ["tiny", "128", "2", "500"], ["tiny", "128", "4", "700"]]
    assert memory.batch_rows(found, [memory.OURS], 12.0)[1:] == [["tiny", "128", "119"]]


def test_the_tables_hold_every_kind():
    found = {cell: cell.batch * (300.0 if cell.kind == memory.OURS else 75.0)
             for cell in cells_of([memory.OURS, memory.RECOMPUTED], (2, 4))}
    rows = memory.cell_rows(found, [memory.OURS, memory.RECOMPUTED])
    assert rows[0][3:] == ["this project, MiB", "recomputed, MiB",
                           "recomputed, times this project"]
    assert rows[1] == ["tiny", "128", "2", "600", "150", "0.25x"]
    assert memory.batch_rows(found, [memory.OURS, memory.RECOMPUTED], 3.0)[1] == [
        "tiny", "128", "10", "40"]


# ---------------------------------------------------------------------------------------------
# Every benchmark with tiny sizes
# ---------------------------------------------------------------------------------------------

class WorkerHere(object):
    """Stands for side_by_side.Worker: the same benchmark's worker, without a process."""

    def __init__(self, python, script, settings):
        assert os.path.exists(python)
        settings = json.loads(json.dumps(settings))
        self._prepare = lambda: SCRIPTS[os.path.basename(script)].prepare(settings)
        self._run_round = None

    def about(self):
        try:
            about, self._run_round = self._prepare()
        except ModuleNotFoundError as error:
            raise WorkerError("%s is not installed" % error.name) from error
        except UserError as error:
            raise WorkerError(str(error)) from error
        return json.loads(json.dumps(about))

    def run_round(self):
        return json.loads(json.dumps(self._run_round()))

    def close(self):
        self._run_round = None


@pytest.fixture()
def here(monkeypatch):
    monkeypatch.setattr(side_by_side, "Worker", WorkerHere)


@pytest.fixture()
def config_file(tmp_path):
    return write_config(tmp_path, num_hidden_layers=1, vocab_size=21128)


def saved_medians(folder, name):
    """Returns ({variant: medians}, {variant: problem}) of a report; all numbers are above 0."""
    saved = json.loads((folder / (name + ".json")).read_text())
    assert (folder / (name + ".md")).exists() and (folder / (name + ".png")).exists()
    medians = {one["key"]: one["medians"] for one in saved["variants"]}
    assert all(value > 0 for values in medians.values() for value in values.values())
    return medians, {one["key"]: one["problem"] for one in saved["variants"]}


def assert_torch_ran(medians, problems, key, measures):
    if HAS_TORCH:
        assert problems[key] is None and set(medians[key]) == measures
    else:
        assert problems[key] == "torch is not installed" and not medians[key]


def test_finetune_runs_as_a_user_starts_it(tmp_path, config_file):
    status, out, err = run_script(
        "benchmarks/finetune.py", "--bert_config_file=" + config_file, "--rounds=2",
        "--examples=4", "--steps=2", "--batch_size=2", "--max_seq_length=16", "--padded_steps=1",
        "--variants=older,by_length", "--baseline_python=" + sys.executable,
        "--data_dir=" + str(tmp_path / "none"), "--output_dir=" + str(tmp_path / "out"))
    assert status == 0, err
    assert "4 random pairs, no LCQMC in --data_dir" in out and "to older code" in out
    medians, problems = saved_medians(tmp_path / "out", "finetune")
    assert problems == {"older": None, "by_length": None}
    assert all(set(values) == {"train", "evaluate"} for values in medians.values())
    saved = json.loads((tmp_path / "out" / "finetune.json").read_text())
    for one in saved["variants"]:
        profile = one["about"]["profile"]
        assert 0 < profile["waiting"] < 100 and 0 < profile["matrix products"] < 100


def test_finetune_reads_real_pairs_and_measures_transformers(tmp_path, config_file, here,
                                                            shared_data):
    status, out, err = run_here(
        finetune, "--bert_config_file=" + config_file, "--rounds=1", "--examples=6",
        "--steps=3",
        "--batch_size=2", "--max_seq_length=32",
        "--variants=bfloat16,hf_bucketed_bfloat16",
        "--data_dir=" + os.path.join(shared_data, "lcqmc"), "--output_dir=" + str(tmp_path))
    assert status == 0, err
    assert "pairs of LCQMC (train)" in out
    medians, problems = saved_medians(tmp_path, "finetune")
    assert_torch_ran(medians, problems, "hf_bucketed_bfloat16", {"train", "evaluate"})
    # Not every CPU has it; then the line says so and the others stand.
    assert problems["bfloat16"] is None or problems["bfloat16"].startswith("--precision=bfloat16:")


def test_pretrain(tmp_path, config_file, here):
    status, out, err = run_here(
        pretrain, "--bert_config_file=" + config_file, "--rounds=1", "--steps=1",
        "--batch_size=2", "--max_seq_length=32", "--records=8", "--short_share=0.5",
        "--variants=by_length,hf_bfloat16", "--output_dir=" + str(tmp_path))
    assert status == 0, err
    medians, problems = saved_medians(tmp_path, "pretrain")
    assert problems["by_length"] is None and set(medians["by_length"]) == {"train", "memory"}
    assert_torch_ran(medians, problems, "hf_bfloat16", {"train", "memory"})


def test_inference(tmp_path, config_file, here):
    status, out, err = run_here(
        inference_benchmark, "--bert_config_file=" + config_file, "--rounds=1", "--calls=2",
        "--pairs=5", "--lengths=8,16", "--variants=older,predictor,hf",
        "--baseline_python=" + sys.executable, "--output_dir=" + str(tmp_path))
    assert status == 0, err
    assert "One pair of 16 tokens, ms" in out and "5 pairs in one call, pairs/s" in out
    medians, problems = saved_medians(tmp_path, "inference")
    assert problems["predictor"] is problems["older"] is None
    assert set(medians["predictor"]) == set(medians["older"]) == {"p50_8", "p50_16", "many"}
    assert_torch_ran(medians, problems, "hf", {"p50_8", "p50_16", "many"})


def test_memory(tmp_path, config_file, here):
    status, out, err = run_here(
        memory, "--configs=" + config_file, "--lengths=16", "--batches=1,2", "--steps=1",
        "--card_gb=1", "--output_dir=" + str(tmp_path))
    assert status == 0, err
    assert "Largest batch for 1 GB, predicted from these cells (measured on a CPU" in out
    saved = json.loads((tmp_path / "memory.json").read_text())
    kinds = [memory.OURS, memory.HF] if HAS_TORCH else [memory.OURS]
    assert [(cell["batch"], cell["kind"]) for cell in saved["cells"]] == [
        (batch, kind) for batch in (1, 2) for kind in kinds]
    assert all(cell["mib"] > 50 for cell in saved["cells"])
    assert (tmp_path / "memory.md").exists() and (tmp_path / "memory.png").exists()


@pytest.mark.parametrize("module, arguments, fragments", [
    (finetune, ["--rounds=0"], ["--rounds=0", "at least 1"]),
    (finetune, ["--variants=none"], ["--variants", "none is unknown"]),
    (finetune, ["--max_seq_length=999"], ["--max_seq_length=999", "512 positions"]),
    (finetune, ["--baseline_python=/no/python"], ["--baseline_python=/no/python"]),
    (finetune, ["--vocab_file=/no/vocab.txt"], ["--vocab_file=/no/vocab.txt"]),
    (pretrain, ["--short_share=2"], ["--short_share=2"]),
    (pretrain, ["--bert_config_file=/no/config.json"], ["--bert_config_file=/no/config.json"]),
    (inference_benchmark, ["--lengths=16,x"], ["--lengths=16,x", "whole numbers"]),
    (inference_benchmark, ["--lengths=3"], ["--lengths=3", "from 5 on"]),
    (memory, ["--batches=4,4"], ["--batches", "two different numbers"]),
    (memory, ["--card_gb=0"], ["--card_gb=0"]),
    (memory, ["--configs=none.json"], ["--configs=none.json"]),
])
def test_wrong_flags_are_refused_before_anything_starts(module, arguments, fragments, tmp_path,
                                                        monkeypatch):
    monkeypatch.setattr(side_by_side, "Worker", None)
    assert_user_error(
        run_here(module, "--output_dir=" + str(tmp_path), *arguments), *fragments)


def test_a_file_that_is_no_configuration_is_named(tmp_path):
    path = str(tmp_path / "config.json")
    files.write_text(path, '{"vocab_size": 5}')
    with pytest.raises(UserError, match="config.json lacks hidden_size"):
        side_by_side.read_sizes(path)


# ---------------------------------------------------------------------------------------------
# The older graph
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["classifier", "pretraining"])
def test_the_older_graph_computes_the_same_steps(config_file, monkeypatch, kind):
    import classifier
    import layouts
    import modeling
    import older_graph
    import optimization
    import pretraining as pretraining_module

    import tensorflow.compat.v1 as tf
    monkeypatch.setattr(heads, "POOLED_DROPOUT", 0.0)
    layout, config = layouts.read_config(config_file)
    rng = np.random.RandomState(3)
    features = {
        "input_ids": rng.randint(0, config.vocab_size, [4, 12]),
        "input_mask": (np.arange(12) < np.array([[12], [7], [12], [9]])).astype(int),
        "segment_ids": (np.arange(12) > 5).astype(int) + np.zeros([4, 1], int),
        "label_ids": np.array([0, 1, 1, 0]), "is_real_example": np.ones(4, int),
        "row": np.arange(4), "masked_lm_positions": np.array([[1, 3]] * 4),
        "masked_lm_ids": rng.randint(0, config.vocab_size, [4, 2]),
        "masked_lm_weights": np.array([[1.0, 1.0], [1.0, 0.0]] * 2, np.float32),
        "next_sentence_labels": np.array([[0], [1], [1], [0]])}
    if kind == "classifier":
        shapes = heads.classifier_variable_shapes(config, layout.model_class, 2)
        ours = classifier.model_fn_builder(
            config, layout.model_class, heads.ClassifierHead(2, True),
            classifier.Recipe(older_graph.LEARNING_RATE, 10 ** 8, 0, None))
        theirs = older_graph.classifier_model_fn(config)
    else:
        shapes = modeling.pretraining_variable_shapes(config, layout.model_class)
        ours = pretraining_module.model_fn_builder(
            config, layout.model_class, pretraining_module.Schedule(
                "adamw", older_graph.LEARNING_RATE, 10 ** 8, 0, 1.0, 0, (),
                optimization.AdamWeightDecayOptimizer.SLOT_NAMES))
        theirs = older_graph.pretraining_model_fn(config)
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32)
               for name, shape in shapes.items()}
    found = []
    for model_fn in (ours, theirs):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            tf.train.get_or_create_global_step()
            inputs = {name: tf.constant(value, tf.float32 if value.dtype == np.float32
                                        else tf.int32) for name, value in features.items()}
            spec = model_fn(inputs, None, tf.estimator.ModeKeys.TRAIN, {"batch_size": 4})
            session.run(tf.global_variables_initializer())
            variables = {variable.op.name: variable for variable in tf.trainable_variables()}
            assert set(variables) == set(weights)
            for name, value in weights.items():
                variables[name].load(value, session)
            losses = [session.run([spec.loss, spec.train_op])[0] for _ in range(3)]
            found.append((losses, session.run(variables)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=2e-5)
    for name in weights:
        np.testing.assert_allclose(found[0][1][name], found[1][1][name], atol=2e-6, err_msg=name)
