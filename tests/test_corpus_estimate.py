"""benchmarks/corpus_estimate.py: its arithmetic, worked out by hand, and its tables."""

import doctest
import json
import os
import sys

import pytest
from conftest import ROOT
from helpers import assert_user_error, run_here, run_script

from errors import UserError

sys.path.append(os.path.join(ROOT, "benchmarks"))  # at the end: the root has an inference.py too

import corpus_estimate as ce  # noqa: E402
import spills  # noqa: E402

FIGURES = {"characters_per_cpu_second": 1e5, "read_characters_per_cpu_second": 1e6,
           "record_bytes_per_character": 20, "write_bytes_per_second": 2e7,
           "start_up_seconds": 10, "efficiency": {"1": 1.0, "4": 0.8}}
PRICES = ce.Prices(0.1, 0.01, 0.02, 0.005, 3.0)


@pytest.fixture
def figures():
    return ce.figures_of(FIGURES, {}, "here")


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(FIGURES))
    return str(path)


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(ce)
    assert result.attempted >= 1 and result.failed == 0


def test_one_machine_by_hand(figures):
    # 3e9 bytes are 1e9 characters. 1,000 s to read, 10,000 s to make, 20e9 bytes of records, which
    # take 1,000 s. Four workers at 0.8 are worth 3.2; two shards occupy two of them.
    one = ce.estimate(3e9, figures, ce.Cluster(1, 4, 0.9, 2), PRICES)
    assert one.characters == pytest.approx(1e9)
    assert one.cpu_hours * 3600 == pytest.approx(12000)
    assert one.efficiency == 0.8
    assert one.make_hours * 3600 == pytest.approx(10 + 11000 / 3.2)
    assert one.write_hours * 3600 == pytest.approx(1000 / 1.6)
    assert one.paid_cpu_hours * 3600 == pytest.approx(4 * (10 + 11000 / 3.2 + 1000 / 1.6))
    assert one.record_gb == pytest.approx(20) and one.shuffled_gb == 0
    assert one.peak_gb == pytest.approx(43)
    assert one.shard_read_gb == pytest.approx(20 + 2 * spills.BUCKET_BYTES / 1e9)
    assert one.files_written == 2
    assert one.cost == pytest.approx(
        0.1 * one.paid_cpu_hours + 20 * 0.02 * 3 + 2 / 1000 * 0.005)


