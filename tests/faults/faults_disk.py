"""Full disks, read-only and vanishing folders, folders of somebody else's."""

import contextlib
import os
import shutil
import subprocess

import jobs
import table

NOBODY = 65534


@contextlib.contextmanager
def mounted(folder, *arguments):
    """Mounts something at a folder, made for it; table.Skip where that is not allowed."""
    os.makedirs(folder, exist_ok=True)
    try:
        done = subprocess.run(["mount"] + list(arguments) + [folder], stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise table.Skip("there is no program mount") from error
    if done.returncode:
        raise table.Skip("mount is not allowed here: %s"
                         % done.stderr.decode("utf-8", "replace").strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _size_of(folder):
    return sum(os.path.getsize(os.path.join(place, name))
               for place, _, names in os.walk(folder) for name in names)


def _on_a_full_disk(trial, job, tries, *fragments):
    """Runs a job on disks of several sizes, all too small, makes room, and runs it again.

    Returns:
        times the first run ended with one message and the second as one that was not disturbed.
    """
    reference, held = os.path.join(trial.folder, "undisturbed"), 0
    done = trial.run(*job.command(reference))
    if done.status:
        raise RuntimeError(done.err)
    expected, needed = job.results(reference), _size_of(reference)
    for number in range(tries):
        share = 0.02 + 0.9 * (number + trial.random.random()) / tries
        disk = os.path.join(trial.folder, "disk")
        size = max(int(needed * share) // 4096 * 4096, 4096)
        with mounted(disk, "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs"):
            output = os.path.join(disk, "output")
            first = trial.run(*job.command(output))
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            again = trial.run(*job.command(output))
            wrong = ""
            if not table.is_one_message(first):
                wrong = "the first run did not end with one message"
            elif not any(fragment in first.err for fragment in (
                    "No space left", "disk") + fragments):
                wrong = "the message does not name the disk"
            elif again.status:
                wrong = "the same command again ended with %d: %s" % (
                    again.status, again.err[-1500:])
            wrong = wrong or job.difference(output, expected)
            held += trial.held(not wrong, "%d of %d bytes: %s\n  first run, status %d: %s" % (
                size, needed, wrong, first.status, first.err[-3000:]))
    return held


@table.fault("full disk: data creation", in_short=False, seconds=30)
def full_disk_in_data_creation(trial):
    return 4, _on_a_full_disk(trial, jobs.Jobs(trial).data_creation(), 4)


@table.fault("full disk: download", seconds=20)
def full_disk_in_download(trial):
    tries = trial.times(4, short=1)
    with jobs.slow_site(trial.folder, seconds=0.1) as job:
        return tries, _on_a_full_disk(trial, job, tries)


@table.fault("full disk: pre-training", in_short=False, seconds=60)
def full_disk_in_pretraining(trial):
    return 4, _on_a_full_disk(trial, jobs.Jobs(trial).pretraining(), 4)


@table.fault("full disk: fine-tuning with evaluation", seconds=60)
def full_disk_in_fine_tuning(trial):
    tries = trial.times(4, short=1)
    return tries, _on_a_full_disk(trial, jobs.Jobs(trial).fine_tuning(), tries)


@table.fault("full disk: prediction", in_short=False, seconds=40)
def full_disk_in_prediction(trial):
    return 3, _on_a_full_disk(trial, jobs.Jobs(trial).prediction(), 3)


@table.fault("full disk: export", in_short=False, seconds=50)
def full_disk_in_export(trial):
    return 3, _on_a_full_disk(trial, jobs.Jobs(trial).export(), 3)


# ---------------------------------------------------------------------------------------------
# Folders that cannot be written to
# ---------------------------------------------------------------------------------------------

def _each_job(trial):
    made = jobs.Jobs(trial)
    names = ("pretraining", "prediction") if trial.is_short else (
        "data_creation", "pretraining", "fine_tuning", "prediction", "export")
    return [(name, getattr(made, name)()) for name in names]


@table.fault("read-only folder", seconds=40)
def read_only_folder(trial):
    tried, held = 0, 0
    for name, job in _each_job(trial):
        there = os.path.join(trial.folder, "there-" + name)
        os.mkdir(there)
        jobs.write(os.path.join(there, "of-the-user.txt"), "mine")
        disk = os.path.join(trial.folder, "read-only-" + name)
        with mounted(disk, "--bind", there):
            subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
            for output in (disk, os.path.join(disk, "new")):
                done = trial.run(*job.command(output))
                tried += 1
                held += trial.held(
                    table.is_one_message(done, "Read-only") and os.listdir(disk) == [
                        "of-the-user.txt"], "%s: %s" % (name, done))
    return tried, held


@table.fault("folder of somebody else's", seconds=40)
def folder_of_somebody_elses(trial):
    if not shutil.which("setpriv") or os.geteuid():
        raise table.Skip("root and setpriv are needed, to give away a folder and root's powers")
    tried, held = 0, 0
    for name, job in _each_job(trial):
        output = os.path.join(trial.folder, "anothers-" + name)
        os.mkdir(output)
        os.chmod(output, 0o755)
        os.chown(output, NOBODY, NOBODY)
        # Root without its right to write everywhere; another user could not read root's Python.
        done = trial.run(*job.command(output),
                         prefix=["setpriv", "--bounding-set=-dac_override"])
        if done.err.startswith("setpriv"):
            raise table.Skip("this root may not give away its powers: %s" % done.err)
        tried += 1
        held += trial.held(table.is_one_message(done, "Permission denied") and not os.listdir(
            output), "%s: %s" % (name, done))
    return tried, held


@table.fault("folder that vanishes in training", in_short=False, seconds=40)
def vanishing_folder(trial):
    made, held = jobs.Jobs(trial), 0
    for name in ("fine_tuning", "pretraining"):
        job = getattr(made, name)(*jobs.FOR_EVER)
        output = os.path.join(trial.folder, "output-" + name)
        process = trial.start(*job.command(output))
        trial.wait_for(process, lambda _, output=output: os.path.exists(
            output + "/model.ckpt-0.index"))
        os.rename(output, output + ".away")
        done = trial.finish(process)
        shutil.rmtree(output, ignore_errors=True)  # what TensorFlow may have made in its place
        os.rename(output + ".away", output)
        again = jobs.begun_and_ended(trial, job, output)
        held += trial.held(
            table.is_one_message(done, "is gone", output) and again.status == 143
            and "Going on from" in again.err, "%s: %s; again: %s" % (name, done, again))
    return 2, held
