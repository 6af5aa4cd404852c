"""Properties of tokenisation, truncation and masking that hold for every text."""

import functools
import unicodedata

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hostile import bounded, texts  # noqa: E402 - it needs hypothesis
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import corpus  # noqa: E402
import features  # noqa: E402
import instances  # noqa: E402
import masking  # noqa: E402
import record_making  # noqa: E402
import records  # noqa: E402
import tasks  # noqa: E402
import tokenization  # noqa: E402

import tensorflow.compat.v1 as tf  # noqa: E402


@pytest.fixture(scope="module")
def tokenizers(vocab_file):
    """{lower-casing: tokenizer}."""
    return {lower: tokenization.FullTokenizer(vocab_file, lower) for lower in (True, False)}


# ---------------------------------------------------------------------------------------------
# Tokenisation
# ---------------------------------------------------------------------------------------------

@bounded(300)
@given(texts(), st.booleans())
def test_tokens_go_to_ids_and_back(tokenizers, text, lower):
    tokenizer = tokenizers[lower]
    tokens = tokenizer.tokenize(text)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert all(0 <= number < len(tokenizer.vocab) for number in ids)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    # Text can spell no special token but the unknown word.
    assert not {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id} & set(ids)


@bounded(300)
@given(texts(), texts(), st.booleans())
def test_what_a_blank_parts_is_tokenised_apart(tokenizers, first, second, lower):
    tokenize = tokenizers[lower].tokenize
    assert tokenize(first + " " + second) == tokenize(first) + tokenize(second)


@bounded(200)
@given(texts(), st.booleans())
def test_tokenising_twice_gives_the_same(tokenizers, text, lower):
    """The words that a text is split into, joined by blanks, are split into the same words."""
    tokenizer = tokenizers[lower].basic_tokenizer
    found = tokenizer.tokenize(text)
    if lower:
        # Some letters become others when they are lowered a second time, after the accents left.
        found = tokenizer.tokenize(" ".join(found))
    assert tokenizer.tokenize(" ".join(found)) == found


@bounded(300)
@given(texts())
def test_bytes_are_the_text_they_spell(tokenizers, text):
    whole = text.encode("utf-8", "ignore")
    assert tokenizers[True].tokenize(whole) == tokenizers[True].tokenize(whole.decode("utf-8"))


@bounded(400)
@given(texts(), st.booleans())
def test_the_tokens_are_hugging_faces(tokenizers, vocab_file, text, lower):
    transformers = pytest.importorskip("transformers")
    if lower not in _THEIRS:
        _THEIRS[lower] = transformers.BertTokenizer(vocab_file, do_lower_case=lower)
    # What the two are meant to differ in is taken out: theirs composes the text first, drops
    # whatever Unicode calls other, reads special tokens, lowers each letter by itself (so there is
    # no final sigma), and knows no words beyond 100 characters.
    text = "".join(char for char in unicodedata.normalize("NFC", text)
                   if char in "\t\n\r" or unicodedata.category(char)[0] != "C")
    text = text.replace("[", "(").replace("\u03a3", "\u03c3")
    words = text.split()
    if any(len(word) > 100 for word in words) or unicodedata.normalize("NFC", text) != text:
        text = "".join(words)[:20]
        text = unicodedata.normalize("NFC", text)
    assert tokenizers[lower].tokenize(text) == _THEIRS[lower].tokenize(text)


_THEIRS = {}


# ---------------------------------------------------------------------------------------------
# Truncation
# ---------------------------------------------------------------------------------------------

@bounded(300)
@given(st.integers(0, 40), st.integers(0, 45), st.sampled_from(features.TRUNCATIONS))
def test_truncated_tokens_are_the_start_the_end_or_both(count, length, truncate):
    tokens = list(range(count))
    found = features.truncate_tokens(tokens, length, truncate)
    assert len(found) == min(count, length)
    head = next((place for place, token in enumerate(found) if token != place), len(found))
    tail = found[head:]
    assert tail == tokens[count - len(tail):]  # a start, and an end: nothing else in between
    if count > length and truncate != "head_tail":
        assert found == (tokens[:length] if truncate == "head" else tokens[count - length:])
    if count > length > 0 and truncate == "head_tail":
        assert head == -(-length // features.HEAD_SHARE)


@bounded(300)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60),
       st.sampled_from(features.TRUNCATIONS))
