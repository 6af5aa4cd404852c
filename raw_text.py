"""Raw documents: text, JSON lines and Wikipedia extracts, read in pieces and cleaned.

Files may be compressed (.gz, .zst) and of any size: like a corpus (corpus.py) they are divided into
byte ranges that processes read on their own, and which documents belong to a piece follows from
its bytes alone. In memory are one line and one document at a time; the former may have LINE_BYTES,
a longer document than PART_CHARACTERS is handed out as several.
"""

import collections
import functools
import json
import re
import sys
import unicodedata

import console
import corpus
import errors
import files
from errors import UserError

TEXT, JSON_LINES, WIKI = "text", "jsonl", "wiki"
FORMATS = (TEXT, JSON_LINES, WIKI)
ENDS_DOCUMENT, ENDS_PARAGRAPH = BLANK_LINES = ("document", "paragraph")
NORMAL_FORMS = ("none", "nfc", "nfkc")

LINE_BYTES = 32 << 20
PART_CHARACTERS = 1000000
_HEAD_BYTES = 1 << 16   # of a file, in which its format is told

# Why a line is of no use.
NOT_UTF8, NOT_JSON, NO_TEXT = BAD_LINES = ("line is not UTF-8", "line is not a JSON object",
                                           "line has no text field")

Reading = collections.namedtuple("Reading", ["text_field", "title_field", "blank_lines",
                                             "skip_bad_lines"])
Reading.__doc__ = """How files are read.

text_field, title_field: of JSON lines; title_field "": the title is no part of the text.
blank_lines: what a blank line in text ends, ENDS_DOCUMENT or ENDS_PARAGRAPH.
skip_bad_lines: pass over lines that are of no use, where they would else end the run.
"""

RawDocument = collections.namedtuple("RawDocument", ["lines", "numbers", "part"])
RawDocument.__doc__ = """A document as it stands in its file.

lines: list of str; numbers: list of int, where each stands: lines after the first that starts in
the piece; part: from 0, of a very long document.
"""


class Tally(object):
    """What reading a piece has met with, besides documents.

    Attributes:
        lines: how many lines start in the piece; known when it has been read to its end.
    """

    def __init__(self, take_bad_line=None):
        """take_bad_line: function of (reason, number, text) of each line that is passed over."""
        self.lines, self._take = 0, take_bad_line

    def add_bad_line(self, reason, number, text):
        if self._take:
            self._take(reason, number, text)


# ---------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------

def detect_format(path):
    """Returns the format of a file, told by how it starts and by its name.

    Raises:
        UserError: it is a JSON array, which cannot be read line by line.
    """
    with files.open_uncompressed(path) as stream:
        head = stream.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf").lstrip()
    name = re.sub(r"\.(gz|zst)$", "", path)
    if head.startswith(b"<doc "):
        return WIKI
    if name.endswith((".json", ".jsonl")):
        if head.startswith(b"["):
            raise UserError("%s holds one JSON array where a JSON object a line is expected; turn "
                            "it into lines, for example: jq -c '.[]' %s" % (path, path))
        return JSON_LINES
    if re.match(br'\{\s*"', head):
        if not name.endswith(".txt"):
            return JSON_LINES
        console.say("WARNING: %s begins like JSON lines and is read as text, by its name; if it "
                    "holds JSON, give --input_format=%s" % (path, JSON_LINES))
    return TEXT


def format_of(path, wanted):
    """Returns the format of a file. wanted: one of FORMATS, or "auto".

    Wikipedia extracts that WikiExtractor wrote with --json are JSON lines.
    """
    if wanted == WIKI:
        found = detect_format(path)
        return JSON_LINES if found == JSON_LINES else WIKI
    return detect_format(path) if wanted == "auto" else wanted


