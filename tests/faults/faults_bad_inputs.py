"""Bad input of every kind: flags, configurations, checkpoints, records, rows, archives, servers.

The table of them is bad_inputs/rows.py; each ends with one message that names the place and the
remedy, status 1, no traceback, and leaves no partial output.
"""

import json
import os

import table

# {family: seconds, about}. Not in --short: tests/test_bad_inputs.py tries every fourth row.
FAMILIES = {"flags": 30, "configurations": 20, "checkpoints": 25, "records": 30,
            "rows of tasks": 15, "text": 15, "downloads": 45, "submissions": 10,
            "exports and services": 20, "questions and entities": 10}


def try_family(family):
    def try_rows(trial):
        results = os.path.join(trial.folder, "results.json")
        trial.SECONDS_AT_MOST = 600  # it is many processes, and each has its own limit
        done = trial.run("tests/faults/bad_inputs/run.py", "--family=" + family,
                         "--json=" + results, "--jobs=3")
        if not os.path.exists(results):
            return 1, trial.held(False, done.out + done.err)
        with open(results, encoding="utf-8") as stream:
            rows = json.load(stream)
        return len(rows), sum(trial.held(not problems, "%s: %s" % (name, "; ".join(problems)))
                              for _, name, problems in rows)

    return try_rows


for name, seconds in FAMILIES.items():
    table.fault("bad input, " + name, in_short=False, seconds=seconds)(try_family(name))
