"""Makes a vocabulary from a corpus: WordPiece for a new language or domain, or SentencePiece.

Input: text as create_pretraining_data.py reads it. Words are those of tokenization.BasicTokenizer,
counted by all processors, so what is learnt is what the tokenizer will look up.

WordPiece (--output_file=vocab.txt), in this order: BERT's special entries at their usual ids; the
characters of the corpus, and "##" with each that can stand inside a word; pieces of words, learnt
by the package `tokenizers` from words of letters and digits; "##" with each Chinese character,
which --prefixed_word_labels predicts. Chinese characters are single entries, as the tokenizer
isolates them.

--extend=albert_config/vocab.txt keeps a vocabulary and all its ids, and gives its [unusedN] slots
to what the corpus lacks most: for further pre-training on a domain.

SentencePiece (--model_type=sentencepiece --output_file=spm.model): the unigram model with ALBERT's
options (https://arxiv.org/abs/1909.11942, section 4.1), for languages with spaces. Beside it
spm.vocab, for people to read.

Memory does not grow with the corpus: WordPiece keeps MOST_WORDS different words at most (some
150 bytes each) and forgets the rarest beyond that, SentencePiece --input_sentence_size sentences.
"""

import collections
import functools
import heapq
import importlib.util
import io
import os
import re
import unicodedata

from absl import flags

import console
import corpus
import errors
import files
import tokenization
import workers
from errors import UserError
from tokenization import WORD_PREFIX

WORDPIECE, SENTENCEPIECE = MODEL_TYPES = ("wordpiece", "sentencepiece")

