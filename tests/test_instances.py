"""instances.py: chunks, sentence order and masks, against the source text and slow counterparts."""

import collections
import itertools
import math
import os
import random

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

import corpus
import instances
import tokenization
import words

from test_create_pretraining_data import invented_text

MASKING = instances.Masking(True, 0.15, 20, 1, False)


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return tokenization.FullTokenizer(vocab_file)


@pytest.fixture(scope="module")
def entries(tokenizer):
    return instances.describe_vocabulary(tokenizer)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return words.load_reader(tokenizer, "jieba")


@pytest.fixture(scope="module", params=["invented", "real"])
def documents(request, reader):
    """Sentences of each document of a small corpus, and of some newspaper articles."""
    if request.param == "invented":
        texts = [text.split("\n") for text in invented_text().strip().split("\n\n")]
    else:
        path = os.path.join(request.getfixturevalue("shared_data"), "corpus",
                            "people_daily_199801.txt")
        read = corpus.read_documents(corpus.plan_pieces([path]))
        texts = [document.lines for document in itertools.islice(read, 40)]
    return [reader.read(lines) for lines in texts]


def cuts_of(sentences, entries, seed=1, length=64, short=0.1):
    """Returns the cuts of a document that is alone in its unit."""
    return list(instances.Chunks(sentences, entries).of_document(
        0, len(sentences.ids), length, short, instances.seeded(seed)))


def draws_of(made, seed=1):
    return instances.seeded(seed, "draws").random_sample([4, made.offsets[-1]])


def all_masked(documents, entries, masking=MASKING, rounds=10):
    """Yields (sentences, Instances, Masked) of each document, several times."""
    for number, sentences in enumerate(documents):
        for seed in range(rounds):
            cuts = cuts_of(sentences, entries, "%d-%d" % (number, seed))
            made = instances.assemble(sentences, cuts, entries)
            yield sentences, made, instances.mask(made, draws_of(made, "%d.%d" % (number, seed)),
                                                  masking, entries)


def within_binomial(successes, trials, share, deviations=4.5):
    return abs(successes - trials * share) <= deviations * math.sqrt(trials * share * (1 - share))


# ---------------------------------------------------------------------------------------------
# Chunks and sentence order
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("short", [0.0, 0.1, 1.0])
def test_chunks_in_a_row_are_the_document(documents, reader, entries, short):
    more = [reader.read(["没有标点的一句话" * 40, "短"]), reader.read(["", "。", ""])]
    for sentences in documents + more:
        cuts = cuts_of(sentences, entries, short=short)
        ends = [cut[2] for cut in cuts]
        assert [cut[0] for cut in cuts] == [0][:len(cuts)] + ends[:-1]
        # Only a last chunk of one token is left out.
        assert len(sentences.ids) - (ends[-1] if ends else 0) <= 1
        for start, middle, end, _ in cuts:
            assert start < middle < end and 2 <= end - start <= 61
        if short == 1.0 and len(cuts) > 20:
            assert len({end - start for start, _, end, _ in cuts}) > 10


def test_full_chunks_are_cut_at_clause_marks_or_are_full(reader, entries):
    sentences = reader.read(["，".join(["他们正在研究这个问题"] * 30)])
    assert cuts_of(sentences, entries, short=0.0)[0][2] == 55  # five clauses of 11; 61 is the most
    sentences = reader.read(["他们正在研究这个问题" * 30])
    end = cuts_of(sentences, entries, short=0.0)[0][2]
    assert 58 <= end <= 61 and sentences.word_starts[end]  # ends with a whole word


def test_sentences_go_in_while_they_fit(reader, entries):
    sentences = reader.read(["甲乙丙丁戊己庚。"] * 4 + ["没有标点的一句很长的话" * 9])
    cut = cuts_of(sentences, entries, short=0.0)[0]
    assert cut[2] == 32 and cut[1] in (8, 16, 24)  # at least half full: the long one waits
    sentences = reader.read(["甲乙丙丁戊己庚。"] * 2 + ["没有标点的一句很长的话" * 9])
    assert 56 < cuts_of(sentences, entries, short=0.0)[0][2] <= 61


