"""Writes tests/seqeval_cases.json: what seqeval 1.2.2 makes of random tags.

    pip install seqeval==1.2.2 && python tests/make_seqeval_cases.py

The tests compare with this file, and so need neither seqeval nor the scikit-learn beneath it.
Most of the sequences make no sense as entities: what is read into those is where programs differ.
"""

import io
import itertools
import json
import os
import random

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seqeval_cases.json")
SEQUENCES, REPORTS = 600, 30


def sequences(labeling):
    """Returns lists [tags, [[type, first, last], ...]]."""
    rng = random.Random(1)
    tags = ["O"] + ["%s-%s" % pair for pair in itertools.product("BIES", ("PER", "LOC", "A-B"))]
    found = []
    for _ in range(SEQUENCES):
        chosen = [rng.choice(tags) for _ in range(rng.randrange(9))]
        found.append([" ".join(chosen), labeling.get_entities(chosen)])
    return found


def reports(metrics):
    """Returns dicts: truth and guessed, tags of each sentence, and seqeval's report."""
    rng = random.Random(3)
    tags = ["O"] * 4 + ["%s-%s" % pair for pair in itertools.product("BIES", ("PER", "LOC"))]
    found = []
    while len(found) < REPORTS:
        truth = [[rng.choice(tags) for _ in range(rng.randrange(1, 10))]
                 for _ in range(rng.randrange(1, 6))]
        guessed = [[tag if rng.random() < 0.6 else rng.choice(tags) for tag in row]
                   for row in truth]
        if not any("-" in tag for row in truth for tag in row):
            continue
        report = metrics.classification_report(truth, guessed, output_dict=True, zero_division=0)
        found.append({"truth": [" ".join(row) for row in truth],
                      "guessed": [" ".join(row) for row in guessed],
                      "report": {name: {key: float(value) for key, value in scores.items()}
                                 for name, scores in report.items()}})
    return found


def main():
    import seqeval.metrics
    from seqeval.metrics import sequence_labeling
    cases = {"sequences": sequences(sequence_labeling), "reports": reports(seqeval.metrics)}
    with io.open(PATH, "w", encoding="utf-8") as stream:
        stream.write("{%s}\n" % ",\n".join(
            "%s: [\n%s]" % (json.dumps(name), ",\n".join(map(json.dumps, rows)))
            for name, rows in sorted(cases.items())))


if __name__ == "__main__":
    main()
