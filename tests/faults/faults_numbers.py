"""Numbers that are none any more: NaN and Infinity in training."""

import os

import jobs
import table


@table.fault("NaN in training", in_short=False, seconds=50)
def nan_in_training(trial):
    made, held, tried = jobs.Jobs(trial), 0, 0
    for name, others in (
            ("fine_tuning", []), ("pretraining", ["--optimizer=lamb"]),
            ("pretraining", ["--optimizer=adamw"])):
        output = os.path.join(trial.folder, "%s-%d" % (name, tried))
        others = others + ["--learning_rate=1e30", "--save_checkpoints_steps=1"]
        if name == "pretraining":
            others.append("--num_warmup_steps=0")
        else:
            others.append("--warmup_proportion=0")
        job = getattr(made, name)(*others)
        done = trial.run(*job.command(output))
        steps = jobs.steps_saved(output)
        tried += 1
        held += trial.held(
            table.is_one_message(done, "no longer numbers", "Largest gradients", "learning rate",
                                 "steps") and steps == sorted(set(steps)) and steps[-1] < 6,
            "%s %s: steps %s, %s" % (name, others, steps, done))
    return tried, held
