"""Reading and writing files: checked, atomic, line numbers in every complaint; local or gs://.

Imports TensorFlow only when a path is remote (`gs://bucket/...`), and not even then where
`use_remote` has named another way to reach remote files.
"""

import collections
import contextlib
import errno
import functools
import glob as local_glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zlib

from console import say
from errors import UserError

SHARD_NUMBER = r"-\d{5,}-of-\d{5,}"  # pattern of what tells apart the names of several files


# ---------------------------------------------------------------------------------------------
# Paths: the local file system, or TensorFlow's for anything with a scheme
# ---------------------------------------------------------------------------------------------

def is_remote(path):
    return "://" in path


_remote = None  # what `use_remote` has named


def use_remote(system):
    """Has this process reach remote files through `system` in place of TensorFlow.

    Args:
        system: object with those functions of tf.io.gfile that this module calls.
    """
    global _remote
    _remote = system


def _gfile():
    if _remote is not None:
        return _remote
    import tensorflow.compat.v1 as tf
    return tf.io.gfile


def open_binary(path, mode="rb"):
    return _gfile().GFile(path, mode) if is_remote(path) else io.open(path, mode)


def is_compressed(path):
    """Whether a file's name says that it is compressed; `open_uncompressed` then reads it."""
    return path.endswith((".gz", ".zst"))


@contextlib.contextmanager
def open_uncompressed(path):
    """Yields a binary stream of a file's content; .gz and .zst are decompressed on the way.

    Raises:
        UserError: the compressed file is damaged, or the package for it is missing.
    """
    with open_binary(path) as stream:
        if path.endswith(".gz"):
            stream = gzip.GzipFile(fileobj=stream)
        elif path.endswith(".zst"):
            stream = io.BufferedReader(_zstandard(path).ZstdDecompressor().stream_reader(
                stream, read_across_frames=True), 1 << 20)
        try:
            yield stream
        except (EOFError, zlib.error, OSError) as error:
            if is_compressed(path) and not getattr(error, "errno", None):
                raise UserError("%s is damaged or no %s file: %s; make or copy it again" % (
                    path, os.path.splitext(path)[1], error)) from error
            raise
        except Exception as error:  # noqa: BLE001 - zstandard's error is known once it is imported
            if path.endswith(".zst") and isinstance(error, _zstandard(path).ZstdError):
                raise UserError("%s is damaged or no .zst file: %s; make or copy it again"
                                % (path, error)) from error
            raise


def _zstandard(path):
    try:
        import zstandard
    except ImportError as error:
        raise UserError("%s needs the package zstandard: pip install zstandard (or decompress it "
                        "first)" % path) from error
    return zstandard


def exists(path):
    return _gfile().exists(path) if is_remote(path) else os.path.exists(path)


def is_dir(path):
    return _gfile().isdir(path) if is_remote(path) else os.path.isdir(path)


def size(path):
    return _gfile().stat(path).length if is_remote(path) else os.path.getsize(path)


def list_dir(path):
    names = _gfile().listdir(path) if is_remote(path) else os.listdir(path)
    return sorted(name.rstrip("/") for name in names)


def glob(pattern):
    return sorted(_gfile().glob(pattern) if is_remote(pattern) else local_glob.glob(pattern))


def absolute(path):
    """Returns a path from the root on; remote ones are."""
    return path if is_remote(path) else os.path.abspath(path)


def move(source, target):
    """Moves a finished file into place, over an older one of the same name."""
    if is_remote(target):
        _gfile().rename(source, target, overwrite=True)
        return
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or os.path.isdir(source):
            raise
        copy(source, target)  # to another disk
        os.remove(source)


def remove(path):
    """Removes one of our own temporary files."""
    _gfile().remove(path) if is_remote(path) else os.remove(path)


def make_dir(path, flag):
    """Creates the folder `path` if need be and checks that files can be written there.

    Raises:
        UserError: names `flag` when the folder cannot be made or written to.
    """
    if not path:
        raise UserError("--%s is empty: name a folder to write to" % flag)
    try:
        if is_remote(path):
            _gfile().makedirs(path)
            return
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, ".write-test-%d" % os.getpid())
        with io.open(probe, "wb"):
            pass
        os.remove(probe)
    except OSError as error:
        raise UserError("--%s=%s cannot be written to: %s"
                        % (flag, path, error.strerror)) from error


