"""Fuzzes one target of targets.py with Atheris; `run.sh` beside it runs all of them.

    python tests/fuzz/fuzz.py TARGET SECONDS [more arguments of libFuzzer]

The search is guided by coverage of this project's modules. It begins with sound inputs, and with
those that an earlier run found worth keeping (.tools/fuzz/TARGET). An input that a target fails on
lies in .tools/fuzz/ when it ends; give its path in place of SECONDS to see the traceback again.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, os.path.dirname(HERE), HERE]

MODULES = ["corpus", "download", "files", "hugging_face", "inference", "layouts", "modeling",
           "modeling_google", "own_data", "raw_text", "records", "similarity", "submission",
           "tasks", "tokenization"]


def main(arguments):
    try:
        import atheris
    except ImportError:
        sys.exit("ERROR: fuzzing needs Atheris: pip install -r requirements/fuzz.txt")
    import runtime  # noqa: F401 - TensorFlow itself is not looked into
    with atheris.instrument_imports(include=MODULES):
        import targets
    if len(arguments) < 2 or arguments[0] not in targets.TARGETS:
        sys.exit("ERROR: usage: fuzz.py TARGET SECONDS, TARGET one of %s"
                 % ", ".join(targets.TARGETS))
    name, what = arguments[:2]
    # What modules say of faults is for users; here it would be millions of lines.
    import console
    console.say = targets.tasks.console.say = lambda *_: None
    for module in MODULES:
        if hasattr(sys.modules.get(module), "say"):
            sys.modules[module].say = console.say
    target = targets.TARGETS[name]
    if os.path.isfile(what):
        with open(what, "rb") as stream:
            target(stream.read())
        return
    kept = os.path.join(ROOT, ".tools", "fuzz", name)
    os.makedirs(kept, exist_ok=True)
    for number, data in enumerate(targets.seeds(name)):
        with open(os.path.join(kept, "seed-%d" % number), "wb") as stream:
            stream.write(data)
    atheris.Setup([sys.argv[0], "-max_total_time=%d" % float(what), "-print_final_stats=1",
                   "-artifact_prefix=%s-" % kept, "-rss_limit_mb=4096", "-timeout=20"]
                  + arguments[2:] + [kept], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