# Where BERT's vocabularies have their special entries.
FIRST_ENTRIES = (["[PAD]"] + ["[unused%d]" % number for number in range(1, 100)]
                 + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"])
UNUSED = re.compile(r"\[unused\d+\]")

# ALBERT's published models: these symbols are pieces of their own wherever they stand.
SPM_CONTROLS = ["[CLS]", "[SEP]", "[MASK]"]
SPM_SYMBOLS = ["(", ")", '"', "-", ".", "\u2013", "\u00a3", "\u20ac"]
SPM_THREADS = 16  # fixed, as sums of floats depend on how many there are

DEFAULT_SIZES = {WORDPIECE: 21128, SENTENCEPIECE: 30000}
DEFAULT_COVERAGES = {WORDPIECE: 0.9999, SENTENCEPIECE: 0.99995}

MOST_WORDS = 1 << 21
LONGEST_WORD = 200            # a longer one is [UNK] to the tokenizer, whatever the vocabulary
MOST_FED_CHARACTERS = 1 << 29  # the trainer of tokenizers 0.13 counts in 32 bits
FED_CHARACTERS = 1 << 14      # of a text that the trainer is given
MEASURED_BYTES = 64 << 20     # the new vocabulary is measured on about so much of a corpus

Settings = collections.namedtuple("Settings", [
    "input_file", "output_file", "model_type", "vocab_size", "do_lower_case", "min_frequency",
    "character_coverage", "chinese_twins", "extend", "held_out_file", "compare",
    "input_sentence_size", "num_workers", "overwrite"])
Settings.__doc__ = """The flags of this script, one field each; `define_flags` describes them."""
Settings.__new__.__defaults__ = (WORDPIECE, None, True, 2, None, True, None, None, None, 10000000,
                                 None, False)


# ---------------------------------------------------------------------------------------------
# Words and characters of a corpus
# ---------------------------------------------------------------------------------------------

class WordCounts(object):
    """How often words and characters occur, in bounded memory.

    Attributes:
        words: Counter of the words, cut after LONGEST_WORD + 1 characters; exact until there are
            more than `most_words` different ones, when the rarest are forgotten and, if met
            again, counted from 1.
        characters: Counter of all characters, always exact.
        forgotten: occurrences of words that were forgotten.
    """

    def __init__(self, most_words=MOST_WORDS):
        self.words, self.characters = collections.Counter(), collections.Counter()
        self.forgotten = 0
        self._most_words = most_words

    def add(self, words):
        """Counts a list of words."""
        self.characters.update("".join(words))
        self.words.update(word[:LONGEST_WORD + 1] for word in words)
        self._forget()

    def merge(self, other):
        """Adds other WordCounts."""
        self.characters.update(other.characters)
        self.words.update(other.words)
        self.forgotten += other.forgotten
        self._forget()

    def _forget(self):
        """Drops the rarest words, at least half of them, where there are too many."""
        if len(self.words) <= self._most_words:
            return
        ordered = sorted(self.words.values(), reverse=True)
        least = ordered[self._most_words // 2]
        kept = collections.Counter({word: count for word, count in self.words.items()
                                    if count > least})
        self.forgotten += sum(ordered) - sum(kept.values())
        self.words = kept


def count_piece(do_lower_case, piece):
    """Returns the WordCounts of a corpus.Piece."""
    tokenizer = tokenization.BasicTokenizer(do_lower_case)
    counts = WordCounts()
    for document in corpus.read_documents([piece]):
        # A line break parts words as a blank does, so a document is split in one go.
        counts.add(tokenizer.tokenize("\n".join(document.lines)))
    return counts


def count_words(paths, do_lower_case, num_workers):
    """Returns the WordCounts of files; the same however many workers there are.

    Raises:
        UserError: the files hold no text, or a line is not UTF-8.
    """
    counts, pieces = WordCounts(), corpus.plan_pieces(paths)
    job = functools.partial(count_piece, do_lower_case)
    for found in in_order(job, pieces, num_workers, "counting words"):
        counts.merge(found)
    if not counts.words:
        corpus.require_text(corpus.Survey(0, 0, 0), paths)
    if counts.forgotten:
        total = sum(counts.words.values()) + counts.forgotten
        console.say("note: there are more than %s different words; rare ones, %.2f %% of the text, "
                    "were left out" % (format(MOST_WORDS, ","), 100.0 * counts.forgotten / total))
    return counts


def in_order(function, pieces, num_workers, label):
    """Yields function(piece) of each Piece, in order.

    Several pieces are worked on at a time and waited for together: what was forgotten depends on
    the order in which counts are added.
    """
    progress, step = console.Progress(label, total=len(pieces), unit="piece"), 8 * num_workers
    for start in range(0, len(pieces), step):
        numbered = list(enumerate(pieces[start:start + step]))
        found = dict(workers.run_jobs(functools.partial(_numbered, function), numbered,
                                      min(num_workers, len(numbered))))
        for pair in numbered:
            yield found[pair]
        if len(pieces) > 1:
            progress.update(start + len(numbered))


def _numbered(function, pair):
    return function(pair[1])


# ---------------------------------------------------------------------------------------------
# WordPiece: which characters, which pieces
# ---------------------------------------------------------------------------------------------

def choose_characters(characters, coverage, do_lower_case):
    """Returns the set of characters that become entries.

    The most frequent ones that make up the wanted share of the text, and ASCII and the marks that
    documents are divided at, which any text may have.

    Args:
        characters: Counter; coverage: share of the text, at most 1.
    """
    kept = set(corpus.CLAUSE_MARKS | corpus.CLOSING_MARKS)
    kept.update(char for char in map(chr, range(ord("!"), ord("~") + 1))
                if not (do_lower_case and char.isupper()))
    wanted, covered = coverage * sum(characters.values()), 0
    for char, count in sorted(characters.items(), key=lambda pair: (-pair[1], pair[0])):
        if covered >= wanted:
            break
        kept.add(char)
        covered += count
    return kept


def entries_of(char, tokenizer, chinese_twins):
    """Returns the entries that a character needs: itself, and "##" with it where that can occur.

    >>> entries_of("a", tokenization.BasicTokenizer(), True)
    ['a', '##a']
    >>> entries_of("!", tokenization.BasicTokenizer(), True)
    ['!']
    """
    if tokenization.is_chinese_char(ord(char)):
        return [char, WORD_PREFIX + char] if chinese_twins else [char]
    is_inside = len(tokenizer.tokenize("a%sa" % char)) == 1
    return [char, WORD_PREFIX + char] if is_inside else [char]


def can_be_learnt(word):
    """Whether a word has several characters, all of them letters, digits or marks upon them."""
    return 1 < len(word) <= LONGEST_WORD and all(
        unicodedata.category(char)[0] in "LMN" for char in word)


def learn_pieces(words, alphabet, number, min_frequency):
    """Returns so many pieces of words at most, in the order in which they were learnt.

    The trainer numbers the characters as it meets them, in an order that changes from run to run,
    and prefers low numbers among equally frequent pairs. Given as special entries, the alphabet is
    numbered by us, so that equal words give equal pieces.

    Args:
        words: Counter; alphabet: list of characters, and "##" with them; words with others are
            left out, as they are [UNK] whatever is learnt.
        min_frequency: of a piece.

    Raises:
        UserError: the package tokenizers is missing.
    """
    known = set(alphabet)
    wanted = collections.OrderedDict(
        (word, words[word]) for word in sorted(words)
        if can_be_learnt(word) and word[0] in known
        and all(WORD_PREFIX + char in known for char in word[1:]))
    if not number or not wanted:
        return []
    require_package("tokenizers")
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers
    size = sum(len(word) * count for word, count in wanted.items())
    share = min(1.0, MOST_FED_CHARACTERS / float(size))
    console.say("learning %s pieces from %s different words" % (
        format(number, ","), format(len(wanted), ",")))
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_texts_of(wanted, share), trainers.WordPieceTrainer(
        vocab_size=len(alphabet) + number, min_frequency=max(1, int(round(min_frequency * share))),
        special_tokens=list(alphabet), show_progress=False,
        continuing_subword_prefix=WORD_PREFIX))
    vocab = learner.get_vocab()
    return sorted(set(vocab) - known, key=vocab.__getitem__)


def _texts_of(words, share):
    """Yields texts in which words occur as often as `words` says, or a share of it."""
    held, size = [], 0
    for word, count in words.items():
        left = int(round(count * share))
        while left:
            taken = min(left, max(1, (FED_CHARACTERS - size) // (len(word) + 1)))
            held.append(" ".join([word] * taken))
            size += taken * (len(word) + 1)
            left -= taken
            if size >= FED_CHARACTERS:
                yield " ".join(held)
                held, size = [], 0
    if held:
        yield " ".join(held)


def make_vocabulary(counts, settings):
    """Returns the entries of a new vocabulary, a list in the order of their ids.

    Args:
        counts: WordCounts; settings: Settings.

    Raises:
        UserError: the characters alone are more than --vocab_size.
    """
    tokenizer = tokenization.BasicTokenizer(settings.do_lower_case)
    characters = sorted(choose_characters(
        counts.characters, settings.character_coverage, settings.do_lower_case))
    twins, inside = [], []
    for char in characters:
        prefixed = entries_of(char, tokenizer, settings.chinese_twins)[1:]
        (twins if tokenization.is_chinese_char(ord(char)) else inside).extend(prefixed)
    fixed = len(FIRST_ENTRIES) + len(characters) + len(inside) + len(twins)
    if fixed > settings.vocab_size:
        raise UserError(
            "--vocab_size=%d cannot hold %d special entries, %d characters and %d of them with ##: "
            "give %d at least, or a lower --character_coverage" % (
                settings.vocab_size, len(FIRST_ENTRIES), len(characters),
                len(inside) + len(twins), fixed))
    alphabet = [entry[len(WORD_PREFIX):] for entry in inside] + inside
    pieces = learn_pieces(counts.words, alphabet, settings.vocab_size - fixed,
                          settings.min_frequency)
    return FIRST_ENTRIES + characters + inside + pieces + twins


# ---------------------------------------------------------------------------------------------
# WordPiece: new entries in the unused slots of a vocabulary
# ---------------------------------------------------------------------------------------------

Addition = collections.namedtuple("Addition", ["number", "slot", "entry", "count", "before"])
Addition.__doc__ = """What went into a slot.

number: the id; slot: the entry that was there; entry: new; count: how often it occurs in the
corpus as a word, or as a character; before: the tokens it was before."""


def extend_vocabulary(entries, counts, settings):
    """Puts into the unused slots of a vocabulary what saves most.

    First characters that it lacks, the most frequent first, as words with them are [UNK]; then
    whole words, each time the one whose single entry saves the corpus most tokens.

    Args:
        entries: list, the vocabulary; counts: WordCounts; settings: Settings.

    Returns:
        (new list of entries, list of Addition)
    """
    entries, before = list(entries), tokenization.WordpieceTokenizer(_as_vocab(entries))
    slots = [number for number, entry in enumerate(entries) if UNUSED.fullmatch(entry)]
    slots.reverse()
    additions = []

    def add(entry, count):
        number = slots.pop()
        text = tokenization.strip_word_prefix(entry)
        additions.append(Addition(number, entries[number], entry, count,
                                  before.split_words([text])))
        entries[number] = entry

    for lacking, count in _lacking_characters(entries, counts, settings):
        if len(lacking) <= len(slots):
            for entry in lacking:
                add(entry, count)
    for word in _best_words(entries, counts.words, settings.min_frequency, len(slots)):
        add(word, counts.words[word])
    return entries, additions


def _as_vocab(entries):
    return collections.OrderedDict((entry, number) for number, entry in enumerate(entries))


def _lacking_characters(entries, counts, settings):
    """Returns ([entries to add], occurrences) of the characters that a vocabulary lacks."""
    known, characters = set(entries), counts.characters
    tokenizer = tokenization.BasicTokenizer(settings.do_lower_case)
    chosen = choose_characters(characters, settings.character_coverage, settings.do_lower_case)
    lacking = []
    for char in sorted(chosen, key=lambda char: (-characters[char], char)):
        new = [entry for entry in entries_of(char, tokenizer, settings.chinese_twins)
               if entry not in known]
        if new and characters[char] >= settings.min_frequency:
            lacking.append((new, characters[char]))
    return lacking


def _best_words(entries, words, min_frequency, number):
    """Returns so many words at most, each the one that saves most tokens after those before it.

    A word is looked at again only when it is the best by what it last saved: a word that has become
    an entry changes only the words that it opens, and hardly ever makes one longer (or [UNK], which
    counts as its characters).
    """
    known, chosen = set(entries), []

    def saved(word):
        tokens = tokenizer.split_words([word])
        size = len(word) if tokens == [tokenizer.unk_token] else len(tokens)
        return words[word] * (size - 1)

    tokenizer = tokenization.WordpieceTokenizer(known)
    heap = [(-saved(word), word) for word, count in words.items()
            if count >= min_frequency and can_be_learnt(word) and word not in known
            and tokenizer.split_words([word]) != [tokenizer.unk_token]]
    heapq.heapify(heap)
    while heap and len(chosen) < number:
        expected, word = heapq.heappop(heap)
        now = -saved(word)
        if now > expected:
            heapq.heappush(heap, (now, word))
        else:
            chosen.append(word)
            known.add(word)
            tokenizer = tokenization.WordpieceTokenizer(known)  # which remembers no older words
    return chosen


# ---------------------------------------------------------------------------------------------
# SentencePiece
# ---------------------------------------------------------------------------------------------

def train_sentencepiece(paths, settings):
    """Returns a SentencePiece model of files, as bytes.

    Raises:
        UserError: the package is missing, the files hold no text, a line is not UTF-8, or the
            corpus is too small for --vocab_size.
    """
    require_package("sentencepiece")
    import sentencepiece
    # All is read once before, as the trainer takes an error in the text for its end.
    surveys = in_order(corpus.survey, corpus.plan_pieces(paths), settings.num_workers, "reading")
    corpus.require_text(corpus.add_surveys(surveys), paths)
    sentencepiece.set_min_log_level(1)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_normalised_lines(paths, settings.do_lower_case),
            model_writer=model, model_type="unigram", vocab_size=settings.vocab_size,
            pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=SPM_CONTROLS,
            user_defined_symbols=SPM_SYMBOLS, shuffle_input_sentence=True,
            input_sentence_size=settings.input_sentence_size,
            character_coverage=settings.character_coverage, num_threads=SPM_THREADS,
            # No line is left out for its length, which is in bytes; 4 is the most of a character.
            max_sentence_length=4 * corpus.LINE_CHARACTERS)
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        if most:
            raise UserError("--vocab_size=%d is too many for this corpus: give %s or fewer, or "
                            "more text" % (settings.vocab_size, most.group(1))) from error
        raise UserError("SentencePiece could not learn a model from this corpus: %s" % error
                        ) from error
    return model.getvalue()


def _normalised_lines(paths, do_lower_case):
    """Yields the sentences of files in the form in which the tokenizer will show them."""
    pieces = corpus.plan_pieces(paths)
    progress = console.Progress("loading", total=len(pieces), unit="piece")
    for number, piece in enumerate(pieces, start=1):
        for document in corpus.read_documents([piece]):
            for line in document.lines:
                yield tokenization.normalize_for_spm(line, do_lower_case)
        if len(pieces) > 1:
            progress.update(number)


def readable_vocabulary(path):
    """Returns what `spm_train` writes beside a model: a piece and its score a line."""
    model = tokenization.load_spm_model(path)
    return "".join("%s\t%g\n" % (model.id_to_piece(number), model.get_score(number))
                   for number in range(len(model)))


# ---------------------------------------------------------------------------------------------
# What a vocabulary is like
# ---------------------------------------------------------------------------------------------

KINDS = ("special", "[unused]", "Chinese characters", "## of Chinese characters",
         "other characters", "## of other characters", "words and beginnings",
         "parts inside words")

Measured = collections.namedtuple("Measured", ["characters", "tokens", "unknown"])
Measured.__doc__ = """Sizes of a text: characters but for white space, tokens, tokens [UNK]."""


def kind_of(token, is_sentencepiece=False):
    """Returns the kind of an entry, one of KINDS.

    >>> [kind_of(token) for token in ("[CLS]", "##中", "b", "##b", "the", "##ing")][1:4]
    ['## of Chinese characters', 'other characters', '## of other characters']
    """
    if UNUSED.fullmatch(token):
        return "[unused]"
    if tokenization.is_special(token):
        return "special"
    if is_sentencepiece:
        text = token.lstrip(tokenization.SPM_WORD_START)
        opens = text != token
    else:
        text = tokenization.strip_word_prefix(token)
        opens = text == token
    if len(text) > 1 or (is_sentencepiece and opens):
        return "words and beginnings" if opens else "parts inside words"
    kind = "other characters"
    if text and tokenization.is_chinese_char(ord(text)):
        kind = "Chinese characters"
    return kind if is_sentencepiece or opens else "## of " + kind


@functools.lru_cache(maxsize=4)
def _load(path, do_lower_case):
    return tokenization.from_file(path, do_lower_case)


def measure_piece(vocabularies, do_lower_case, piece):
    """Returns the Measured of a corpus.Piece with each of several vocabularies, paths."""
    measured = [[0, 0, 0] for _ in vocabularies]
    for document in corpus.read_documents([piece]):
        characters = sum(len("".join(line.split())) for line in document.lines)
        for place, path in enumerate(vocabularies):
            tokenizer = _load(path, do_lower_case)
            ids = [number for line in document.lines
                   for number in tokenizer.convert_tokens_to_ids(tokenizer.tokenize(line))]
            sizes = (characters, len(ids), ids.count(tokenizer.unk_id))
            measured[place] = [sum(pair) for pair in zip(measured[place], sizes)]
    return [Measured(*sizes) for sizes in measured]


def measure(paths, vocabularies, do_lower_case, num_workers):
    """Returns (list of Measured with each of the vocabularies, share of the pieces measured).

    Of a large corpus, pieces that lie evenly in it are measured.
    """
    pieces = corpus.plan_pieces(paths)
    step = max(1, sum(map(files.size, paths)) // MEASURED_BYTES)
    chosen = pieces[::step]
    job = functools.partial(measure_piece, vocabularies, do_lower_case)
    found = list(in_order(job, chosen, num_workers, "measuring"))
    totals = [Measured(*map(sum, zip(*parts))) for parts in zip(*found)]
    return totals, len(chosen) / float(len(pieces))


def describe(vocabularies, texts, do_lower_case, num_workers):
    """Returns the table of vocabularies side by side.

    Args:
        vocabularies: list of paths; texts: [(name, list of files)] to measure them on.
    """
    loaded = [tokenization.from_file(path, do_lower_case) for path in vocabularies]
    kinds = [collections.Counter(kind_of(token, one.is_sentencepiece) for token in one.vocab)
             for one in loaded]
    rows = [["entries"] + [format(len(one.vocab), ",") for one in loaded]]
    rows += [["  " + kind] + [format(counts[kind], ",") for counts in kinds]
             for kind in KINDS if any(counts[kind] for counts in kinds)]
    for name, paths in texts:
        totals, share = measure(paths, vocabularies, do_lower_case, num_workers)
        if share < 1.0:
            name += ", %.2g %% of it" % (100.0 * share)
        rows.append(["[UNK], % of the tokens: " + name]
                    + ["%.4f" % (100.0 * one.unknown / max(1, one.tokens)) for one in totals])
        rows.append(["tokens per character: " + name]
                    + ["%.4f" % (one.tokens / float(max(1, one.characters))) for one in totals])
    return console.table(["vocabulary"] + list(vocabularies), rows)


# ---------------------------------------------------------------------------------------------
# The whole run
# ---------------------------------------------------------------------------------------------

def build(settings):
    """Makes a vocabulary, writes it and prints what it is like.

    Args:
        settings: Settings; None for num_workers, vocab_size and character_coverage means the usual.

    Returns:
        number of entries.

    Raises:
        UserError: a setting, an input or the output cannot be used; nothing has been written then.
    """
    check_settings(settings)
    settings = settings._replace(
        num_workers=settings.num_workers or workers.count_processors(),
        vocab_size=settings.vocab_size or DEFAULT_SIZES[settings.model_type],
        character_coverage=(settings.character_coverage
                            or DEFAULT_COVERAGES[settings.model_type]))
    inputs = files.expand(settings.input_file or "", "input_file")
    texts = [("corpus", inputs)]
    if settings.held_out_file:
        texts.append(("held out", files.expand(settings.held_out_file, "held_out_file")))
        for path in texts[-1][1]:  # a fault in it must not show after all the work
            if not sum(1 for _, line in files.read_lines(path) if line.strip()):
                raise UserError("--held_out_file=%s holds no text" % path)
    for flag in ("compare", "extend"):
        if getattr(settings, flag):
            files.require_file(getattr(settings, flag), flag)
    others = [path for path in (settings.compare, settings.extend) if path]
    check_output(settings, [path for _, paths in texts for path in paths] + others)
    for path in others:
        tokenization.from_file(path, settings.do_lower_case)
    if settings.model_type == SENTENCEPIECE:
        write_sentencepiece(inputs, settings)
    else:
        write_wordpiece(inputs, settings)
    vocabularies = [settings.output_file] + others
    print(describe(list(collections.OrderedDict.fromkeys(vocabularies)), texts,
                   settings.do_lower_case, settings.num_workers))
    size = len(_load(settings.output_file, settings.do_lower_case).vocab)
    console.say("%s: %s entries, which is the vocab_size of the model's configuration"
                % (settings.output_file, format(size, ",")))
    return size


def write_wordpiece(inputs, settings):
    """Makes and writes a WordPiece vocabulary; prints what an extended one gained."""
    counts = count_words(inputs, settings.do_lower_case, settings.num_workers)
    additions = []
    if settings.extend:
        # Not FullTokenizer's entries but the lines: the file stays as it is, the slots apart.
        lines = [line for _, line in files.read_lines(settings.extend)]
        entries, additions = extend_vocabulary(lines, counts, settings)
        if not additions:
            raise UserError("%s has no [unusedN] slot to fill, or lacks nothing that the corpus "
                            "has %d times: use it as it is" % (settings.extend,
                                                               settings.min_frequency))
    else:
        entries = make_vocabulary(counts, settings)
        if len(entries) < settings.vocab_size:
            console.say("note: %s entries, not %s: the corpus has no more pieces that occur %d "
                        "times (--min_frequency)" % (format(len(entries), ","), format(
                            settings.vocab_size, ","), settings.min_frequency))
    with files.atomic_path(settings.output_file) as temporary:
        files.write_text(temporary, "".join(entry + "\n" for entry in entries))
        tokenization.FullTokenizer(temporary, settings.do_lower_case)
    if additions:
        print(console.table(["entry", "id", "in place of", "occurs", "was"], [
            [one.entry, one.number, one.slot, format(one.count, ","), " ".join(one.before)]
            for one in additions]) + "\n")


def write_sentencepiece(inputs, settings):
    """Makes and writes a SentencePiece model and its readable vocabulary."""
    model = train_sentencepiece(inputs, settings)
    with files.atomic_path(settings.output_file) as temporary:
        with files.open_binary(temporary, "wb") as stream:
            stream.write(model)
        tokenization.FullTokenizer(None, settings.do_lower_case, temporary)
        files.write_text(beside(settings.output_file), readable_vocabulary(temporary))


def beside(model_file):
    """Returns the path of the readable vocabulary of a model file: x.model gives x.vocab."""
    return os.path.splitext(model_file)[0] + ".vocab"


def check_settings(settings):
    """Raises UserError for a setting that is out of its range, or of the other kind of model."""
    ranges = (("vocab_size", 1, 1 << 24), ("min_frequency", 1, 1 << 30), ("num_workers", 1, 4096),
              ("input_sentence_size", 1, 1 << 31))
    for name, least, most in ranges:
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            raise UserError("--%s=%s must be %s to %s" % (name, value, least, most))
    coverage = settings.character_coverage
    if coverage is not None and not 0.5 <= coverage <= 1.0:
        raise UserError("--character_coverage=%s must be 0.5 to 1; %s is usual"
                        % (coverage, DEFAULT_COVERAGES[settings.model_type]))
    if settings.extend and settings.model_type == SENTENCEPIECE:
        raise UserError("--extend is for WordPiece vocabularies: leave out "
                        "--model_type=sentencepiece")
    if settings.extend and settings.vocab_size:
        raise UserError("--extend keeps the number of entries: leave out --vocab_size")
    is_spm = settings.model_type == SENTENCEPIECE
    require_package("sentencepiece" if is_spm else "tokenizers", unless=settings.extend)


def check_output(settings, read):
    """Raises UserError where the output cannot be written, or is one of the files that are read."""
    path, is_spm = settings.output_file, settings.model_type == SENTENCEPIECE
    usual = "spm.model" if is_spm else "vocab.txt"
    if not path:
        raise UserError("--output_file is missing: name a file, such as %s" % usual)
    if files.is_dir(path):
        raise UserError("--output_file=%s is a folder: name a file in it, such as %s"
                        % (path, os.path.join(path, usual)))
    if tokenization.is_spm_file(path) != is_spm:
        raise UserError("--output_file=%s: the name of a SentencePiece model ends in %s, that of a "
                        "WordPiece vocabulary does not; %s is usual here" % (
                            path, " or ".join(tokenization.SPM_ENDINGS), usual))
    written = [path, beside(path)] if is_spm else [path]
    for one in written:
        if files.place_of(one) in map(files.place_of, read):
            raise UserError("--output_file would overwrite %s, which is read: choose another name"
                            % one)
        if files.exists(one) and not settings.overwrite:
            raise UserError("%s is there already: give --overwrite=True to replace it, or another "
                            "--output_file" % one)
    files.make_dir(os.path.dirname(path) or ".", "output_file")


def require_package(name, unless=None):
    """Raises UserError where a package is missing, without importing it.

    Importing would start its threads, and the processes that count words are forked after this.
    """
    if not unless and importlib.util.find_spec(name) is None:
        raise UserError("this needs the package %s: pip install %s" % (name, name))


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags; called when this file is run, so that other scripts may import it."""
    flags.DEFINE_string("input_file", None,
                        "Text, one sentence a line, a blank line between documents; a comma list "
                        "of names and globs. .gz and .zst are read as they are.")
    flags.DEFINE_string("output_file", None, "Vocabulary to write: vocab.txt, or spm.model.")
    flags.DEFINE_enum("model_type", WORDPIECE, MODEL_TYPES,
                      "wordpiece: BERT's; sentencepiece: as ALBERT's English models have it.")
    flags.DEFINE_integer("vocab_size", None, "Entries at most; default: 21128 for wordpiece, 30000 "
                         "for sentencepiece.")
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text (and strip accents).")
    flags.DEFINE_integer("min_frequency", 2, "Rarer pieces do not become entries; with --extend, "
                         "neither do rarer characters.")
    flags.DEFINE_float("character_coverage", None,
                       "Share of the text whose characters become entries; default: 0.9999 for "
                       "wordpiece, 0.99995 for sentencepiece.")
    flags.DEFINE_bool("chinese_twins", True, "Give every Chinese character an entry with ## too, "
                      "for create_pretraining_data.py --prefixed_word_labels.")
    flags.DEFINE_string("extend", None, "WordPiece vocabulary to keep, with all its ids; only its "
                        "[unusedN] slots are filled.")
    flags.DEFINE_string("held_out_file", None,
                        "Text to measure the vocabulary on; given as --input_file is.")
    flags.DEFINE_string("compare", None, "Vocabulary (or .model) to measure beside the new one.")
    flags.DEFINE_integer("input_sentence_size", 10000000,
                         "sentencepiece: learn from so many sentences, which are drawn at random "
                         "(always the same ones) and held in memory.")
    flags.DEFINE_integer("num_workers", None, "Processes; default: one for each processor.")
    flags.DEFINE_bool("overwrite", False, "Replace the --output_file of an earlier run.")


def main(_):
    build(Settings(**{name: flags.FLAGS[name].value for name in Settings._fields}))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
