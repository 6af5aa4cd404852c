"""Random text with every kind of character, for tests of what must hold for any text."""

# What tokenizers drop, change, part, join, decompose or do not know.
PIECES = (
    list("天地人中国《》，。！？、…—「」①㈠１２３ＡＢ\u3000豈𠀀𫚭ㄅかがガ가각")
    + list("abcXYZ0123456789.,!?-_'\"#@$%^`~")
    + [" ", "\t", "\n", "\r", "\u00a0", "\u2028", "\u2029", "\u200b", "\u200d", "\ufeff", "\x00",
       "\x1c", "\x85", "\ufffd", "\u00ad", "\ue000", "\ud800"]
    + ["é", "e\u0301", "Å", "\u212b", "İ", "ı", "ß", "ẞ", "Σ", "ΑΣ", "ς", "ﬁ", "Ǆ", "ŉ", "≠"]
    + ["\u1fef", "\u037e", "a\u0316\u0301", "a\u0301\u0316", "\u302e\u302f"]
    + ["ก็", "ไทย", "नमस्ते", "العربية", "עִברִית"]
    + ["😀", "👨\u200d👩\u200d👧", "🇨🇳", "☺\ufe0f", "1\ufe0f\u20e3", "𝒜", "[MASK]", "##"]
    + ["hello", "unaffable", "ALBERT", "iPhone"])


def random_text(rng, most=30, least=0):
    """Returns a text of `least` to below `most` pieces. rng: random.Random."""
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(least, most)))