@pytest.mark.parametrize("text, first", [
    ("他来了，我走。", "他来了，"),
    ("一，他说今天下雨，我们没有出门；后来。", "一，他说今天下雨，"),
    ("他问：“你来吗？”我没有回答他的话", "他问：“你来吗？"),   # ” is [UNK] in this vocabulary
    ("（他来了。）我走", "（他来了。）"),
    ("他来了（走。）", "他来了"),                      # no cut before the last bracket
    ("北京大学", "北京"),                              # one word: the middle
    ("我喜欢图书馆", "我喜欢"),                         # no mark: between words
])
def test_a_single_sentence_is_cut_nearest_its_middle(reader, entries, text, first):
    sentences = reader.read([text])
    place = instances.Chunks(sentences, entries).cut(0, len(sentences.ids), 0.5)
    assert sentences.ids[:place].tolist() == reader.read([first]).ids.tolist()


def test_several_sentences_are_cut_at_a_sentence_end(reader, entries):
    sentences = reader.read(["今天，下雨。", "我没有，出门。", "他来了，又走了。"])
    chunks = instances.Chunks(sentences, entries)
    counts = collections.Counter(chunks.cut(0, len(sentences.ids), draw / 100.0)
                                 for draw in range(100))
    assert counts == {sentences.ends[0]: 50, sentences.ends[1]: 50}


def test_order_is_proved_against_the_source(documents, entries):
    swapped = total = 0
    for sentences, made, masked in all_masked(documents, entries):
        source = as_text(sentences.ids)
        for index in range(len(made.is_swapped)):
            start, end = made.offsets[index:index + 2]
            ids = made.ids[start:end]
            first = made.first_lengths[index]
            one, other = as_text(ids[1:first - 1]), as_text(ids[first:-1])
            assert (other + one if made.is_swapped[index] else one + other) in source
            assert ids[0] == entries.cls_id and ids[-1] == ids[first - 1] == entries.sep_id
            # What is masked can be put back.
            now = masked.ids[start:end].copy()
            places = slice(*masked.offsets[index:index + 2])
            now[masked.positions[places]] = masked.labels[places]
            assert (now == ids).all()
        swapped += made.is_swapped.sum()
        total += len(made.is_swapped)
    assert total > 500 and within_binomial(swapped, total, 0.5)


def as_text(ids):
    return "".join(map(chr, ids))


def test_every_document_with_two_tokens_is_used(reader, entries):
    for text, expected in {"一": 0, "一二": 1, "。": 0, "，。": 1, "Hi": 0, "\u200b": 0}.items():
        assert len(cuts_of(reader.read([text]), entries)) == expected, text


def test_draws_are_fixed():
    draws = instances.seeded(12345, 0, 0, 0).random_sample(4)
    assert (draws * 1000).astype(int).tolist() == DRAWS


DRAWS = [324, 160, 736, 546]


def test_an_instance_does_not_depend_on_what_is_made_with_it(documents, entries):
    # All documents in one unit, or one by one.
    joined = words.Sentences(
        np.concatenate([one.ids for one in documents]),
        np.concatenate([one.word_starts for one in documents]),
        np.concatenate([one.ends + offset for one, offset in zip(documents, np.cumsum(
            [0] + [len(one.ids) for one in documents]))]))
    chunks, start = instances.Chunks(joined, entries), 0
    for number, sentences in enumerate(documents):
        end = start + len(sentences.ids)
        together = list(chunks.of_document(start, end, 64, 0.1, instances.seeded(number)))
        assert [(a - start, b - start, c - start, d) for a, b, c, d in together] == cuts_of(
            sentences, entries, number)
        start = end


# ---------------------------------------------------------------------------------------------
# Masking
# ---------------------------------------------------------------------------------------------

