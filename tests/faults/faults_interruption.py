"""kill -9, Ctrl-C and SIGTERM at random moments; a second run in the same folder."""

import os
import re
import signal
import subprocess

import jobs
import table


def _kill(process, whole, share):
    """Kills a process and all that it started at a share of its undisturbed life."""
    try:
        process.wait(whole * share)
    except subprocess.TimeoutExpired:
        table.kill(process)
    return ""


@table.fault("kill -9: data creation", seconds=110)
def killed_data_creation(trial):
    tries = trial.times(20, short=3)
    return tries, jobs.interrupted(trial, jobs.Jobs(trial).data_creation(), tries, _kill)


@table.fault("kill -9: download", seconds=60)
def killed_download(trial):
    tries = trial.times(20, short=3)
    with jobs.slow_site(trial.folder, seconds=1.0) as job:
        return tries, jobs.interrupted(trial, job, tries, _kill)


@table.fault("kill -9: pre-training", in_short=False, seconds=100)
def killed_pretraining(trial):
    return 6, jobs.interrupted(trial, jobs.Jobs(trial).pretraining(), 6, _kill)


@table.fault("kill -9: fine-tuning with evaluation", seconds=110)
def killed_fine_tuning(trial):
    tries = trial.times(6, short=1)
    return tries, jobs.interrupted(trial, jobs.Jobs(trial).fine_tuning(), tries, _kill)


@table.fault("kill -9: prediction", seconds=80)
def killed_prediction(trial):
    tries = trial.times(6, short=1)
    return tries, jobs.interrupted(trial, jobs.Jobs(trial).prediction(), tries, _kill)


@table.fault("kill -9: export", seconds=90)
def killed_export(trial):
    tries = trial.times(6, short=1)
    return tries, jobs.interrupted(trial, jobs.Jobs(trial).export(), tries, _kill)


# ---------------------------------------------------------------------------------------------
# Signals that a program may answer
# ---------------------------------------------------------------------------------------------

def _signal_in_training(trial, number):
    """Returns the function that ends a training by a signal, and looks at how it ended."""
    def disturb(process, whole, share):
        folder = next(one for one in process.args if one.startswith("--output_dir="))[13:]
        trial.wait_for(process, lambda _: os.path.exists(folder + "/model.ckpt-0.index"))
        try:  # the time of a step is too short to choose one: a moment within the training's
            process.wait(0.25 * whole * share)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        process.wait(60)
        with open(process.said[1], "rb") as stream:
            said = stream.read().decode("utf-8", "replace")
        return _fault_of_ending(table.Done(process.returncode, "", said), number, folder)

    return disturb


def _fault_of_ending(done, number, folder):
    if done.status == 0:
        return ""  # it was done before the signal came
    if done.status != 128 + number or table.has_traceback(done):
        return "ended with status %d" % done.status
    if "give the same command again" not in done.err:
        return "no word of how to go on"
    step = re.search(r"after step (\d+) of", done.err)
    if step and int(step.group(1)) not in jobs.steps_saved(folder):
        return "step %s is not saved" % step.group(1)
    return ""


LONG = "--num_train_epochs=60", "--save_checkpoints_steps=100000"


@table.fault("Ctrl-C: fine-tuning", in_short=False, seconds=50)
def ctrl_c_in_fine_tuning(trial):
    # The checkpoint that was saved is evaluated too, so that more is told than without it.
    job = jobs.Jobs(trial).fine_tuning(*LONG)._replace(results=jobs.last_checkpoint)
    return 3, jobs.interrupted(trial, job, 3, _signal_in_training(trial, signal.SIGINT))


@table.fault("SIGTERM: pre-training", seconds=50)
def sigterm_in_pretraining(trial):
    tries = trial.times(3, short=1)
    job = jobs.Jobs(trial).pretraining("--num_train_steps=300", "--save_checkpoints_steps=100000")
    return tries, jobs.interrupted(trial, job, tries, _signal_in_training(trial, signal.SIGTERM))


def _signal_at_work(trial, number, sign):
    """Returns the function that sends a signal once a process has said something."""
    def disturb(process, whole, share):
        trial.wait_for(process, lambda said: sign in said)
        try:
            process.wait(0.2 * whole * share)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        process.wait(60)
        with open(process.said[1], "rb") as stream:
            said = stream.read().decode("utf-8", "replace")
        return _fault_of_ending(table.Done(process.returncode, "", said), number, "")

    return disturb


@table.fault("Ctrl-C: evaluation", in_short=False, seconds=40)
def ctrl_c_in_evaluation(trial):
    return 2, jobs.interrupted(trial, jobs.Jobs(trial).evaluation(), 2,
                               _signal_at_work(trial, signal.SIGINT, "Initialisation"))


@table.fault("SIGTERM: prediction", in_short=False, seconds=40)
def sigterm_in_prediction(trial):
    return 2, jobs.interrupted(trial, jobs.Jobs(trial).prediction(), 2,
                               _signal_at_work(trial, signal.SIGTERM, "Predicting"))


@table.fault("SIGTERM: export", in_short=False, seconds=40)
def sigterm_in_export(trial):
    def disturb(process, whole, share):
        try:
            process.wait(whole * (0.6 + 0.3 * share))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        with open(process.said[1], "rb") as stream:
            said = stream.read().decode("utf-8", "replace")
        if process.returncode == -signal.SIGTERM and said.splitlines()[-1].startswith("Exported "):
            return ""  # all was written and said; the signal met Python's own shutting down
        return _fault_of_ending(table.Done(process.returncode, "", said), signal.SIGTERM, "")

    return 2, jobs.interrupted(trial, jobs.Jobs(trial).export(), 2, disturb)


# ---------------------------------------------------------------------------------------------
# Two runs
# ---------------------------------------------------------------------------------------------

@table.fault("second run in the same folder", in_short=False, seconds=40)
def second_run(trial):
    made, held = jobs.Jobs(trial), 0
    for name in ("fine_tuning", "pretraining"):
        job = getattr(made, name)(*jobs.FOR_EVER)
        output = os.path.join(trial.folder, name)
        first = trial.start(*job.command(output))
        trial.wait_for(first, lambda _, output=output: os.path.exists(
            output + "/model.ckpt-0.index"))
        second = trial.run(*job.command(output))
        held += trial.held(
            table.is_one_message(second, "is in use by another run, process %d" % first.pid),
            "%s, second run: %s" % (name, second))
        table.kill(first)
        trial.finish(first)
        third = jobs.begun_and_ended(trial, job, output)  # the lock went with the first
        held += trial.held(third.status == 143 and "Going on from" in third.err,
                           "%s, third run: %s" % (name, third))
    return 4, held
