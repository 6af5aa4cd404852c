"""Writes requirements/hashes/: the SHA-256 of every file that env.sh may install for a CPU.

    python requirements/make_hashes.py          (after any change of requirements/*.txt)

For each runtime and part there is a file that `pip install --require-hashes -r` takes: the versions
of requirements/*.txt and their constraints, with the hashes of all files of each release that fit
the runtime's Python on Linux (and, for TensorFlow 2, macOS), not only this machine's. uv finds them
out (it is on the PATH, or in .tools/uv where env.sh may have put it).

Not hashed, so that env.sh installs them by version alone:
- the GPU builds: 3 GB of CUDA packages that change with the device; ALBERT_DEVICE=cpu has hashes;
- hf.txt: PyTorch's builds with and without CUDA are different files of one version;
- beam.txt, bench.txt, vocab.txt and loaders-*.txt, which env.sh does not install;
- whatever ALBERT_HASHES=no asks for: a mirror that builds its own wheels has other files.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
FOLDER = os.path.join(HERE, "hashes")

Runtime = collections.namedtuple("Runtime", ["python", "machines", "parts"])
Runtime.__doc__ = """python: versions that it runs on; machines: markers; parts: beside core."""

RUNTIMES = collections.OrderedDict([
    ("1", Runtime(">=3.7.1,<3.8", ("sys_platform == 'linux' and platform_machine == 'x86_64'",),
                  ("test", "fuzz"))),
    ("2", Runtime(">=3.9.2,<3.12", ("sys_platform == 'linux'", "sys_platform == 'darwin'"),
                  ("test", "lint", "export", "serve", "browser", "fuzz"))),
    ("latest", Runtime(">=3.12,<3.13", ("sys_platform == 'linux'",), ("test",)))])
UV = "uv==0.13.8"  # the one that env.sh installs where no Python fits
HEADER = "# Made by requirements/make_hashes.py; do not edit.\n"


def pins(name):
    """Returns the requirements in a file of this folder, list of str."""
    with open(os.path.join(HERE, name + ".txt"), encoding="utf-8") as stream:
        return [line.strip() for line in stream if line.strip() and not line.startswith("#")]


def name_of(requirement):
    """Returns the name of a requirement: 'PyYAML==6.0 ; ...' gives 'pyyaml'."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def project_of(tf):
    """Returns the pyproject.toml that describes a runtime and all its parts to uv."""
    runtime = RUNTIMES[tf]
    lines = ["[project]", 'name = "albert-zh"', 'version = "0"',
             'requires-python = "%s"' % runtime.python,
             "dependencies = %s" % json.dumps(pins("core") + pins("cpu")),
             "[project.optional-dependencies]"]
    lines += ["%s = %s" % (part, json.dumps(pins(part))) for part in runtime.parts]
    lines += ["[tool.uv]", "package = false",
              "constraint-dependencies = %s" % json.dumps(pins("constraints-tf" + tf)),
              "environments = %s" % json.dumps(list(runtime.machines))]
    return "\n".join(lines) + "\n"


def blocks_of(text, machines=()):
    """Returns {name: lines of it} of a requirements file with hashes.

    machines: markers of which one always holds; together they are left out.
    """
    found = collections.OrderedDict()
    for block in re.split(r"\n(?=\S)", text.strip("\n")):
        first, rest = block.split("\n", 1)
        pin, _, marker = first.rstrip(" \\").partition(" ; ")
        if set(marker.split(" or ")) != set(machines) and marker != " and ".join(
                sorted(machines[0].split(" and ")) if machines else ()):
            for part in (" or ", " and "):
                if len(pin) + len(marker) > 90:
                    marker = marker.replace(part, part + "\\\n    ")
            pin += " ; " + marker if marker else ""
        found[name_of(block)] = "%s \\\n%s\n" % (pin, rest)
    return found


def uv(*arguments, **settings):
    """Runs uv; returns what it prints."""
    own = os.path.join(ROOT, ".tools", "uv", "bin", "uv")
    command = [own if os.path.exists(own) else "uv"] + list(arguments)
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                              **settings).stdout.decode("utf-8")
    except FileNotFoundError:
        sys.exit("ERROR: uv is missing: pip install %s" % UV)
    except subprocess.CalledProcessError as error:
        sys.exit("ERROR: uv failed, see above: %s" % " ".join(error.cmd))


def write(name, blocks):
    path = os.path.join(FOLDER, name + ".txt")
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(HEADER + "".join(blocks.values()))
    os.replace(path + ".new", path)
    print("%-20s %3d packages" % (name, len(blocks)))


def make_runtime(tf):
    """Writes the files of a runtime: tf2-core.txt, tf2-test.txt, ..."""
    python = os.path.join(ROOT, ".venv-tf" + tf, "bin", "python")
    if not os.path.exists(python):
        sys.exit("ERROR: %s is missing: ALBERT_TF=%s bash env.sh" % (python, tf))
    installers = [name_of(pin) for pin in pins("installers")]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "pyproject.toml"), "w", encoding="utf-8") as stream:
            stream.write(project_of(tf))
        uv("lock", "--quiet", "--python", python, cwd=folder)
        export = ("export", "--quiet", "--frozen", "--python", python, "--no-emit-project",
                  "--no-header", "--no-annotate", "--format", "requirements.txt")
        machines = RUNTIMES[tf].machines
        core = blocks_of(uv(*export, cwd=folder), machines)
        for name in installers:
            core.pop(name, None)  # installed before, from installers.txt
        write("tf%s-core" % tf, core)
        for part in RUNTIMES[tf].parts:
            found = blocks_of(uv(*(export + ("--extra", part)), cwd=folder), machines)
            named = [name_of(pin) for pin in pins(part)]
            write("tf%s-%s" % (tf, part), collections.OrderedDict(
                (name, block) for name, block in found.items()
                if name in named or name not in list(core) + installers))


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for name, requirements in (("installers", pins("installers")), ("uv", [UV])):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "x.in")
            with open(source, "w", encoding="utf-8") as stream:
                stream.write("\n".join(requirements) + "\n")
            write(name, blocks_of(uv(
                "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header",
                "--no-annotate", source)))
    for tf in RUNTIMES:
        make_runtime(tf)


if __name__ == "__main__":
    main()