def plan_pieces(paths, formats, blank_lines, piece_bytes=None):
    """Divides files into corpus.Pieces, a list; a file that is one document is one piece."""
    if piece_bytes is None:
        total = sum(map(files.size, paths))
        piece_bytes = min(max(total // corpus.MOST_PIECES, corpus.PIECE_BYTES),
                          corpus.MOST_PIECE_BYTES)
    pieces = []
    for number, (path, kind) in enumerate(zip(paths, formats)):
        is_whole = kind == TEXT and blank_lines == ENDS_PARAGRAPH
        size = files.size(path) if is_whole else piece_bytes
        pieces.extend(piece._replace(file=number) for piece in corpus.plan_pieces([path], size))
    return pieces


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------

def read_documents(piece, kind, reading, tally):
    """Yields the RawDocuments of a piece in order.

    Args:
        piece: corpus.Piece; kind: one of FORMATS; reading: Reading.
        tally: Tally, which is added to.

    Raises:
        UserError: a line is of no use, unless such lines are skipped; names file and line.
    """
    read = {TEXT: _read_text, JSON_LINES: _read_json_lines, WIKI: _read_wiki}[kind]
    return read(piece, reading, tally)


def _read_text(piece, reading, tally):
    """Documents start after a blank line of the piece, and at the start of the file."""
    gathered, is_wanted = _Gathered(), piece.start == 0
    for number, is_inside, line in _decoded_lines(piece, reading, tally):
        if line is None:
            continue
        if line.strip():
            if is_wanted:
                for document in gathered.add(number, line):
                    yield document
            elif not is_inside:
                return
            continue
        if reading.blank_lines == ENDS_PARAGRAPH:
            continue
        for document in gathered.end():
            yield document
        if not is_inside:
            return
        is_wanted = True
    for document in gathered.end():
        yield document


def _read_wiki(piece, reading, tally):
    """A document is what stands between <doc ...> and </doc>, each on a line of its own."""
    gathered, is_wanted = _Gathered(), False
    for number, is_inside, line in _decoded_lines(piece, reading, tally):
        if line is None:
            continue
        opens = line.startswith("<doc ") and line.rstrip().endswith(">")
        if opens or line.strip() == "</doc>":
            for document in gathered.end():
                yield document
            if not is_inside:
                return
            is_wanted = opens
        elif is_wanted:
            for document in gathered.add(number, line) if line.strip() else ():
                yield document
        elif not is_inside:
            return
    for document in gathered.end():
        yield document


class _Gathered(object):
    """The lines of a document that is being read; a long one is handed out in parts."""

    def __init__(self):
        self._lines, self._numbers, self._size, self._part = [], [], 0, 0

    def add(self, number, line):
        """Takes a line with its number; yields the part before it when that is full."""
        if self._lines and self._size + len(line) > PART_CHARACTERS:
            yield self._take()
            self._part += 1
        self._lines.append(line)
        self._numbers.append(number)
        self._size += len(line)

    def end(self):
        """Yields what is left of the document, if anything; the next line starts another."""
        if self._lines:
            yield self._take()
        self._part = 0

    def _take(self):
        taken = RawDocument(self._lines, self._numbers, self._part)
        self._lines, self._numbers, self._size = [], [], 0
        return taken


def _read_json_lines(piece, reading, tally):
    """A line is a document; blank lines are passed."""
    for number, is_inside, line in _decoded_lines(piece, reading, tally):
        if not is_inside:
            return
        if line is None or not line.strip():
            continue
        text, fault = text_of_row(line, reading)
        if fault is None:
            lines = text.split("\n")
            yield RawDocument(lines, [number] * len(lines), 0)
        elif reading.skip_bad_lines:
            tally.add_bad_line(NOT_JSON if text is None else NO_TEXT, number, line)
        else:
            place = piece.path, _first_line(piece) + number
            raise UserError("%s line %d %s; --skip_bad_lines=True passes over such lines"
                            % (place + (fault,)))


def text_of_row(line, reading):
    """Returns (text, None) of a JSON line, or (what there is in its place, what is wrong)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, "is not valid JSON: %s" % error
    if not isinstance(row, dict):
        return None, "holds %s where a JSON object is expected" % type(row).__name__
    text = row.get(reading.text_field)
    if text is None:
        return "", "has no field %r (--text_field) but %s%s" % (
            reading.text_field, ", ".join(sorted(map(repr, row))) or "none at all",
            errors.nearest(reading.text_field, row))
    title = row.get(reading.title_field) if reading.title_field else None
    for field, value in ((reading.text_field, text), (reading.title_field, title)):
        if value is not None and not isinstance(value, str):
            return "", "holds %s in the field %r where text is expected" % (
                type(value).__name__, field)
    if title and not text.lstrip().startswith(title.strip()):
        return "%s\n%s" % (title.replace("\n", " "), text), None
    return text, None


def _decoded_lines(piece, reading, tally):
    """Yields (number, whether it starts in the piece, text) of a piece's lines and all that follow.

    text is None for a line that is not UTF-8 where such lines are skipped.
    """
    for number, (offset, raw) in enumerate(_raw_lines(piece)):
        is_inside = piece.end is None or offset < piece.end
        tally.lines = number + 1 if is_inside else tally.lines
        line = None
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if not reading.skip_bad_lines:
                raise files.not_utf8(piece.path, _first_line(piece) + number, raw,
                                     error) from error
            if is_inside:
                tally.add_bad_line(NOT_UTF8, number, raw.decode("utf-8", "replace"))
        if line is not None:
            line = line[int(not offset and line.startswith("\ufeff")):].rstrip("\n").rstrip("\r")
        yield number, is_inside, line


def _raw_lines(piece):
    """Yields (offset, bytes) of the lines that start in a piece and of all that follow."""
    with files.open_uncompressed(piece.path) as stream:
        offset = piece.start
        if offset:
            stream.seek(offset - 1)
            # To the start of the next line.
            offset += files.skip_line(piece.path, stream, LINE_BYTES + 1) - 1
        for raw in files.bounded_lines(piece.path, stream, LINE_BYTES + 1):
            if len(raw) > LINE_BYTES:
                raise UserError("%s has a line of more than %d MB, %d bytes from its start; break "
                                "it into lines" % (piece.path, LINE_BYTES >> 20, offset))
            yield offset, raw
            offset += len(raw)


def _first_line(piece):
    """Returns the number, from 1, of the first line that starts in a piece."""
    number, left = 1, piece.start - 1
    if left < 0:
        return number
    with files.open_uncompressed(piece.path) as stream:
        while left > 0:
            block = stream.read(min(left, 1 << 20))
            number += block.count(b"\n")
            left -= len(block)
    return number + 1


# ---------------------------------------------------------------------------------------------
# Cleaning
# ---------------------------------------------------------------------------------------------

def clean(line, normal_form="none"):
    """Returns a line without control characters, runs of white space as single blanks.

    Dropped is what BERT's tokenizer drops (control and format characters, U+FFFD), and what UTF-8
    cannot hold. HTML entities stay as they are.

    Args:
        normal_form: one of NORMAL_FORMS.
    """
    line = _dropped().sub("", " ".join(line.split()))
    if normal_form != "none":
        line = unicodedata.normalize(normal_form.upper(), line)
    return " ".join(line.split())


@functools.lru_cache(maxsize=1)
def _dropped():
    """Returns the pattern of characters that are dropped."""
    found = [code for code in range(sys.maxunicode + 1)
             if code == 0xfffd or unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs")]
    ranges, first = [], 0
    for index, code in enumerate(found):
        if index + 1 == len(found) or found[index + 1] != code + 1:
            ranges.append("\\U%08x-\\U%08x" % (found[first], code))
            first = index + 1
    return re.compile("[%s]+" % "".join(ranges))
