"""Checkpoints and records that were only half written, and folders of another model."""

import os
import shutil
import struct

import jobs
import table


def _cut(path, random):
    """Cuts a file short at a random place."""
    with open(path, "r+b") as stream:
        stream.truncate(random.randrange(os.path.getsize(path)))


def _zero_tail(path, random):
    """Makes the end of a file zeros: what a file system may leave after a loss of power."""
    size = os.path.getsize(path)
    start = random.randrange(size)
    with open(path, "r+b") as stream:
        stream.seek(start)
        stream.write(b"\0" * (size - start))


def _damages():
    """Returns [(name, function of the folder, the last step and a random.Random)]."""
    def of(ending, function):
        return lambda folder, step, random: function(
            "%s/model.ckpt-%d.%s" % (folder, step, ending), random)

    def state(text):
        return lambda folder, step, random: jobs.write(os.path.join(folder, "checkpoint"), text)

    data = "data-00000-of-00001"
    return [
        ("data cut short", of(data, _cut)), ("data zeroed", of(data, _zero_tail)),
        ("data missing", of(data, lambda path, _: os.remove(path))),
        ("index cut short", of("index", _cut)),
        ("index empty", of("index", lambda path, _: open(path, "w").close())),
        ("index zeroed", of("index", _zero_tail)),
        ("index missing", of("index", lambda path, _: os.remove(path))),
        ("checkpoint names none", state('model_checkpoint_path: "model.ckpt-77"\n')),
        ("checkpoint is no text", state("\0\0\0\0")),
        ("checkpoint is empty", state("")),
        ("checkpoint missing", lambda folder, step, random: os.remove(folder + "/checkpoint"))]


@table.fault("half-written checkpoint: training goes on", seconds=150)
def half_written_checkpoint(trial):
    made, held, tried = jobs.Jobs(trial), 0, 0
    damages = _damages()
    trial.random.shuffle(damages)
    for name, job, wanted in (("fine_tuning", made.fine_tuning(), damages[::2]),
                              ("pretraining", made.pretraining(), damages[1::2])):
        whole = os.path.join(trial.folder, "whole-" + name)
        done = trial.run(*job.command(whole))
        if done.status:
            raise RuntimeError(done.err)
        expected, step = job.results(whole), jobs.steps_saved(whole)[-1]
        for damage, function in wanted[:trial.times(len(wanted), short=1)]:
            output = os.path.join(trial.folder, "damaged")
            shutil.copytree(whole, output)
            function(output, step, trial.random)
            done = trial.run(*job.command(output))
            difference = job.difference(output, expected)
            tried += 1
            held += trial.held(done.status == 0 and not difference, "%s, %s: %s\n%s" % (
                name, damage, difference, done))
            shutil.rmtree(output)
    return tried, held


@table.fault("half-written checkpoint: not used", in_short=False, seconds=60)
def half_written_checkpoint_is_not_used(trial):
    made, held, tried = jobs.Jobs(trial), 0, 0
    job = made.prediction()
    for damage, function in _damages()[:7]:
        trained = made.trained()
        copy = os.path.join(trial.folder, "copy")
        shutil.copytree(trained, copy)
        for step in jobs.steps_saved(copy):
            function(copy, step, trial.random)
        output = os.path.join(trial.folder, "output")
        script, arguments = job.script, [one.replace(trained, copy) for one in
                                         job.arguments(output)]
        done = trial.run(script, *arguments)
        tried += 1
        held += trial.held(table.is_one_message(done) and not jobs.contents(output, ".tsv"),
                           "%s: %s" % (damage, done))
        shutil.rmtree(copy)
        shutil.rmtree(output, ignore_errors=True)
    return tried, held


def _cut_records(path, random):
    """Cuts a record file short within a record; between two, it would be a whole, shorter file."""
    ends, size = {0}, os.path.getsize(path)
    with open(path, "rb") as stream:
        while max(ends) < size:
            length, = struct.unpack("<Q", stream.read(8))
            stream.seek(4 + length + 4, os.SEEK_CUR)
            ends.add(stream.tell())
    place = random.choice([one for one in range(size) if one not in ends])
    with open(path, "r+b") as stream:
        stream.truncate(place)


@table.fault("half-written records", in_short=False, seconds=60)
def half_written_records(trial):
    made, held, tried = jobs.Jobs(trial, own_inputs=True), 0, 0
    for name, ending in (("pretraining", ".tfrecord"), ("fine_tuning", ".tf_record")):
        job = getattr(made, name)()
        for number in range(3):
            output = os.path.join(trial.folder, "%s-%d" % (name, number))
            folder = made.folder
            if name == "fine_tuning":  # trained anew, from the features of an earlier training
                shutil.copytree(made.trained(), output)
                folder = output
                for one in os.listdir(output):
                    if "ckpt" in one or one == "checkpoint":
                        os.remove(os.path.join(output, one))
            path = max(os.path.join(folder, one) for one in os.listdir(folder)
                       if one.endswith(ending))
            with open(path, "rb") as stream:
                content = stream.read()
            _cut_records(path, trial.random)
            done = trial.run(*job.command(output))
            with open(path, "wb") as stream:
                stream.write(content)
            again = trial.run(*job.command(output))
            tried += 1
            held += trial.held(
                table.is_one_message(done, os.path.basename(path)) and again.status == 0,
                "%s: %s; made whole again: %s" % (name, done, again))
            shutil.rmtree(output)
    return tried, held


@table.fault("folder of another model", in_short=False, seconds=40)
def folder_of_another_model(trial):
    made, held, tried = jobs.Jobs(trial, own_inputs=True), 0, 0
    for name, others, told in (
            ("fine_tuning", ["--learning_rate=2e-4"], "learning_rate"),
            ("fine_tuning", ["--max_seq_length=20"], "max_seq_length"),
            ("pretraining", ["--optimizer=adamw"], "another optimizer")):
        output = os.path.join(trial.folder, name)
        job = getattr(made, name)()
        if not os.path.exists(output):
            done = trial.run(*job.command(output))
            if done.status:
                raise RuntimeError(done.err)
        before = jobs.contents(output, "")
        done = trial.run(*(job.command(output) + others))
        tried += 1
        held += trial.held(table.is_one_message(done, told)
                           and jobs.contents(output, "") == before, "%s: %s" % (name, done))
    small = os.path.join(made.folder, "config.json")
    with open(small) as stream:
        text = stream.read()
    jobs.write(small, text.replace('"hidden_size": 16', '"hidden_size": 8'))
    for name, told in (("fine_tuning", "hidden_size: 16 there, 8 given"),
                       ("pretraining", "hidden_size: 16 there, 8 given")):
        done = trial.run(*getattr(made, name)().command(os.path.join(trial.folder, name)))
        tried += 1
        held += trial.held(table.is_one_message(done, told), "%s: %s" % (name, done))
    return tried, held
