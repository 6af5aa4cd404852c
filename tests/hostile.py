"""Generated input for property tests: texts and bytes on which programs go wrong.

`bounded` makes a test's examples the same in every run, so that CI decides one way.
"""

import hypothesis
from hypothesis import strategies

# Pieces of text that have gone wrong somewhere: accents that shorten or lengthen a text, final
# sigma, capitals without a small letter of their own, line ends that are none, half a surrogate
# pair, control and format characters, private use, characters beyond the first plane, marks.
PIECES = (
    "今天", "花呗", "，", "。", "繁體", "豈更", "𠮷", "𪚥", "😀👍🏽", "한국", "ガギ", "Ça", "é",
    "e\u0301", "ẞß", "ıİ", "ΑΣ", "Σ", "ǅ", "ﬁ", "①½²", "全ＡＢ１", "\u2028", "\u0085", "\u2029",
    "\u000b", "\u001c", "\u00a0", "\u3000", "\u200b", "\u200d", "\ufeff", "\u00ad", "\ufffd",
    "\x00", "\x07", "\x7f", "\ud800", "\udfff", "\ue000", "\U0010ffff", "[MASK]", "[CLS]",
    "[unused1]", "##ing", "##", "#", "_", "-", "…", "——", "$^`", "1,299.00", "a" * 201, "ab" * 40,
    "长" * 60, "\t", " ", "\r", "\r\n", "\n", '"', "\\", "\\u4e00", "'", "<pad>", "</s>", "▁")


def texts(longest=60, without=""):
    """Strategy for str, without the characters of `without`."""
    any_character = strategies.text(strategies.characters(), max_size=longest)
    of_pieces = strategies.lists(strategies.sampled_from(PIECES), max_size=6).map("".join)
    both = strategies.tuples(of_pieces, any_character).map("".join)
    drop = {ord(char): None for char in without}
    return strategies.one_of(of_pieces, any_character, both).map(
        lambda text: text.translate(drop))


def utf8_texts(longest=60, without=""):
    """Strategy for str that UTF-8 can hold: no half surrogate pairs."""
    return texts(longest, without).map(
        lambda text: text.encode("utf-8", "ignore").decode("utf-8"))


def contents(longest=200):
    """Strategy for bytes of a file: text, text in other encodings, and anything."""
    whole_texts = utf8_texts(longest)
    return strategies.one_of(
        strategies.binary(max_size=longest),
        whole_texts.map(lambda text: text.encode("utf-8")),
        whole_texts.map(lambda text: text.encode("gb18030")),
        whole_texts.map(lambda text: text.encode("utf-16")),
        strategies.tuples(whole_texts, strategies.binary(max_size=8)).map(
            lambda parts: parts[0].encode("utf-8") + parts[1]))


def bounded(examples):
    """Settings of a property test: so many examples, always the same ones."""
    return hypothesis.settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow,
                               hypothesis.HealthCheck.filter_too_much,
                               hypothesis.HealthCheck.data_too_large]
        + ([hypothesis.HealthCheck.function_scoped_fixture]
           if hasattr(hypothesis.HealthCheck, "function_scoped_fixture") else []))