def require_file(path, flag):
    """Raises UserError unless `path`, the value of `flag`, is a readable file that is not empty."""
    if not path:
        raise UserError("--%s is missing: name a file" % flag)
    if is_dir(path):
        raise UserError("--%s=%s is a folder, not a file" % (flag, path))
    if not exists(path):
        raise UserError("--%s=%s does not exist" % (flag, path))
    if not is_remote(path) and not os.path.isfile(path):
        raise UserError("--%s=%s is a pipe or a device, and files are read more than once: write "
                        "it to a file first" % (flag, path))
    if size(path) == 0:
        raise UserError("--%s=%s is empty" % (flag, path))
    try:
        with open_binary(path) as stream:
            stream.read(1)
    except OSError as error:
        raise UserError("--%s=%s cannot be read: %s" % (flag, path, error.strerror)) from error


def expand(patterns, flag):
    """Turns a comma list of names and globs into the list of files it matches, each once, in order.

    Raises:
        UserError: a pattern matches nothing, or a match is a folder or empty.
    """
    found = collections.OrderedDict()
    for pattern in (part.strip() for part in patterns.split(",")):
        if not pattern:
            continue
        matches = [pattern] if exists(pattern) else glob(pattern)
        if not matches:
            raise UserError("--%s: no file matches %s" % (flag, pattern))
        for match in matches:
            require_file(match, flag)
            found.setdefault(place_of(match), match)
    if not found:
        raise UserError("--%s is missing: name a file, a comma list of files or a glob" % flag)
    return list(found.values())


def place_of(path):
    """Returns a path's one name, however it is spelled and whatever links lead to it."""
    return path if is_remote(path) else os.path.realpath(path)


# ---------------------------------------------------------------------------------------------
# Writing: to a temporary name first, moved into place when complete
# ---------------------------------------------------------------------------------------------

TEMPORARY = ".tmp-"  # how the name of an unfinished file starts


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary name beside `path`; the finished file is moved to `path` on success.

    On an exception the temporary file is removed and an older `path` stays as it was.
    """
    folder, name = os.path.split(path)
    # Hidden and without the word "tfrecord": no glob of the user's picks up a half-written file.
    temporary = os.path.join(
        folder, "%s%d-%s" % (TEMPORARY, os.getpid(), name.replace("tfrecord", "records")))
    try:
        with naming_the_place(path, temporary):
            yield temporary
            move(temporary, path)
    finally:
        try:
            if exists(temporary):
                remove(temporary)
        except OSError as error:
            say("WARNING: %s is left over: %s" % (temporary, error.strerror))


@contextlib.contextmanager
def naming_the_place(path, temporary=None):
    """Within the block, that a file cannot be written is told with its name and the remedy.

    Args:
        path: the file (or folder) to be; temporary: under which name it is being written.

    Raises:
        UserError: the disk is full, or the folder read-only, somebody else's or gone.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno)
        if remedy and error.filename in (None, temporary, path):
            raise UserError("%s cannot be written: %s; %s, then the same command goes on"
                            % (path, error.strerror, remedy)) from error
        raise


_REMEDIES = {
    errno.ENOSPC: "make room on the disk", errno.EDQUOT: "make room in your quota",
    errno.EROFS: "make the folder writable", errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable", errno.ENOENT: "bring its folder back"}


@contextlib.contextmanager
def atomic_write(path):
    """Yields a binary stream whose content appears at `path` when the block ends without error."""
    with atomic_path(path) as temporary:
        with open_binary(temporary, "wb") as stream:
            yield stream
            stream.flush()
            if not is_remote(path):
                os.fsync(stream.fileno())


def write_text(path, text):
    with atomic_write(path) as stream:
        # What came from the command line and is no UTF-8 holds surrogates: told, not refused.
        stream.write(text.encode("utf-8", "backslashreplace"))


def write_json(path, value):
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=False) + "\n")


def copy(source, target):
    """Copies a file atomically."""
    with open_binary(source) as stream, atomic_write(target) as copied:
        shutil.copyfileobj(stream, copied, 1 << 20)


# ---------------------------------------------------------------------------------------------
# Reading text: UTF-8, lines end in \n only (texts contain U+2028 and U+0085)
# ---------------------------------------------------------------------------------------------