def test_the_longer_of_a_pair_gives_way(first, second, most, truncate):
    found = features.truncate_pair(list(range(first)), list(range(100, 100 + second)), most,
                                   truncate)
    sizes = [len(part) for part in found]
    assert sum(sizes) == min(first + second, most)
    for size, whole, other in ((sizes[0], first, sizes[1]), (sizes[1], second, sizes[0])):
        if size < whole:
            assert size >= other - 1  # nothing is taken from the shorter one
    assert all(number < 100 for number in found[0]) and all(number >= 100 for number in found[1])


@bounded(200)
@given(texts(), st.one_of(st.none(), texts()), st.integers(5, 40), st.booleans(),
       st.sampled_from(features.TRUNCATIONS))
def test_features_of_any_text_fit_the_model(tokenizers, text_a, text_b, most, lower, truncate):
    tokenizer = tokenizers[lower]
    row = features.featurise(tasks.Example(0, text_a, text_b, "1"), ("0", "1"), tokenizer, most,
                             truncate)
    ids, segments = row["input_ids"], row["segment_ids"]
    assert 2 <= len(ids) == len(segments) == len(row["input_mask"]) <= most
    assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
    assert ids.count(tokenizer.sep_id) == (1 if text_b is None else 2)
    assert segments == sorted(segments) and set(segments) <= {0, 1}
    end_of_first = ids.index(tokenizer.sep_id)
    assert segments.count(0) == end_of_first + 1
    assert set(row["input_mask"]) == {1} and row["label_ids"] == [1]
    if text_b is None and len(tokenizer.tokenize(text_a)) <= most - 2:
        assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == tokenizer.tokenize(text_a)


# ---------------------------------------------------------------------------------------------
# Masking: from any text to records
# ---------------------------------------------------------------------------------------------

sentences = texts(without="\n\r\u2028").map(lambda text: " ".join(
    text.encode("utf-8", "ignore").decode("utf-8").split()))
documents = st.lists(st.lists(sentences.filter(bool), min_size=1, max_size=5), min_size=1,
                     max_size=3)


lengths = st.sampled_from([5, 8, 17, 48])


@functools.lru_cache(maxsize=None)
def maker_of(making):
    return record_making.RecordMaker(making)


