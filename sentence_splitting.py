"""Text to sentences: Chinese, and Chinese mixed with English; every character is kept.

A sentence ends after 。！？；… and their ASCII forms, or a run of them; quotes and brackets that
close there stay with it. What was decided where usage differs:

- Inside a quotation or brackets of at most MOST_ENCLOSED characters no sentence ends: a short
  speech of several sentences stays whole. A longer one is split like other text, so a quotation
  mark that is never closed has no effect beyond that length.
- A quotation whose last mark ends a sentence ends the sentence around it too, as newspapers are
  split: 他说：“你好。我来了。” is one sentence and 然后走了。 the next. It goes on where 的, a
  comma or the like follows: “谁来？”的问题.
- Brackets end a sentence where all of it stands in them: （他走了。）. Titles in 《》 never do.
- An ASCII full stop ends a sentence after a Chinese character, or where a blank and no small letter
  follows; not after single letters and known abbreviations (U.S., Mr.), nor after a number that
  opens the sentence (1. Overview), and never inside 3.14 or www.a.com.
- ASCII ! and ? end a sentence before a blank or a Chinese character, so that a?b=1 stays; an ASCII
  semicolon does next to a Chinese character, unless it ends an HTML entity.
- Marks without a word beside them belong to the sentence that follows, or to the last one.

The time it takes is proportional to the length of the text, whatever stands in it.
"""

import re

import corpus

MOST_ENCLOSED = 200   # characters
_MOST_NESTED = 16

_QUOTES = {"“": "”", "‘": "’", "「": "」", "『": "』", '"': '"'}
_BRACKETS = {"（": "）", "(": ")", "【": "】", "〔": "〕", "[": "]"}
_TITLES = {"《": "》", "〈": "〉", "{": "}"}
_CLOSED_BY = dict(_QUOTES, **dict(_BRACKETS, **_TITLES))
_CLOSING = corpus.CLOSING_MARKS.union("\"'")

_RUN = re.compile("[。！？；…｡‼⁇⁈⁉!?;.]+")
_PAIRED = re.compile("[%s]" % re.escape("".join(sorted(set(_CLOSED_BY).union(
    _CLOSED_BY.values())))))
_WORD = re.compile(r"[^\W_]")
_NOT_BLANK = re.compile(r"\S")
_LAST_WORD = re.compile("[^\\s\"'“‘(\\[\u2e80-\U0010ffff]*$")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
_ENTITY = re.compile(r"&#?\w{1,31}$")

# A sentence does not end before one of these; after a quotation it also goes on before 的 and 之.
_CONTINUING = frozenset("，、：；。,:;—～~·)）")
_AFTER_QUOTATION = frozenset("的之")

_ABBREVIATIONS = re.compile(
    "al|approx|apr|aug|ave|blvd|capt|cf|co|col|corp|dec|dept|dr|e[.]g|eds?|eqs?|est|etc|feb|figs?|"
    "gen|gov|hon|i[.]e|inc|jan|jr|jul|jun|lt|ltd|mar|messrs|mrs?|ms|mt|nos?|nov|oct|ph[.]d|pp|prof|"
    "rep|rev|sen|sept?|sgt|sr|st|vols?|vs", re.IGNORECASE)


def split_sentences(text, most_characters=None):
    """Splits a text, such as a paragraph, into sentences.

    Args:
        text: str; line breaks count as blanks.
        most_characters: a longer sentence is cut at clause marks; None: corpus.LINE_CHARACTERS.

    Returns:
        list of str without blanks around them, none of them empty. In a row they are the text, but
        for blanks between them.

    >>> split_sentences("他说：“你好。我来了。”然后走了。圆周率是3.14！")
    ['他说：“你好。我来了。”', '然后走了。', '圆周率是3.14！']
    """
    limit = most_characters or corpus.LINE_CHARACTERS
    found = []
    for sentence in _whole_sentences(text):
        if len(sentence) <= limit:
            found.append(sentence)
        else:
            parts = (part.strip() for part in corpus.cut_line(sentence, limit))
            found.extend(part for part in parts if part)
    return found


