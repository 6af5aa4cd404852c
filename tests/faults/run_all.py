"""Tries all faults and prints one table: fault, times tried, times nothing was lost.

bash tests/faults/run_all.sh [--short] [--only=TEXT] [--seed=N] [--jobs=N] [--list]
"""

import argparse
import concurrent.futures
import glob
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.dirname(os.path.dirname(HERE))]

import console  # noqa: E402 - the project's folder is on the path now
import table  # noqa: E402


def main():
    options = parse()
    # A shell starts background jobs with Ctrl-C ignored, and what is started here would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path in sorted(glob.glob(os.path.join(HERE, "faults_*.py"))):
        importlib.import_module(os.path.basename(path)[:-len(".py")])
    wanted = [fault for fault in table.FAULTS if options.only in fault.name
              and (fault.in_short or not options.short)]
    if options.list:
        print("\n".join(fault.name for fault in wanted))
        return 0
    if not wanted:
        console.say("no fault's name holds %r; --list names them" % options.only)
        return 2
    console.say("Seed %d; --seed=%d tries the same again" % (options.seed, options.seed))
    began, parent = time.time(), tempfile.mkdtemp(prefix="faults-")
    try:
        results = try_all(wanted, options, parent)
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    return tell([(fault, results[fault.name]) for fault in wanted], time.time() - began)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="few tries of each fault")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10 ** 6,
                        help="of the random moments (default: another one each time)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="faults that are tried at the same time")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    return parser.parse_args()


def try_all(wanted, options, parent):
    """Returns {name of a fault: (tried, held, notes)}; the long ones are begun first."""
    def try_one(fault):
        folder = os.path.join(parent, "".join(
            one if one.isalnum() else "_" for one in fault.name))
        os.mkdir(folder)
        trial = table.Trial(folder, options.seed, options.short)
        began = time.time()
        try:
            tried, held = fault.function(trial)
        except table.Skip as skip:
            tried, held = 0, 0
            trial.losses = ["not tried: %s" % skip]
        except Exception:  # noqa: BLE001 - a defect of one fault's test must not end the others
            tried, held = 1, 0
            trial.losses.append(traceback.format_exc())
        shutil.rmtree(folder, ignore_errors=True)
        console.say("%-50s %3d of %3d  %4d s" % (fault.name, held, tried, time.time() - began))
        return tried, held, trial.losses

    longest_first = sorted(wanted, key=lambda fault: -fault.seconds)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        return dict(zip([fault.name for fault in longest_first],
                        pool.map(try_one, longest_first)))


def tell(results, seconds):
    """Prints the table, then what was lost; returns the exit status."""
    print(console.table(["fault", "times tried", "times nothing was lost"], [
        [fault.name, tried or "skipped", held if tried else "-"]
        for fault, (tried, held, _) in results]))
    for fault, (_, _, notes) in results:
        for note in notes:
            print("\n%s: %s" % (fault.name, note.strip()))
    lost = sum(tried - held for _, (tried, held, _) in results)
    print("\n%d faults, %d tries, %d with a loss; %s" % (
        len(results), sum(tried for _, (tried, _, _) in results), lost,
        console.duration(seconds)))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
