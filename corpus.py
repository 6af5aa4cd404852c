"""Text corpora: one sentence a line, a blank line between documents; read in pieces, in any order.

A corpus is a list of files, plain or compressed (.gz, .zst). `plan_pieces` divides it into byte
ranges that processes read on their own; which documents belong to a piece follows from its bytes
alone. Whatever reads a corpus (records, vocabularies, statistics) does so through this module.

Nothing here holds more than a document's part in memory.
"""

import collections

import files
from errors import UserError

# Bounds of memory. A document longer than PART_CHARACTERS is handed out in parts of that size, a
# line longer than LINE_CHARACTERS counts as several sentences; the text stays complete.
LINE_CHARACTERS = 5000
PART_CHARACTERS = 50000
MOST_LINE_BYTES = 32 << 20

# Pieces are small enough to be done within seconds, and at most about so many.
PIECE_BYTES = 1 << 20
MOST_PIECE_BYTES = 8 << 20
MOST_PIECES = 128

CLAUSE_MARKS = frozenset("，；：、。！？…,;:!?")
CLOSING_MARKS = frozenset("”’」』）》〉】〕)]}")
_CUT_AFTER = CLAUSE_MARKS.union(" ")

Piece = collections.namedtuple("Piece", ["file", "path", "start", "end"])
Piece.__doc__ = """A range of a corpus.

file: number of the file in the list, from 0; path: of it; start, end: bytes; end None: all the
rest. Compressed files are one piece each.
"""

Document = collections.namedtuple("Document", ["file", "offset", "part", "lines"])
Document.__doc__ = """A document, or a part of a very long one.

file: number of its file; offset: of its first line in the (uncompressed) file, in bytes; part:
from 0; lines: list of str, one sentence each, without blanks around them.
"""

Survey = collections.namedtuple("Survey", ["documents", "sentences", "characters"])


# ---------------------------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------------------------

def plan_pieces(paths, piece_bytes=None):
    """Divides files into Pieces; depends on the files' names and sizes alone.

    Args:
        paths: list of files.
        piece_bytes: size of a piece; None: chosen by the size of the corpus.
    """
    sizes = [0 if files.is_compressed(path) else files.size(path) for path in paths]
    if piece_bytes is None:
        piece_bytes = min(max(sum(sizes) // MOST_PIECES, PIECE_BYTES), MOST_PIECE_BYTES)
    pieces = []
    for number, (path, size) in enumerate(zip(paths, sizes)):
        count = max(1, -(-size // piece_bytes))
        starts = [size * index // count for index in range(count)]
        pieces.extend(Piece(number, path, start, end)
                      for start, end in zip(starts, starts[1:] + [None]))
    return pieces


def read_documents(pieces):
    """Yields the documents of Pieces in order; long ones in parts (see PART_CHARACTERS)."""
    for piece in pieces:
        for document in _documents_of_piece(piece):
            yield document


def _documents_of_piece(piece):
    """Yields the documents that follow a blank line of the piece, and a file's first one.

    The last of them may end beyond the piece; what stands in the piece before its first blank line
    belongs to an earlier one.
    """
    part, lines, size, offset = 0, [], 0, 0
    wanted = piece.start == 0
    for start, line in _lines_of_piece(piece):
        line = line.strip()
        if not line:
            if lines:
                yield Document(piece.file, offset, part, lines)
            if piece.end is not None and start >= piece.end:
                return
            part, lines, size, wanted = 0, [], 0, True
        elif not wanted and piece.end is not None and start >= piece.end:
            return  # no blank line in it: it has no document of its own
        elif wanted:
            for sentence in cut_line(line):
                if lines and size + len(sentence) > PART_CHARACTERS:
                    yield Document(piece.file, offset, part, lines)
                    part, lines, size = part + 1, [], 0
                if not lines and not part:
                    offset = start
                lines.append(sentence)
                size += len(sentence)
    if lines:
        yield Document(piece.file, offset, part, lines)


def _lines_of_piece(piece):
    """Yields (offset, text) of the lines that start in the piece and of all that follow.

    Raises:
        UserError: a line is not UTF-8, or is too long; names its number.
    """
    with files.open_uncompressed(piece.path) as stream:
        offset = piece.start
        if offset:
            stream.seek(offset - 1)
            # To the start of the next line.
            offset += files.skip_line(piece.path, stream, MOST_LINE_BYTES) - 1
        for raw in files.bounded_lines(piece.path, stream, MOST_LINE_BYTES):
            if len(raw) >= MOST_LINE_BYTES:
                raise UserError("%s line %d is longer than %d MB: is it text, one sentence a line?"
                                % (piece.path, _line_number(piece.path, offset),
                                   MOST_LINE_BYTES >> 20))
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise files.not_utf8(piece.path, _line_number(piece.path, offset), raw,
                                     error) from error
            yield offset, line[1:] if not offset and line.startswith("\ufeff") else line
            offset += len(raw)


def _line_number(path, offset):
    """Returns the number of the line that starts at an offset, from 1."""
    number, left = 1, offset
    with files.open_uncompressed(path) as stream:
        while left > 0:
            block = stream.read(min(left, 1 << 20))
            number += block.count(b"\n")
            left -= len(block)
    return number


def cut_line(line, limit=LINE_CHARACTERS):
    """Yields a line in pieces of at most `limit` characters, cut after a mark or a blank.

    >>> list(cut_line("一二三，四五六七", limit=6))
    ['一二三，', '四五六七']
    """
    start = 0
    while len(line) - start > limit:
        end = start + limit
        mark = max(line.rfind(mark, start, end) for mark in _CUT_AFTER)
        if mark >= start + limit // 2:
            end = mark + 1
        yield line[start:end]
        start = end
    if start < len(line):
        yield line[start:]


# ---------------------------------------------------------------------------------------------
# Documents
# ---------------------------------------------------------------------------------------------

def count_characters(document):
    """Returns the number of characters of a Document."""
    return sum(map(len, document.lines))


def in_units(documents, characters):
    """Yields lists of consecutive documents of about so many characters in all."""
    unit, size = [], 0
    for document in documents:
        unit.append(document)
        size += count_characters(document)
        if size >= characters:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit


def survey(piece):
    """Counts what a Piece holds; raises UserError for what is not UTF-8."""
    documents = sentences = characters = 0
    for document in read_documents([piece]):
        documents += int(document.part == 0)
        sentences += len(document.lines)
        characters += count_characters(document)
    return Survey(documents, sentences, characters)


def add_surveys(surveys):
    """Returns the Survey of several."""
    return Survey(*map(sum, zip(Survey(0, 0, 0), *surveys)))


def require_text(total, paths):
    """Raises UserError where a corpus holds no text. total: Survey of all; paths: its files."""
    if not total.documents:
        raise UserError("--input_file: %s only blank lines; one sentence a line is expected"
                        % ("%s holds" % paths[0] if len(paths) == 1
                           else "the %d files hold" % len(paths)))