def making(vocab_file, length, whole_words, masking_kind, seed, max_ngram=1, prefixed=False):
    return record_making.Making(
        vocab_file, True, None, whole_words, length, max(length // 6, 1), seed, 1, 0.15, 0.1,
        False, prefixed, max_ngram, False, masking_kind, "jieba")


def made(vocab_file, documents, *settings, **more):
    """Returns the records of documents, decoded, in the order of the text: {key: list}."""
    found, _ = maker_of(making(vocab_file, *settings, **more)).make(
        [corpus.Document(0, number, 0, lines) for number, lines in enumerate(documents)])
    decoded = []
    for _, serialized in found:
        feature = tf.train.Example.FromString(serialized).features.feature
        decoded.append({key: list(feature[key].int64_list.value or feature[key].float_list.value)
                        for key in feature})
    return decoded


def unmasked(record):
    """Returns the ids of a record before masking."""
    ids = list(record["input_ids"])
    for place, label in zip(record["masked_lm_positions"], record["masked_lm_ids"]):
        ids[place] = label
    return ids


def in_text_order(record, ids):
    """Returns the text's ids of a record: both segments, put back in the order of the text."""
    border = record["segment_ids"].index(1)
    first, second = ids[1:border - 1], ids[border:-1]
    return second + first if record["next_sentence_labels"] == [1] else first + second


@bounded(60)
@given(documents, lengths, st.booleans(), st.integers(0, 1))
def test_records_hold_the_text_and_mask_it_as_they_should(
        vocab_file, tokenizers, documents, length, whole_words, seed):
    tokenizer, most = tokenizers[True], max(length // 6, 1)
    decoded = made(vocab_file, documents, length, whole_words, "static", seed)
    specials = {tokenizer.cls_id, tokenizer.sep_id}
    for record in decoded:
        ids, places = record["input_ids"], record["masked_lm_positions"]
        assert 5 <= len(ids) <= length
        assert len(ids) == len(record["segment_ids"]) == len(record["input_mask"])
        assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
        assert places == sorted(set(places)) and len(places) <= most
        assert len(places) == len(record["masked_lm_ids"]) == len(record["masked_lm_weights"])
        whole = unmasked(record)
        assert [whole[place] for place in range(len(ids)) if place not in places] == [
            ids[place] for place in range(len(ids)) if place not in places]
        assert not specials & {whole[place] for place in places}
        assert whole.count(tokenizer.sep_id) == 2 and whole.count(tokenizer.cls_id) == 1
    # Nothing of the text is lost but what cannot be two segments, and nothing comes twice.
    text = [number for lines in documents for line in lines
            for number in tokenizer.convert_tokens_to_ids(tokenizer.tokenize(line))]
    kept = [number for record in decoded for number in in_text_order(record, unmasked(record))]
    assert len(text) - len(documents) * len(text) <= len(kept) <= len(text)
    remaining = iter(text)
    assert all(number in remaining for number in kept)  # in the text's order
    if decoded and len(documents) == 1:
        assert len(kept) >= len(text) - len(decoded) - 1


@bounded(60)
@given(documents, lengths, st.integers(0, 1))
def test_dynamic_records_hold_what_static_ones_mask(vocab_file, documents, length, seed):
    static = made(vocab_file, documents, length, True, "static", seed)
    dynamic = made(vocab_file, documents, length, True, "dynamic", seed)
    assert [unmasked(record) for record in static] == [record["input_ids"] for record in dynamic]
    for one, other in zip(static, dynamic):
        assert one["segment_ids"] == other["segment_ids"]
        assert one["next_sentence_labels"] == other["next_sentence_labels"]
        starts = other["word_starts"]
        assert len(starts) == len(other["input_ids"]) and set(starts) <= {0, 1}
        # A word is masked whole: what follows a masked token in its word is masked too.
        places = set(one["masked_lm_positions"])
        border = other["segment_ids"].index(1)
        for place in range(1, len(starts) - 1):
            if place != border - 1 and not starts[place]:
                assert (place in places) == (place - 1 in places)


@pytest.fixture(scope="module")
def graphs(tokenizers):
    """Returns a function that masks a record with masking.mask, once built for each Spec."""
    entries = instances.describe_vocabulary(tokenizers[True])
    built, sessions = {}, []

    def mask(record, wanted, seed):
        if wanted not in built:
            graph = tf.Graph()
            with graph.as_default():
                spec = masking.Spec(
                    wanted.whole_words, wanted.share, wanted.most_predictions, wanted.max_ngram,
                    entries.mask_id, entries.ordinary_ids,
                    entries.twins if wanted.prefixed_labels else None, len(entries.twins))
                fields = {field.name: tf.placeholder(tf.int32, [None])
                          for field in records.UNMASKED}
                drawn = tf.placeholder(tf.int64, [2])
                sessions.append(tf.Session(graph=graph))
                built[wanted] = fields, drawn, masking.mask(fields, spec, drawn)
            built[wanted] += (sessions[-1],)
        fields, drawn, outputs, session = built[wanted]
        feed = {fields[name]: record[name] for name in fields}
        feed[drawn] = seed
        return session.run(outputs, feed)

    yield mask
    for session in sessions:
        session.close()


@bounded(80)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=9), min_size=2, max_size=2),
       st.sampled_from([(True, 0.15, 6, 1), (False, 0.4, 9, 1), (True, 0.3, 5, 3)]),
       st.integers(0, 1 << 40))
def test_masks_drawn_in_training_keep_the_rules(tokenizers, graphs, words, wanted, seed):
    tokenizer, wanted = tokenizers[True], instances.Masking(*wanted, prefixed_labels=False)
    ids, starts, segments = [], [], []
    for number, sizes in enumerate(words):
        part = [200 + (7 * place) % 9000 for place in range(sum(sizes))]
        opens = [int(place == 0) for size in sizes for place in range(size)]
        head = [tokenizer.cls_id] if number == 0 else []
        ids += head + part + [tokenizer.sep_id]
        starts += [0] * len(head) + opens + [0]
        segments += [number] * (len(head) + len(part) + 1)
    record = {"input_ids": ids, "segment_ids": segments, "word_starts": starts,
              "next_sentence_labels": [1]}
    found = graphs(record, wanted, [3, seed])
    places = found["masked_lm_positions"].tolist()
    limit = min(max(int(np.rint(len(ids) * wanted.share)), 1), wanted.most_predictions)
    assert places == sorted(set(places)) and len(places) <= limit
    assert found["masked_lm_ids"].tolist() == [ids[place] for place in places]
    assert not {0, segments.index(1) - 1, len(ids) - 1} & set(places)
    others = [place for place in range(len(ids)) if place not in places]
    assert [found["input_ids"][place] for place in others] == [ids[place] for place in others]
    assert found["masked_lm_weights"].tolist() == [1.0] * len(places)
    if wanted.whole_words:
        inner = [place for place in range(1, len(ids) - 1)
                 if not starts[place] and place != segments.index(1) - 1]
        assert all((place in places) == (place - 1 in places) for place in inner)
    again = graphs(record, wanted, [3, seed])
    assert all(np.array_equal(found[name], again[name]) for name in found)