def test_several_machines_by_hand(figures):
    one = ce.estimate(3e9, figures, ce.Cluster(5, 4, 0.5, 100), PRICES)
    assert one.efficiency == pytest.approx(0.4)
    assert one.make_hours * 3600 == pytest.approx(10 + 11000 / (20 * 0.4))
    assert one.write_hours * 3600 == pytest.approx(1000 / (20 * 0.4))  # 100 shards, 20 workers
    assert one.shuffled_gb == pytest.approx(20)
    assert one.files_written == 100 + -(-20 * 10 ** 9 // spills.BUCKET_BYTES)
    assert one.cost == pytest.approx(0.1 * one.paid_cpu_hours + 20 * 0.01 + 20 * 0.02 * 3
                                     + one.files_written / 1000 * 0.005)


def test_a_shard_smaller_than_a_bucket_reads_no_more_than_there_is(figures):
    one = ce.estimate(3e3, figures, ce.Cluster(1, 4, 0.9, 10), PRICES)
    assert one.shard_read_gb * 1e9 == pytest.approx(20e3 * 11)


def test_work_and_records_grow_with_the_corpus(figures):
    small, large = (ce.estimate(size, figures, ce.Cluster(8, 4, 0.9, 64), PRICES)
                    for size in (30e9, 3e12))
    for name in ("characters", "cpu_hours", "record_gb", "shuffled_gb", "write_hours"):
        assert getattr(large, name) == pytest.approx(100 * getattr(small, name))
    assert large.make_hours < 100 * small.make_hours  # starting up takes as long


def test_efficiency_is_the_measured_one_or_amdahls():
    measured = {1: 1.0, 3: 0.5}
    assert ce.serial_share(measured) == 0.5
    assert ce.efficiency_of(3, measured) == 0.5
    assert ce.efficiency_of(5, measured) == pytest.approx(1 / 3)
    assert ce.efficiency_of(64, {1: 1.0}) == 1.0
    assert ce.efficiency_of(4, {1: 1.0, 2: 1.1}) == 1.0  # no better than perfect
    law = {workers: 1 / (1 + 0.02 * (workers - 1)) for workers in (1, 2, 4, 8)}
    assert ce.serial_share(law) == pytest.approx(0.02)


def test_flags_come_before_the_file():
    changed = ce.figures_of(FIGURES, {"start_up_seconds": 0.0, "efficiency": {2: 0.7}}, "here")
    assert changed.start_up_seconds == 0 and changed.efficiency == {2: 0.7}
    assert changed.characters_per_cpu_second == 1e5 and changed.bytes_per_character == 3.0
    assert ce.figures_of(dict(FIGURES, bytes_per_character=1.1), {}, "").bytes_per_character == 1.1


@pytest.mark.parametrize("change, message", [
    ({"characters_per_cpu_second": None}, "lacks characters_per_cpu_second: give --characters"),
    ({"record_bytes_per_character": None}, "lacks record_bytes_per_character"),
    ({"write_bytes_per_second": 0}, "write_bytes_per_second=0 must be"),
    ({"record_bytes_per_character": "many"}, "record_bytes_per_character=many must be"),
    ({"start_up_seconds": -1}, "start_up_seconds=-1 must be"),
    ({"start_up_seconds": True}, "start_up_seconds=True must be"),
    ({"bytes_per_character": float("inf")}, "bytes_per_character=inf must be"),
    ({"efficiency": [1.0]}, "efficiency must be"),
    ({"efficiency": {"two": 1.0}}, "not two:1.0"),
    ({"efficiency": {"0": 1.0}}, "0 workers with"),
    ({"efficiency": {"2": 3.0}}, "3.0 of the throughput cannot be"),
])
def test_bad_figures_are_named(change, message):
    with pytest.raises(UserError) as error:
        ce.figures_of(dict(FIGURES, **change), {}, "m.json")
    assert message in str(error.value) and "m.json" in str(error.value)


def test_the_arithmetic_shown_gives_the_result_shown(figures):
    rows = ce.explain(3e9, figures, ce.Cluster(5, 4, 0.5, 100), PRICES)
    shown = {what: (how, result) for what, how, result in rows}
    assert shown["characters"] == ("3 GB / 3 bytes", "1,000 million")
    assert shown["records, GB"] == ("x 20 bytes", "20")
    assert shown["hours to make"][0] == "10 s + work / (20 workers x efficiency)"
    assert shown["efficiency"] == ("of 4 workers on a machine x 0.5", "0.400")
    how, result = shown["cost"]
    reckoned = eval(how.replace(",", "").replace("x", "*"))  # our own text, checked just above
    assert reckoned == pytest.approx(float(result), rel=0.02)


def test_the_script_writes_its_tables(tmp_path, measured):
    status, out, err = run_script(
        "benchmarks/corpus_estimate.py", "--measured=" + measured, "--sizes=30GB,3TB", "--cores=8",
        "--machines=1,4", "--shards=16,64", "--output_dir=" + str(tmp_path / "out"))
    assert status == 0, err
    assert "30GB of text: by machines of 8 cores, 64 shards" in out
    assert "3TB of text: by shards, 4 machines" in out and "Saved: " in err
    assert "efficiency of more than 4 workers" in out
    saved = json.loads((tmp_path / "out" / "corpus_estimate.json").read_text())
    assert [(one["corpus"], one["machines"], one["shards"]) for one in saved["estimates"]] == [
        (size, *rest) for size in ("30GB", "3TB") for rest in ((1, 64), (4, 64), (4, 16), (4, 64))]
    assert saved["estimates"][0]["record_gb"] == pytest.approx(200)
    assert saved["estimates"][4]["shuffled_gb"] == 0 and saved["estimates"][5]["shuffled_gb"] > 0
    assert (tmp_path / "out" / "corpus_estimate.md").read_text().count("## ") == 6


def test_several_ways_of_making_stand_side_by_side(tmp_path):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": {
        "static": FIGURES, "dynamic": dict(FIGURES, record_bytes_per_character=2)}}))
    status, out, _ = run_here(ce, "--measured=" + str(path), "--sizes=30GB", "--machines=2",
                              "--shards=8", "--output_dir=" + str(tmp_path))
    assert status == 0
    assert "30GB of text, static: by shards" in out and "30GB of text, dynamic: by shards" in out


