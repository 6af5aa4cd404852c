"""Tests env.sh and what sources it, with stand-ins for Python, pip, uv and nvidia-smi."""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from packaging.markers import Marker

TOOLS = ["bash", "cat", "cp", "grep", "head", "ls", "ln", "mkdir", "mv", "readlink", "rm", "sed",
         "sleep", "tail", "uname", "dirname", "env", "git", "diff"]

# A Python that writes down what it is asked, and can make environments of its own kind.
PYTHON_STUB = r"""#!{bash}
printf '%s\n' "{name}: $*" >>"{log}"
case "$*" in
    -c*sys.maxsize*) echo "{version} {kind} {bits} {path}" ;;
    "-c import ensurepip") {ensurepip} ;;
    -c*) {starts} ;;
    "-m venv "*)
        mkdir -p "$3/bin" && : >"$3/pyvenv.cfg" && cp "{path}" "$3/bin/python" && {ensurepip} ;;
    "-m pip install "*--target*) {uv_from_pip} ;;
    "-m pip --version") {pip} ;;
    "-m pip install "*) {install} ;;
esac
"""

# A uv that provides a Python 3.11 made beforehand.
UV_STUB = r"""#!{bash}
printf '%s\n' "uv: $*" >>"{log}"
mkdir -p "$UV_PYTHON_INSTALL_DIR/cpython-3.11.9/bin"
cp "{provided}" "$UV_PYTHON_INSTALL_DIR/cpython-3.11.9/bin/python3.11"
"""