def words_in(made, index):
    """Returns the words of an instance, lists of places."""
    start, end = made.offsets[index:index + 2]
    specials = {0, made.first_lengths[index] - 1, end - start - 1}
    found = []
    for place in range(end - start):
        if place in specials:
            found.append(None)
        elif made.word_starts[start + place]:
            found.append([place])
        else:
            found[-1].append(place)
    return [word for word in found if word]


def test_whole_words_are_masked_80_10_10(documents, entries):
    ordinary = set(entries.ordinary_ids.tolist())
    outcomes, masked_tokens, tokens = collections.Counter(), 0, 0
    for _, made, masked in all_masked(documents, entries):
        for index in range(len(made.is_swapped)):
            start, end = made.offsets[index:index + 2]
            places = masked.positions[slice(*masked.offsets[index:index + 2])].tolist()
            assert places == sorted(set(places))
            assert len(places) <= max(1, round((end - start) * 0.15))
            masked_tokens, tokens = masked_tokens + len(places), tokens + end - start
            for word in words_in(made, index):
                assert len({place in places for place in word}) == 1
                if word[0] in places:
                    was, now = (ids[start:end][word].tolist() for ids in (made.ids, masked.ids))
                    if now == was:
                        outcomes["kept"] += 1
                    elif now == [entries.mask_id] * len(word):
                        outcomes["mask"] += 1
                    else:
                        assert ordinary.issuperset(now)
                        outcomes["random"] += 1
            changed = np.flatnonzero(made.ids[start:end] != masked.ids[start:end])
            assert set(changed.tolist()) <= set(places)
    total = sum(outcomes.values())
    assert total > 3000
    assert within_binomial(outcomes["mask"], total, 0.8)
    assert within_binomial(outcomes["random"], total, 0.1)
    assert within_binomial(outcomes["kept"], total, 0.1)
    assert abs(masked_tokens / float(tokens) - 0.15) < 0.01


def test_single_tokens_are_drawn_one_by_one(documents, entries):
    inside = total = kept = 0
    for _, made, masked in all_masked(documents, entries, MASKING._replace(whole_words=False)):
        counts = instances.count_predictions(np.diff(made.offsets), MASKING)
        assert np.diff(masked.offsets).tolist() == counts.tolist()
        owners = np.repeat(np.arange(len(counts)), counts)
        at = masked.positions + made.offsets[owners]
        kept += (masked.ids[at] == masked.labels).sum()
        inside += (~made.word_starts[at]).sum()
        total += len(at)
    assert within_binomial(kept, total, 0.1) and inside > total / 4


def test_replacements_are_ordinary_entries(entries, tokenizer):
    count = 60000
    ids = np.full(count, 5, np.int32)
    made = instances.Instances(
        np.concatenate([[entries.cls_id, 5, entries.sep_id], ids, [entries.sep_id]]),
        np.concatenate([[False, True, False], np.ones(count, bool), [False]]),
        np.array([0, count + 4]), np.array([3]), np.array([False]))
    masked = instances.mask(made, draws_of(made), instances.Masking(True, 0.99, count, 1, False),
                            entries)
    now = masked.ids[masked.positions]
    replaced = tokenizer.convert_ids_to_tokens(now[(now != 5) & (now != entries.mask_id)].tolist())
    assert within_binomial(len(replaced), len(now), 0.1)
    assert not [token for token in replaced if token.startswith("[") and len(token) > 1]
    assert not [token for token in replaced if token.startswith("##") and len(token) == 3
                and tokenization.is_chinese_char(ord(token[2]))]
    assert len(set(replaced)) > 3000  # drawn from the whole vocabulary


