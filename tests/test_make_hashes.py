"""requirements/make_hashes.py: what it asks uv for, and what it makes of the answer."""

import importlib.util
import os

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def make_hashes():
    path = os.path.join(ROOT, "requirements", "make_hashes.py")
    spec = importlib.util.spec_from_file_location("make_hashes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ANSWER = """absl-py==2.3.1 ; sys_platform == 'darwin' or sys_platform == 'linux' \\
    --hash=sha256:%s \\
    --hash=sha256:%s
Some_Thing==1.0 ; (python_full_version < '3.10' and platform_machine == 'x86_64' and \
sys_platform == 'darwin') or (python_full_version < '3.10' and sys_platform == 'linux') \\
    --hash=sha256:%s
six==1.16.0 \\
    --hash=sha256:%s
""" % tuple(64 * one for one in "abcd")


def test_markers_that_always_hold_are_left_out_and_long_ones_wrapped(make_hashes):
    found = make_hashes.blocks_of(ANSWER, ("sys_platform == 'linux'", "sys_platform == 'darwin'"))
    assert list(found) == ["absl-py", "some-thing", "six"]
    assert found["absl-py"].startswith("absl-py==2.3.1 \\\n    --hash=sha256:aaa")
    assert found["six"] == "six==1.16.0 \\\n    --hash=sha256:%s\n" % (64 * "d")
    lines = "".join(found.values()).split("\n")
    assert max(map(len, lines)) <= 100
    joined = found["some-thing"].replace("\\\n", " ").split("--hash")[0]
    assert " ".join(joined.split()) == (
        "Some_Thing==1.0 ; (python_full_version < '3.10' and platform_machine == 'x86_64' and "
        "sys_platform == 'darwin') or (python_full_version < '3.10' and sys_platform == 'linux')")
    assert "".join(found.values()).count("--hash=sha256:") == 4


@pytest.mark.parametrize("tf", ["1", "2", "latest"])
def test_uv_is_asked_for_the_pinned_versions(make_hashes, tf):
    project = make_hashes.project_of(tf)
    for pin in make_hashes.pins("core") + make_hashes.pins("test"):
        assert pin.split(" ;")[0] in project
    assert 'requires-python = "%s"' % make_hashes.RUNTIMES[tf].python in project
    for part in make_hashes.RUNTIMES[tf].parts:
        assert os.path.exists(os.path.join(
            make_hashes.FOLDER, "tf%s-%s.txt" % (tf, part))), "make_hashes.py was not run"