class Machine:
    """A copy of the set-up files on a machine with few programs, all of them known."""

    def __init__(self, folder, root):
        self.folder = str(folder)
        self.project = os.path.join(self.folder, "a project's copy")
        self.bin = os.path.join(self.folder, "bin")
        self.log = os.path.join(self.folder, "log")
        for made in (self.project, self.bin, self.home("")):
            os.makedirs(made)
        for name in ("env.sh", "run_tests.sh"):
            shutil.copy(os.path.join(root, name), self.project)
        for name in ("requirements", ".ci"):
            shutil.copytree(os.path.join(root, name), os.path.join(self.project, name))
        for tool in TOOLS + ["flock"]:
            if shutil.which(tool):
                os.symlink(shutil.which(tool), os.path.join(self.bin, tool))
        self.environment = {"PATH": self.bin, "HOME": self.home("")}

    def home(self, *names):
        return os.path.join(self.folder, "home", *names)

    def path(self, *names):
        return os.path.join(self.project, *names)

    def program(self, path, text):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
        return path

    def python(self, name="python3.11", version="3.11.4", folder=None, **changes):
        """Installs a stand-in for Python; `changes` are shell commands for its answers."""
        path = os.path.join(folder or self.bin, name)
        values = dict(bash=shutil.which("bash"), log=self.log, name=name, version=version,
                      path=path, kind="cpython", bits=64, ensurepip="true", pip="true",
                      starts="true", install="true", uv_from_pip="false")
        values.update(changes)
        return self.program(path, re.sub(r"\{(\w+)\}", lambda m: str(values[m.group(1)]),
                                         PYTHON_STUB))

    def uv(self, path):
        """Writes a stand-in for uv to `path`."""
        provided = self.python("python3.11", "3.11.9", self.home("provided"))
        text = UV_STUB.replace("{bash}", shutil.which("bash")).replace("{log}", self.log)
        return self.program(path, text.replace("{provided}", provided))

    def gpu(self, answer="GPU 0: NVIDIA H200 (UUID: GPU-1)"):
        self.program(os.path.join(self.bin, "nvidia-smi"),
                     "#!%s\necho '%s'\n" % (shutil.which("bash"), answer))

    def command(self, script, **settings):
        return dict(args=[shutil.which("bash"), "-c", script, "bash", self.path("env.sh")],
                    env=dict(self.environment, **settings), cwd=self.folder,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)

    def bash(self, script, **settings):
        """Runs a script in bash, "$1" being env.sh; returns the finished process."""
        return subprocess.run(timeout=60, **self.command(script, **settings))

    def source(self, **settings):
        """Sources env.sh; returns the value of PYTHON and what was printed, or fails."""
        done = self.bash('set -euo pipefail; . "$1"; printf %s "$PYTHON"', **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def error(self, **settings):
        """Sources env.sh, which must fail but not end the shell; returns its words."""
        done = self.bash('PYTHON=old; . "$1" || echo "status $? ${PYTHON-unset}"', **settings)
        assert re.match(r"status [1-9]\d* unset\n$", done.stdout), (done.stdout, done.stderr)
        assert "ERROR: " in done.stderr
        return done.stderr

    def asked(self, pattern="", clear=False):
        """Returns the lines of the log that match, and empties the log where asked to."""
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            lines = [line for line in file.read().split("\n") if re.search(pattern, line)]
        if clear:
            os.remove(self.log)
        return [line for line in lines if line]


@pytest.fixture
def machine(tmp_path, root):
    return Machine(tmp_path, root)


# ---- which Python ----

@pytest.mark.parametrize("names, chosen", [
    (["python3.9", "python3.10", "python3.11", "python3"], "python3.11"),
    (["python3.9", "python3.10"], "python3.10"),
    (["python3.9"], "python3.9"),
])
def test_takes_the_newest_fitting_python_on_the_path(machine, names, chosen):
    for name in names:
        minor = name.replace("python3", "").replace(".", "") or "13"
        machine.python(name, "3.%s.1" % minor)
    python, said = machine.source()
    assert python == machine.path(".venv-tf2", "bin", "python")
    assert [line.split(":")[0] for line in machine.asked("-m venv")] == [chosen]
    assert "Creating .venv-tf2" in said and "Installing TensorFlow" in said


@pytest.mark.parametrize("name", ["python3", "python"])
def test_a_plain_python_counts_by_its_version(machine, name):
    machine.python(name, "3.10.2")
    machine.source()
    assert machine.asked("^%s: -m venv" % name)


@pytest.mark.parametrize("place", [
    (".pyenv", "versions", "3.11.7", "bin"),
    (".pyenv", "versions", "3.9.1", "bin"),
    ("miniconda3", "envs", "some env", "bin"),
    ("anaconda3", "bin"),
    (".local", "share", "uv", "python", "cpython-3.10", "bin"),
])
def test_finds_python_at_the_usual_places(machine, place):
    version = "3.9.1" if "3.9.1" in place else "3.10.1" if "uv" in place else "3.11.7"
    machine.python("python" + version[:-2], version, machine.home(*place))
    machine.source()
    assert machine.asked("-m venv")


def test_finds_python_in_the_active_conda_environment(machine):
    machine.python("python3.10", "3.10.1", machine.home("elsewhere", "bin"))
    machine.source(CONDA_PREFIX=machine.home("elsewhere"))
    assert machine.asked("-m venv")


def test_asks_conda_where_it_lives(machine):
    machine.python("python3.9", "3.9.1", machine.home("far", "envs", "a", "bin"))
    machine.program(os.path.join(machine.bin, "conda"),
                    "#!%s\necho '%s'\n" % (shutil.which("bash"), machine.home("far")))
    machine.source()
    assert machine.asked("-m venv")


def test_passes_over_a_shim_that_does_not_run(machine):
    machine.program(os.path.join(machine.bin, "python3.11"),
                    "#!%s\necho 'pyenv: not found' >&2; exit 127\n" % shutil.which("bash"))
    machine.python("python3.10", "3.10.13", machine.home(".pyenv", "versions", "3.10.13", "bin"))
    machine.source()
    assert machine.asked("^python3.10: -m venv")


def test_passes_over_a_python_that_cannot_make_environments(machine):
    machine.python("python3.11", ensurepip="exit 1")
    machine.python("python3.10", "3.10.13")
    machine.source()
    assert machine.asked("^python3.10: -m venv")
    assert not os.path.exists(machine.path(".tools", "discarded-tf2"))


def test_says_why_no_python_was_good_and_what_to_install(machine):
    machine.python("python3.11", ensurepip="exit 1", pip="exit 1")
    machine.python("python3.10", "3.10.13", kind="pypy", pip="exit 1")
    machine.python("python3.9", "3.9.1", bits=32, pip="exit 1")
    machine.python("python3", "3.8.1", pip="exit 1")
    said = machine.error()
    for words in ("package python3.11-venv", "is pypy", "has 32 bits", "is Python 3.8.1",
                  "uv cannot be installed", "apt-get install", "pyenv install 3.11",
                  "conda create", "ALBERT_PYTHON="):
        assert words in said
    assert not os.path.exists(machine.path(".venv-tf2"))


def test_tensorflow_1_takes_python_3_7_only(machine):
    machine.python("python3.11")
    said = machine.error(ALBERT_TF="1")
    assert "needs Python 3.7" in said and "pyenv install 3.7" in said
    machine.python("python3.7", "3.7.16")
    python, _ = machine.source(ALBERT_TF="1")
    assert python == machine.path(".venv-tf1", "bin", "python")
    assert machine.asked("constraints-tf1.txt") and not machine.asked("constraints-tf2.txt")


# ---- settings ----

@pytest.mark.parametrize("name, value", [
    ("ALBERT_TF", "3"), ("ALBERT_TF", "1.15"), ("ALBERT_DEVICE", "tpu"), ("ALBERT_EXTRAS", "tset"),
    ("ALBERT_EXTRAS", "test *"), ("ALBERT_HASHES", "yes"),
])
def test_a_wrong_setting_is_named_and_starts_nothing(machine, name, value):
    machine.python()
    assert "%s=" % name in machine.error(**{name: value})
    assert not machine.asked() and not os.path.exists(machine.path(".tools"))


def test_an_empty_setting_is_as_good_as_none(machine):
    machine.python()
    python, _ = machine.source(ALBERT_TF="", ALBERT_DEVICE="", ALBERT_EXTRAS="", ALBERT_PYTHON="")
    assert python == machine.path(".venv-tf2", "bin", "python")


def test_settings_need_not_be_exported(machine):
    machine.python("python3.7", "3.7.16")
    done = machine.bash('ALBERT_TF=1; ALBERT_DEVICE=gpu; . "$1"; printf %s "$PYTHON"')
    assert done.stdout == machine.path(".venv-tf1", "bin", "python"), done.stderr
    assert machine.asked("gpu.txt")


def test_albert_python_overrides_the_search(machine):
    machine.python("python3.11")
    chosen = machine.python("mine", "3.9.5", machine.home("bin"))
    machine.source(ALBERT_PYTHON=chosen)
    assert machine.asked("^mine: -m venv") and not machine.asked("^python3.11")
    machine.asked(clear=True)
    assert machine.source(ALBERT_PYTHON=chosen)[1] == ""
    assert not machine.asked(), "the answer is kept: nothing is started the next time"


def test_albert_python_of_a_wrong_version_is_refused(machine):
    machine.python("python3.11")
    wrong = machine.python("mine", "3.12.1", machine.home("bin"))
    for _ in range(2):  # without, then with a ready environment
        said = machine.error(ALBERT_PYTHON=wrong)
        assert "ALBERT_PYTHON=%s is Python 3.12.1" % wrong in said and "3.9, 3.10 or 3.11" in said
        machine.source()
    assert "is no program" in machine.error(ALBERT_PYTHON=machine.home("nowhere"))


def test_albert_python_other_than_the_environment_s_deletes_nothing(machine):
    machine.python("python3.11")
    machine.source()
    other = machine.python("mine", "3.10.1", machine.home("bin"))
    assert "rm -rf" in machine.error(ALBERT_PYTHON=other)
    assert machine.source()[1] == ""


# ---- which TensorFlow ----

@pytest.mark.parametrize("tf", ["1", "2"])
@pytest.mark.parametrize("answer, setting, file", [
    (None, "", "cpu.txt"),
    ("No devices were found", "", "cpu.txt"),
    ("GPU 0: Tesla T4 (UUID: GPU-2)", "", "gpu.txt"),
    ("GPU 0: Tesla T4 (UUID: GPU-2)", "cpu", "cpu.txt"),
    (None, "gpu", "gpu.txt"),
])
def test_the_build_follows_the_gpu(machine, tf, answer, setting, file):
    machine.python("python3.7", "3.7.16")
    machine.python("python3.11")
    if answer:
        machine.gpu(answer)
    machine.source(ALBERT_TF=tf, ALBERT_DEVICE=setting)
    installs = machine.asked("pip install .*(cpu|gpu).txt")
    assert len(installs) == 1 and installs[0].endswith(file)


def test_a_gpu_that_appears_is_used_and_one_that_goes_changes_nothing(machine):
    machine.python()
    machine.source()
    machine.gpu()
    assert "Removing the other build" in machine.source()[1]
    assert machine.asked("uninstall -y tensorflow") and machine.asked("gpu.txt", clear=True)
    os.remove(os.path.join(machine.bin, "nvidia-smi"))
    assert machine.source()[1] == "" and not machine.asked()


def installed_pins(root, files, python_version):
    """Returns {package: version} that requirement files ask for on a version of Python."""
    pins = {}
    for name in files:
        with open(os.path.join(root, "requirements", name)) as file:
            lines = [line for line in file.read().split("\n") if line and line[0] != "#"]
        for line in lines:
            pin, _, marker = line.partition(" ; ")
            there = {"python_version": python_version, "platform_machine": "x86_64"}
            if marker and not Marker(marker).evaluate(there):
                continue
            package, version = pin.split("==")
            pins[package] = version
    return pins


def test_the_builds_are_those_of_the_runtimes(root):
    assert installed_pins(root, ["cpu.txt"], "3.7") == {"tensorflow": "1.15.5"}
    assert installed_pins(root, ["gpu.txt"], "3.7") == {"tensorflow-gpu": "1.15.0"}
    assert installed_pins(root, ["cpu.txt"], "3.11") == {"tensorflow-cpu": "2.15.1"}
    assert installed_pins(root, ["gpu.txt"], "3.11") == {"tensorflow[and-cuda]": "2.15.1"}
    assert installed_pins(root, ["cpu.txt"], "3.12") == {"tensorflow-cpu": "2.21.0"}
    assert installed_pins(root, ["gpu.txt"], "3.12") == {"tensorflow[and-cuda]": "2.21.0"}


def test_every_requirement_is_pinned_and_explained(root):
    for path in glob.glob(os.path.join(root, "requirements", "*.txt")):
        with open(path) as file:
            lines = file.read().split("\n")
        assert lines[0].startswith("# "), path
        for before, line in zip(lines, lines[1:]):
            if not line or line.startswith("#"):
                continue
            assert re.match(r"[A-Za-z0-9_.\[\]-]+==[0-9.]+( ; .+)?$", line), (path, line)
            package = line.split("==")[0]
            same = before.startswith(package)
            explained = re.match(r"# \S", before) or same or "constraints" in path
            assert explained, "%s: say above %r why it is there" % (path, line)


def test_no_package_is_pinned_twice(root):
    for tf, version in (("1", "3.7"), ("2", "3.11"), ("latest", "3.12")):
        files = ["installers.txt", "core.txt", "test.txt", "lint.txt"]
        direct = installed_pins(root, files, version)
        others = installed_pins(root, ["constraints-tf%s.txt" % tf], version)
        assert not set(direct) & set(others)


def test_this_environment_has_the_pinned_versions(root):
    pkg_resources = pytest.importorskip("pkg_resources")
    version = "%d.%d" % sys.version_info[:2]
    for package, wanted in installed_pins(root, ["core.txt", "test.txt"], version).items():
        assert pkg_resources.get_distribution(package).version == wanted, package


# ---- hashes ----

HASHED = [("1", "3.7"), ("2", "3.9"), ("2", "3.10"), ("2", "3.11"), ("latest", "3.12")]


def hashed_pins(root, name, version, machine_kind="x86_64"):
    """Returns {package: version} of a file in requirements/hashes/; every pin must have hashes."""
    with open(os.path.join(root, "requirements", "hashes", name + ".txt")) as file:
        content = file.read()
    pins = {}
    for block in re.split(r"\n(?=\S)", content.strip("\n"))[1:]:
        text = block.replace("\\\n", " ")
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", text), block
        requirement, _, marker = text.partition(" --hash")[0].strip().partition(" ; ")
        there = {"python_version": version, "python_full_version": version + ".4",
                 "platform_machine": machine_kind, "sys_platform": "linux",
                 "platform_python_implementation": "CPython", "implementation_name": "cpython"}
        if not marker or Marker(marker).evaluate(there):
            package, _, pinned = requirement.partition("==")
            pins[plain(package)] = pinned
    return pins


def plain(package):
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.parametrize("tf, version", HASHED)
def test_the_hashes_are_those_of_the_pinned_versions(root, tf, version):
    folder = os.path.join(root, "requirements", "hashes")
    parts = [name[len("tf%s-" % tf):-len(".txt")] for name in os.listdir(folder)
             if name.startswith("tf%s-" % tf)]
    assert {"core", "test"} <= set(parts)
    allowed = {plain(name): pinned for name, pinned in installed_pins(
        root, ["constraints-tf%s.txt" % tf, "installers.txt", "core.txt", "cpu.txt"],
        version).items()}
    for part in parts:
        asked = installed_pins(root, [part + ".txt"] + ["cpu.txt"] * (part == "core"), version)
        found = hashed_pins(root, "tf%s-%s" % (tf, part), version)
        for package, pinned in asked.items():
            assert found.get(plain(package)) == pinned, (part, package)
        known = dict(allowed, **{plain(name): pinned for name, pinned in asked.items()})
        for package, pinned in found.items():
            assert known.get(package) in (pinned, None), (part, package)
            assert package in known or tf == "1" or part == "core", (part, package)


def test_the_installers_have_hashes(root):
    assert hashed_pins(root, "installers", "3.11") == installed_pins(
        root, ["installers.txt"], "3.11")
    assert list(hashed_pins(root, "uv", "3.11")) == ["uv"]


def test_hashes_are_checked_for_cpus_and_can_be_left_out(machine):
    machine.python()
    machine.source()
    core = machine.asked(r"pip install .*/core\.txt", clear=True)
    assert len(core) == 1 and "--require-hashes -r " in core[0]
    assert core[0].index("hashes/tf2-core.txt") < core[0].index("requirements/core.txt")
    machine.source(ALBERT_EXTRAS="lint", ALBERT_HASHES="no")
    assert machine.asked("lint.txt") and not machine.asked("require-hashes", clear=True)
    machine.source(ALBERT_EXTRAS="hf")  # has none
    assert machine.asked("hf.txt") and not machine.asked("require-hashes", clear=True)
    machine.source(ALBERT_DEVICE="gpu")
    assert machine.asked("gpu.txt") and not machine.asked("hashes/tf2-core")


def test_files_that_do_not_match_are_told_with_the_remedy(machine):
    machine.python(install="echo 'THESE PACKAGES DO NOT MATCH THE HASHES FROM ...'; exit 1")
    said = machine.error()
    assert "hashes/installers.txt" in said and "ALBERT_HASHES=no" in said
    machine.python(install="case $* in *core.txt*) echo 'Hashes are required in --require-hashes "
                           "mode'; exit 1 ;; esac")
    assert "make_hashes.py" in machine.error()


# ---- ready ----

def test_ready_is_silent_and_starts_no_program(machine):
    machine.python()
    first, _ = machine.source()
    machine.asked(clear=True)
    second, said = machine.source(PATH="/nowhere")
    assert (second, said) == (first, "")
    assert not machine.asked()


def test_ready_needs_no_write_access(machine):
    machine.python()
    machine.source()
    shutil.rmtree(machine.path(".tools"))
    machine.source()
    assert not os.path.exists(machine.path(".tools"))


@pytest.mark.parametrize("options", ["", "set -euo pipefail", "set -o posix", "set -f; IFS=,./-e",
                                     "set -o noclobber; shopt -s failglob nullglob"])
@pytest.mark.parametrize("setting", ["2", "wrong"])
def test_leaves_the_shell_as_it_was(machine, options, setting):
    machine.python()
    script = options + r"""
        look() { declare -F; set +o; shopt; trap; pwd; printf '%q\n' "$IFS"; }
        names() { compgen -v; }
        look_before= look_after= names_before= names_after=
        look_before=$(look) names_before=$(names)
        ALBERT_TF=$ALBERT_TF
        if . "$1" 2>/dev/null; then :; fi
        look_after=$(look) names_after=$(names)
        [ "$look_before" = "$look_after" ] || echo "changed: $look_after"
        IFS=$'\n'; set -f
        for name in $names_after; do
            case $'\n'$names_before$'\n' in
                *$'\n'$name$'\n'*) ;;
                *) echo "new: $name" ;;
            esac
        done"""
    done = machine.bash(script, ALBERT_TF=setting)
    new = {line for line in done.stdout.split("\n") if line} - {"new: _", "new: BASH_REMATCH"}
    assert new == ({"new: PYTHON"} if setting == "2" else set()), done.stderr


def test_an_error_ends_a_script_under_set_e_only(machine):
    strict = machine.bash('set -eu; . "$1"; echo went on', ALBERT_TF="9")
    assert strict.returncode != 0 and "went on" not in strict.stdout
    loose = machine.bash('. "$1"; echo went on', ALBERT_TF="9")
    assert loose.stdout == "went on\n"


@pytest.mark.parametrize("script", [
    'cd "${1%/*}"; . env.sh',
    'cd "${1%/*}"; . ./env.sh',
    'cd /; . "$1"',
    'cd "${1%/*}/requirements"; CDPATH=/:..; . ../env.sh',
    'f() { local root=x tf=y; . "$1"; }; f "$1"',
    'ln -s "${1%/*}" link; . link/env.sh',
])
def test_works_from_any_folder(machine, script):
    machine.python()
    machine.source()
    done = machine.bash("set -eu; %s; printf '\\n%%s' \"$PYTHON\"" % script)
    assert done.returncode == 0, done.stderr
    python = done.stdout.split("\n")[-1]
    assert os.path.samefile(python, machine.path(".venv-tf2", "bin", "python"))
    assert os.path.isabs(python) and done.stderr == ""


@pytest.mark.skipif(not shutil.which("dash"), reason="no dash here")
def test_another_shell_is_told_to_use_bash(machine):
    done = subprocess.run([shutil.which("dash"), "-c", '. "%s"; echo went on' %
                           machine.path("env.sh")], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert "in bash only" in done.stderr and done.stdout == "went on\n"


# ---- extras and changes ----

def test_extras_are_installed_when_asked_for_only(machine):
    machine.python()
    machine.source()
    assert not machine.asked("test.txt|lint.txt", clear=True)
    machine.source(ALBERT_EXTRAS="test lint")
    assert len(machine.asked("pip install")) == 2 and machine.asked("test.txt")
    machine.asked(clear=True)
    assert machine.source(ALBERT_EXTRAS=" lint  test ")[1] == "" and machine.source()[1] == ""
    assert not machine.asked()
    machine.source(ALBERT_EXTRAS="test hf")
    assert len(machine.asked("pip install")) == 1 and machine.asked("hf.txt")


def test_changed_requirements_are_installed_into_the_same_environment(machine):
    machine.python()
    machine.source()
    machine.asked(clear=True)
    with open(machine.path("requirements", "core.txt"), "a") as file:
        file.write("# lark: parses\nlark==1.1.9\n")
    machine.source()
    assert machine.asked("core.txt") and not machine.asked("-m venv", clear=True)
    machine.source()
    assert not machine.asked()


def test_an_environment_made_by_hand_is_topped_up(machine):
    stub = machine.python()
    subprocess.run([stub, "-m", "venv", machine.path(".venv-tf2")], check=True,
                   env=machine.environment)
    machine.asked(clear=True)
    machine.source()
    assert machine.asked("core.txt") and not machine.asked("-m venv")


def test_an_environment_whose_python_is_gone_is_made_afresh(machine):
    machine.python()
    machine.source()
    python = machine.path(".venv-tf2", "bin", "python")
    os.remove(python)
    os.symlink(machine.home("removed"), python)
    assert "is gone" in machine.source()[1]
    assert os.access(python, os.X_OK)


def test_a_folder_that_is_no_environment_is_left_alone(machine):
    machine.python()
    os.makedirs(machine.path(".venv-tf2", "thesis"))
    assert "no Python environment" in machine.error()
    assert os.path.isdir(machine.path(".venv-tf2", "thesis"))


def test_an_environment_of_another_version_is_left_alone(machine):
    stub = machine.python("python3.13", "3.13.1")
    subprocess.run([stub, "-m", "venv", machine.path(".venv-tf2")], check=True,
                   env=machine.environment)
    said = machine.error()
    assert "is Python 3.13.1" in said and "rm -rf" in said
    assert os.path.exists(machine.path(".venv-tf2", "pyvenv.cfg"))


# ---- failures, interruptions, two at a time ----

def test_a_failure_of_pip_shows_its_last_words_and_can_be_repeated(machine):
    machine.python(install="echo 'No matching distribution'; exit 1")
    said = machine.error()
    assert "  | No matching distribution" in said and "env-tf2.log" in said
    machine.python()
    assert "starting afresh" in machine.source()[1]
    assert machine.source()[1] == ""


def test_a_failed_extra_leaves_the_ready_environment_in_use(machine):
    machine.python(install="case $* in *test.txt*) exit 1 ;; esac")
    python, _ = machine.source()
    machine.error(ALBERT_EXTRAS="test")
    machine.asked(clear=True)
    assert machine.source() == (python, "") and not machine.asked()


def test_a_failed_change_of_build_is_repaired(machine):
    machine.python()
    machine.source()
    machine.python(install="exit 1")
    shutil.copy(os.path.join(machine.bin, "python3.11"), machine.path(".venv-tf2", "bin", "python"))
    machine.error(ALBERT_DEVICE="gpu")
    machine.python()
    machine.asked(clear=True)
    machine.source()
    assert machine.asked("cpu.txt"), "the old build is gone: it is not taken for ready"


def test_a_tensorflow_that_does_not_start_is_told(machine):
    machine.python(starts="echo 'Illegal instruction' >&2; exit 132")
    said = machine.error()
    assert "does not start" in said and "  | Illegal instruction" in said
    assert not os.path.exists(machine.path(".venv-tf2", "installed-core"))


def test_an_arm_machine_gets_a_hint_for_tensorflow_1(machine):
    machine.python("python3.7", "3.7.16", install="exit 1")
    os.remove(os.path.join(machine.bin, "uname"))
    machine.program(os.path.join(machine.bin, "uname"),
                    "#!%s\necho aarch64\n" % shutil.which("bash"))
    assert "never built for aarch64" in machine.error(ALBERT_TF="1")


def wait_for(condition):
    deadline = time.time() + 30
    while not condition():
        assert time.time() < deadline, "the expected state was not reached"
        time.sleep(0.02)


def test_a_killed_set_up_is_repaired(machine):
    machine.python(install="sleep 60")
    process = subprocess.Popen(start_new_session=True, **machine.command('. "$1"'))
    wait_for(lambda: machine.asked("pip install"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    machine.python()
    assert "interrupted; starting afresh" in machine.source()[1]
    assert machine.source()[1] == ""


@pytest.mark.parametrize("with_flock", [True, False])
def test_two_shells_make_one_environment(machine, with_flock):
    if not with_flock:
        os.remove(os.path.join(machine.bin, "flock"))
    elif not os.path.exists(os.path.join(machine.bin, "flock")):
        pytest.skip("no flock here")
    machine.python(install="sleep 0.3")
    command = machine.command('. "$1"; printf %s "$PYTHON"')
    processes = [subprocess.Popen(**command) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in answers] == [machine.path(".venv-tf2", "bin", "python")] * 3
    assert len(machine.asked("-m venv")) == 1
    assert sum("Waiting for another shell" in said for _, said in answers) == 2


def test_the_lock_of_a_dead_process_is_taken_over(machine):
    os.remove(os.path.join(machine.bin, "flock"))
    machine.python()
    dead = subprocess.Popen(["true"])
    dead.wait()
    os.makedirs(machine.path(".tools"))
    os.symlink(str(dead.pid), machine.path(".tools", "env-tf2.lock.owner"))
    machine.source()
    assert not os.path.lexists(machine.path(".tools", "env-tf2.lock.owner"))


def test_an_unwritable_project_is_told(machine):
    machine.python()
    with open(machine.path(".tools"), "w"):
        pass  # a file in the way stops root too, whom permissions do not
    assert "cannot write in" in machine.error()


# ---- uv ----

def test_the_newest_tensorflow_has_an_environment_of_its_own(machine):
    machine.python("python3.11")
    said = machine.error(ALBERT_TF="latest")
    assert "TensorFlow 2.21 (ALBERT_TF=latest) needs Python 3.12" in said
    assert "pyenv install 3.12" in said
    machine.python("python3.12", "3.12.1")
    python, _ = machine.source(ALBERT_TF="latest")
    assert python == machine.path(".venv-tflatest", "bin", "python")
    assert machine.asked("pip install .*constraints-tflatest.txt")


def test_uv_on_the_path_provides_python_where_all_are_too_new(machine):
    machine.python("python3", "3.13.1")
    machine.uv(os.path.join(machine.bin, "uv"))
    python, said = machine.source()
    assert python == machine.path(".venv-tf2", "bin", "python")
    assert machine.asked("^uv: ") == ["uv: python install 3.11"]
    assert os.path.isdir(machine.path(".tools", "python", "cpython-3.11.9"))
    assert "Fetching Python 3.11" in said
    assert machine.source()[1] == ""


@pytest.mark.parametrize("pip, makers", [
    ("true", 0),
    ("case $0 in *uv-maker*) ;; *) exit 1 ;; esac", 1),
])
def test_uv_is_installed_into_the_project_with_or_without_pip(machine, pip, makers):
    uv = machine.uv(machine.home("uv-from-pip"))
    machine.python("python3", "3.12.3", pip=pip,
                   uv_from_pip='mkdir -p "$6/bin" && cp "%s" "$6/bin/uv"' % uv)
    machine.source()
    installs = machine.asked("--target")
    assert len(installs) == 1
    assert re.search(r" --require-hashes -r \S.*/requirements/hashes/uv.txt$", installs[0])
    assert os.access(machine.path(".tools", "uv", "bin", "uv"), os.X_OK)
    assert len(machine.asked("-m venv .*uv-maker")) == makers
    assert not glob.glob(machine.path(".tools", "uv-*"))


def test_a_uv_that_fetches_nothing_is_told(machine):
    machine.python("python3", "3.13.1")
    machine.program(os.path.join(machine.bin, "uv"),
                    "#!%s\necho 'no route to host' >&2; exit 2\n" % shutil.which("bash"))
    said = machine.error()
    assert "  | no route to host" in said and "uv could not fetch Python 3.11" in said
    assert "is Python 3.13.1" in said


# ---- what sources env.sh ----

def test_run_tests_passes_its_arguments_on_from_any_folder(machine):
    machine.python()
    done = machine.bash('cd /; bash "${1%/*}/run_tests.sh" -k "two words" tests')
    assert done.returncode == 0, done.stderr
    assert machine.asked("-m pytest") == ["python3.11: -m pytest -k two words tests"]
    assert machine.asked("pip install .*requirements/test.txt")


def test_run_tests_hands_on_a_failure(machine):
    machine.python()
    machine.source(ALBERT_EXTRAS="test")
    machine.program(machine.path(".venv-tf2", "bin", "python"),
                    "#!%s\nexit 3\n" % shutil.which("bash"))
    assert machine.bash('bash "${1%/*}/run_tests.sh"').returncode == 3


def ci_machine(machine, sample="echo sample went well"):
    machine.python("python3.7", "3.7.16")
    machine.python("python3.11")
    machine.python("python3.12", "3.12.1")
    machine.source()
    for name in ("shellcheck", "ruff"):
        machine.program(machine.path(".venv-tf2", "bin", name),
                        "#!%s\n" % shutil.which("bash"))
    machine.program(machine.path("run_classifier_clue.sh"), "#!/bin/bash\n%s\n" % sample)
    machine.program(machine.path("tests", "faults", "run_all.sh"),
                    '#!/bin/bash\necho "faults $*"\n')
    with open(machine.path(".gitignore"), "w") as file:
        file.write(".venv-tf*\n.tools\n")
    machine.bash('cd "${1%/*}" && git init -q .')
    return machine


def test_ci_takes_all_steps_on_both_runtimes(machine):
    done = ci_machine(machine).bash('bash "${1%/*}/.ci/run"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sample went well" in done.stdout and "all steps passed" in done.stdout
    assert "faults --short" in done.stdout
    assert sorted(line.split(":")[0] for line in machine.asked("-m pytest")) == [
        "python3.11", "python3.12", "python3.7"]
    assert machine.asked("-m ruff check")


@pytest.mark.parametrize("sample, step", [
    ("exit 4", "sample run (exit status 4)"),
    ("echo x >left-over", "no file changed (exit status 1)"),
])
def test_ci_stops_at_the_first_failure_and_names_it(machine, sample, step):
    done = ci_machine(machine, sample).bash('bash "${1%/*}/.ci/run"')
    assert done.returncode == 1
    assert done.stdout.endswith("=== FAILED: %s\n" % step)


def test_ci_hears_of_a_failure_on_the_other_tensorflow(machine):
    ci_machine(machine)
    machine.source(ALBERT_TF="1", ALBERT_EXTRAS="test")
    machine.program(machine.path(".venv-tf1", "bin", "python"),
                    '#!%s\n[ "$2" != pytest ] || { echo "1 failed"; exit 3; }\n'
                    % shutil.which("bash"))
    done = machine.bash('bash "${1%/*}/.ci/run"')
    assert done.returncode == 1 and "sample went well" in done.stdout
    assert "1 failed\n" in done.stdout
    assert done.stdout.endswith(
        "=== FAILED: tests on TensorFlow 1.15: the rest of them (exit status 3)\n")


@pytest.mark.parametrize("line", ["\ttab", "blank ", "x" * 101])
def test_ci_refuses_untidy_lines(machine, line):
    ci_machine(machine)
    with open(machine.path("module.py"), "w") as file:
        file.write(line + "\n")
    done = machine.bash('bash "${1%/*}/.ci/run"')
    assert done.stdout.endswith("=== FAILED: lint (exit status 1)\n")
    assert "module.py:1:" in done.stdout and not machine.asked("-m pytest")