@pytest.mark.parametrize("arguments, fragments", [
    ([], ["the command lacks characters_per_cpu_second", "--measured"]),
    (["--measured=none.json"], ["--measured=none.json does not exist"]),
    (["--sizes=many"], ["--sizes=many"]),
    (["--sizes=0GB"], ["--sizes=0GB must be more than 0"]),
    (["--machines=0"], ["--machines=0"]),
    (["--shards=x"], ["--shards=x"]),
    (["--cores=0"], ["--cores=0"]),
    (["--machine_efficiency=2"], ["--machine_efficiency=2.0"]),
    (["--months=-1"], ["--months"]),
    (["--efficiency=2"], ["--efficiency"]),
])
def test_bad_input_is_named(tmp_path, arguments, fragments):
    assert_user_error(run_here(ce, "--output_dir=" + str(tmp_path / "out"), *arguments),
                      *fragments)
    assert not (tmp_path / "out").exists()


def scale_row(megabytes, workers, cpu, rate):
    return {"megabytes": megabytes, "workers": workers, "seconds": 9.0, "cpu": cpu, "memory": 99.0,
            "characters": megabytes * 400000, "bytes": megabytes * 6000000, "rate": rate,
            "start_up_seconds": 1.5, "start_up_cpu": 1.0}


def test_the_file_of_create_data_is_read(tmp_path):
    rows = [scale_row(10, 1, 9.0, 1e6), scale_row(20, 1, 41.0, 2e5), scale_row(20, 2, 45.0, 3e5)]
    path = tmp_path / "create_data.json"
    path.write_text(json.dumps({"title": "x", "variants": [], "scale": rows}))
    (name, case), = ce.read_cases(str(path)).items()
    figures = ce.figures_of(case, {}, name)
    # 8 million characters in 40 CPU-seconds, 120 MB of records; 20 MB of text.
    assert figures == ce.Figures(2e5, ce.INCLUDED, 15.0, ce.INCLUDED, 1.5, {1: 1.0, 2: 0.75}, 2.5)
    one = ce.estimate(2.5e9, figures, ce.Cluster(1, 2, 0.9, 4), PRICES)
    assert one.cpu_hours * 3600 == pytest.approx(5000) and one.write_hours == 0
    assert one.make_hours * 3600 == pytest.approx(1.5 + 5000 / 1.5)
    how = dict(row[:2] for row in ce.explain(2.5e9, figures, ce.Cluster(1, 2, 0.9, 4), PRICES))
    assert how["CPU-hours of work"] == "characters / 200,000"
    status, out, _ = run_here(ce, "--measured=" + str(path), "--output_dir=" + str(tmp_path))
    assert status == 0 and "write_bytes_per_second included" in out
    assert "30GB of text, dupe_factor 1: by machines" in out


@pytest.mark.parametrize("rows", [[], [scale_row(10, 2, 9.0, 1e6)], [{"megabytes": 3}], [3],
                                  [dict(scale_row(10, 1, 1.0, 1e6))]])
def test_a_file_of_create_data_without_what_is_needed_is_named(tmp_path, rows):
    path = tmp_path / "create_data.json"
    path.write_text(json.dumps({"scale": rows}))
    with pytest.raises(UserError, match="create_data.json holds no measurement of one worker"):
        ce.read_cases(str(path))


@pytest.mark.parametrize("content", ["[]", "3", '{"cases": {"a": 3}}', '{"cases": {}}'])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_text(content)
    assert_user_error(run_here(ce, "--measured=" + str(path), "--output_dir=" + str(tmp_path)),
                      "m.json holds neither figures nor")