def _whole_sentences(text):
    sentences, start, first_word = [], 0, -1
    pairs, number = _enclosed(text), 0
    openings = {pair[0] for pair in pairs}
    for run in _RUN.finditer(text):
        while number < len(pairs) and pairs[number][1] < run.start():
            number += 1
        pair = pairs[number] if number < len(pairs) else (len(text), len(text))
        is_inside = pair[0] < run.start()
        end = _after_closing_marks(text, run.end(), openings)
        if is_inside and (end <= pair[1] or not _closes_sentence(text, start, pair)):
            continue
        if first_word < start:
            word = _WORD.search(text, start)
            first_word = word.start() if word else len(text)
        if first_word < end and _ends_sentence(text, start, run, end):
            sentences.append(text[start:end].strip())
            start = end
    rest = text[start:].strip()
    if rest and sentences and not _WORD.search(rest):
        sentences[-1] += rest
    elif rest:
        sentences.append(rest)
    return sentences


def _enclosed(text):
    """Returns the (start, end) of quotations and brackets, those inside others left out.

    start, end: places of the marks, ascending. Longer ones than MOST_ENCLOSED do not count.
    """
    pairs, waiting = [], []  # waiting: (place, mark that closes it) of those that are open
    for match in _PAIRED.finditer(text):
        place, mark = match.start(), match.group()
        level = _level_closed(waiting, place, mark)
        if level is not None:
            start = waiting[level][0]
            del waiting[level:]
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, place))
        elif mark in _CLOSED_BY:
            waiting.append((place, _CLOSED_BY[mark]))
            del waiting[:-_MOST_NESTED]
    return pairs


def _level_closed(waiting, place, mark):
    """Returns which of the open ones the mark closes, or None."""
    for level in range(len(waiting) - 1, -1, -1):
        start, closing = waiting[level]
        if place - start > MOST_ENCLOSED:
            return None
        if closing == mark:
            return level
    return None


def _after_closing_marks(text, end, openings):
    """Returns the end of the closing marks that follow; those at `openings` open something."""
    while end < len(text) and text[end] in _CLOSING and end not in openings:
        following = text[end + 1:end + 2]
        if (text[end] == "'" and following.isalnum()) or (text[end] == "’" and following.isdigit()):
            break  # an apostrophe: ’98
        end += 1
    return end


def _closes_sentence(text, start, pair):
    """Tells whether a sentence can end with the closing mark of a pair."""
    mark = text[pair[0]]
    if mark in _BRACKETS:
        return _NOT_BLANK.search(text, start).start() == pair[0]
    return mark in _QUOTES


def _ends_sentence(text, start, run, end):
    """Tells whether a run of marks, and the closing marks after it, ends a sentence.

    Args:
        start: of the sentence; run: match; end: of the closing marks.
    """
    following = _NOT_BLANK.search(text, end)
    if not following:
        return True
    following, is_apart = following.group(), following.start() > end
    if following in _CONTINUING:
        return False
    if end > run.end() and following in _AFTER_QUOTATION:
        return False
    marks = run.group()
    if any(_is_wide(mark) or mark == "…" for mark in marks):
        return True
    before = text[run.start() - 1:run.start()]
    if set(marks) == {";"}:
        is_entity = _ENTITY.search(text, max(start, run.start() - 32), run.start())
        return not is_entity and (_is_wide(before) or _is_wide(following))
    if marks == ".":
        return _is_full_stop(text, start, run.start(), is_apart, following, end > run.end())
    return not following.islower() if is_apart else _is_wide(following)


def _is_full_stop(text, start, place, is_apart, following, is_closed):
    """Tells whether an ASCII full stop, at a place, ends the sentence that begins at `start`.

    Args:
        is_apart: whether a blank follows; following: the next character that is none; is_closed:
            whether closing marks follow.
    """
    if _is_wide(text[place - 1:place]):
        return is_apart or _is_wide(following)
    if not is_apart:
        return is_closed and _is_wide(following)
    word = _LAST_WORD.search(text, max(start, place - 24), place).group()
    opens = _NOT_BLANK.search(text, start).start() == place - len(word)
    return not (following.islower() or _ABBREVIATIONS.fullmatch(word)
                or _INITIALS.fullmatch(word) or (opens and word.isdigit()))


def _is_wide(char):
    """Tells Chinese characters and marks, and those like them, from those of other scripts."""
    return char >= "\u2e80" or char in "“”‘’—‼⁇⁈⁉" if char else False