def bounded_lines(path, stream, most):
    """Yields the lines of an open binary file, longer ones in parts of `most` bytes.

    Of a remote file that is not compressed, TensorFlow gives whole lines only.
    """
    if is_remote(path) and not is_compressed(path):
        return iter(stream)
    return iter(functools.partial(stream.readline, most), b"")


def skip_line(path, stream, most):
    """Reads to the end of a line, `most` bytes at a time; returns how many bytes that is."""
    size = 0
    for raw in bounded_lines(path, stream, most):
        size += len(raw)
        if raw.endswith(b"\n"):
            break
    return size


def read_lines(path):
    """Yields (line number from 1, text) without line ends; a byte order mark is dropped.

    .gz and .zst files are decompressed on the way.

    Raises:
        UserError: a line is not UTF-8; the message names file, line and the likely encoding.
    """
    with open_uncompressed(path) as stream:
        for number, raw in enumerate(_lines(path, stream), start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, raw, error) from error
            if number == 1 and line.startswith("\ufeff"):
                line = line[1:]
            yield number, line.rstrip("\n").rstrip("\r")


MOST_LINE_BYTES = 64 << 20  # a longer one is no text, and would fill the memory


def _lines(path, stream):
    """Yields the lines of a stream; UserError names one that is no line of text by its length."""
    if is_remote(path) and not is_compressed(path):
        for raw in stream:  # TensorFlow's file cannot bound its lines
            yield raw
        return
    read = functools.partial(stream.readline, MOST_LINE_BYTES + 1)
    for number, raw in enumerate(iter(read, b""), start=1):
        if len(raw) > MOST_LINE_BYTES:
            raise UserError("%s line %d is longer than %d MB: is it a text file, with lines?"
                            % (path, number, MOST_LINE_BYTES >> 20))
        yield raw


def not_utf8(path, number, raw, error):
    """Returns the UserError for a line, `raw`, whose decoding failed with `error`."""
    return UserError(
        "%s line %d is not UTF-8 (byte %d: %s)%s" % (
            path, number, error.start + 1, error.reason, _advice_on(raw, number)))


_PACKED = ((b"BZh", "bzip2"), (b"PK\x03\x04", "zip"), (b"\xfd7zXZ", "xz"), (b"\x1f\x8b", "gzip"),
           (b"\x28\xb5\x2f\xfd", "zstd"))


def _advice_on(raw, number):
    # Documents of office programs are zips, whose first entries have these names.
    if number == 1 and raw.startswith(b"PK\x03\x04") and re.search(
            rb"\[Content_Types\]\.xml|_rels/|xl/|word/|mimetypeapplication/vnd\.oasis", raw[:100]):
        return ": it is an office document; save it as text or CSV in UTF-8, and give that"
    for start, kind in _PACKED if number == 1 else ():
        if raw.startswith(start):
            return ": it is packed by %s; unpack it first" % kind
    convert = "; convert the file first, for example: iconv -f %s -t UTF-8"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ", it looks like UTF-16" + convert % "UTF-16"
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return convert % "GB18030"
    return ", it may be GB18030" + convert % "GB18030"


def read_json(path):
    """Reads one JSON document; UserError names file and line of a fault."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError("%s is not valid JSON: %s" % (path, error)) from error


def _unique(pairs):
    """Returns pairs of a JSON object as a dict; ValueError names a key that comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError("the key %s comes twice" % json.dumps(
            next(name for name in names if names.count(name) > 1), ensure_ascii=False))
    return found


def read_json_lines(path):
    """Yields (line number, object) of a file with one JSON object a line; blank lines are passed.

    Raises:
        UserError: a line is not a JSON object; the message names file and line.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError("%s line %d is not valid JSON: %s" % (path, number, error)) from error
        if not isinstance(row, dict):
            raise UserError("%s line %d holds %s where a JSON object is expected"
                            % (path, number, type(row).__name__))
        yield number, row


def fingerprint(path, most=None):
    """Returns the SHA-256 of a file's content, or of its first `most` bytes, in hexadecimal."""
    digest, left = hashlib.sha256(), float("inf") if most is None else most
    with open_binary(path) as stream:
        while left > 0:
            block = stream.read(int(min(left, 1 << 20)))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