def test_labels_are_plain_or_prefixed(documents, reader, entries, tokenizer):
    twins = set(entries.twins[entries.twins != np.arange(len(entries.twins))].tolist())
    assert len([token for token in tokenizer.convert_ids_to_tokens(sorted(twins))
                if "一" <= token[2] <= "龥"]) == 7321
    prefixed = 0
    for (_, _, one), (_, made, other) in zip(
            all_masked(documents, entries, rounds=2),
            all_masked(documents, entries, MASKING._replace(prefixed_labels=True), rounds=2)):
        assert (one.ids == other.ids).all() and (one.positions == other.positions).all()
        assert not twins & set(one.labels.tolist()) and not twins & set(other.ids.tolist())
        changed = one.labels != other.labels
        assert (entries.twins[one.labels[changed]] == other.labels[changed]).all()
        owners = np.repeat(np.arange(len(made.is_swapped)), np.diff(other.offsets))
        assert not made.word_starts[(other.positions + made.offsets[owners])[changed]].any()
        prefixed += changed.sum()
    assert prefixed > 100
    sentences = reader.read(["图书馆图书馆"])
    made = instances.assemble(sentences, [(0, 3, 6, False)], entries)
    labels = instances.mask(made, draws_of(made), instances.Masking(True, 0.9, 9, 1, True),
                            entries).labels
    assert tokenizer.convert_ids_to_tokens(labels.tolist()) == ["图", "##书", "##馆"] * 2


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_span_lengths_follow_the_paper(most):
    draws = instances.seeded(most).random_sample(20000)
    counts = collections.Counter(instances.span_lengths(draws, most).tolist())
    whole = sum(1.0 / n for n in range(1, most + 1))
    assert set(counts) == set(range(1, most + 1))
    for length in counts if most > 1 else ():
        assert within_binomial(counts[length], 20000, 1.0 / length / whole)


def choose_slowly(made, draws, masking):
    """Returns the masked places of each instance by going through its words one by one."""
    found = []
    for index in range(len(made.is_swapped)):
        start, end = made.offsets[index:index + 2]
        limit = min(max(1, int(round((end - start) * masking.share))), masking.most_predictions)
        mine = words_in(made, index)
        if not masking.whole_words:
            mine = [[place] for word in mine for place in word]
        covered = {}
        for number in sorted(range(len(mine)), key=lambda n: draws[0][start + mine[n][0]]):
            span = []
            size = instances.span_lengths(draws[3][start + mine[number][:1]], masking.max_ngram)[0]
            for word in mine[number:number + size]:
                touches = not span or span[-1] + 1 == word[0]
                if (not touches or covered.keys() & set(word)
                        or len(covered) + len(span) + len(word) > limit):
                    break
                span += word
            covered.update(dict.fromkeys(span))
        found.append(sorted(covered))
    return found


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(strategies.lists(strategies.lists(strategies.integers(1, 6), min_size=2,
                                                    max_size=25), min_size=1, max_size=5),
                  strategies.sampled_from([0.05, 0.15, 0.5, 0.9]), strategies.integers(1, 30),
                  strategies.integers(1, 4), strategies.booleans(), strategies.integers(0, 99))
def test_many_at_once_are_masked_as_one_by_one(entries, sizes, share, most, ngram, whole, seed):
    made = made_of_words(sizes, entries)
    draws = draws_of(made, seed)
    masking = instances.Masking(whole, share, most, ngram, False)
    masked = instances.mask(made, draws, masking, entries)
    found = [masked.positions[start:end].tolist()
             for start, end in zip(masked.offsets, masked.offsets[1:])]
    assert found == choose_slowly(made, draws, masking)


def made_of_words(sizes, entries):
    """Returns Instances with words of the given numbers of tokens; a list an instance."""
    rng = random.Random(3)
    ids, starts, cuts, place = [], [], [], 0
    for mine in sizes:
        for size in mine:
            ids += [rng.randrange(200, 9000) for _ in range(size)]
            starts += [True] + [False] * (size - 1)
        cuts.append((place, place + sum(mine[:len(mine) // 2]), len(ids), False))
        place = len(ids)
    sentences = words.Sentences(np.array(ids, np.int32), np.array(starts),
                                np.array([cut[2] for cut in cuts]))
    return instances.assemble(sentences, cuts, entries)


def test_a_word_that_exceeds_the_limit_is_passed_over(entries):
    made = made_of_words([[5, 2, 5]], entries)
    for seed in range(20):
        masked = instances.mask(made, draws_of(made, seed),
                                instances.Masking(True, 0.2, 20, 1, False), entries)
        assert masked.positions.tolist() == [7, 8]
