"""Fetches released models and CLUE data when absent: resumed, verified, safely unpacked.

    python download.py --list
    python download.py --name=albert_tiny_489k --output_dir=albert_tiny
    python download.py --name=afqmc --output_dir=CLUEdataset      (gives CLUEdataset/afqmc/*.json)

Archives and their mirrors are listed in data/downloads.json. An interrupted download goes on where
it stopped when the same command is given again. Nothing that exists is overwritten or deleted.
"""

import collections
import contextlib
import fcntl
import fnmatch
import http.client
import io
import math
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

from absl import flags

import console
import errors
import files
from errors import UserError

DOWNLOADS_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "downloads.json")

_WORKSHOP = ".download"  # our own folder: parts of archives, the lock, what was fetched
_UNPACKING = ".download-unpacking"  # in the target folder, hence on its file system
_BLOCK = 1 << 16  # bytes
_WORTHWHILE = 1 << 20  # a broken connection that brought this many bytes is no failed try
_MAX_MEMBERS = 1000
_MARGIN = 16 << 20  # bytes of disk space left free
_LONGEST_TIMEOUT = 24 * 3600  # seconds
_SLOW = 1000  # bytes a second; less, for so many times --timeout, counts as a dead connection
_SLOW_AFTER = 5

Archive = collections.namedtuple("Archive", [
    "name", "about", "archive", "mirrors", "page", "folder", "required", "substitutes",
    "bytes", "sha256", "about_bytes", "min_bytes", "max_bytes", "max_unpacked_bytes"])
Archive.__doc__ = """One entry of the downloads file; its opening comment explains the fields."""

_Patience = collections.namedtuple("_Patience", ["timeout", "tries", "pause"])
_Patience.__doc__ = """timeout and pause (before the second try; it doubles) in seconds."""


class _MirrorError(Exception):
    """What went wrong at one mirror; `again`: another try there may succeed."""

    def __init__(self, reason, again):
        super(_MirrorError, self).__init__(reason)
        self.again = again


class _BadArchiveError(Exception):
    """The archive is damaged, unsafe, or not what was asked for."""


# ---------------------------------------------------------------------------------------------
# Fetching one archive
# ---------------------------------------------------------------------------------------------

def fetch(name, output_dir, downloads_file=DOWNLOADS_FILE, mirrors=(), timeout=30.0, tries=4,
          pause=1.0):
    """Makes sure that a model or data set lies in its folder, and downloads what is missing.

    An archive that the user has put into `output_dir` under its own name is used instead of a
    download, and kept.

    Args:
        name: a name of the downloads file, e.g. "albert_tiny_489k" or "afqmc".
        output_dir: local folder; a model's files go there, a task's into `<output_dir>/<task>`.
        downloads_file: JSON file that lists the archives.
        mirrors: base URLs to try before those of the downloads file.
        timeout: seconds without a byte after which a connection counts as dead.
        tries: failed tries in a row, without progress, after which a mirror is given up.
        pause: seconds before the second try; doubles from try to try.

    Returns:
        Path of the folder that holds the files.

    Raises:
        UserError: an argument is wrong, the disk is full, or no mirror has a sound archive.
    """
    archive = _find(name, downloads_file)
    urls = _addresses(archive, mirrors)
    _check_arguments(output_dir, timeout)
    target = os.path.join(output_dir, archive.folder) if archive.folder else output_dir
    if _is_there(archive, output_dir, target):
        return target
    for folder in (output_dir, os.path.join(output_dir, _WORKSHOP)):
        files.make_dir(folder, "output_dir")
    if os.path.exists(target):
        files.make_dir(target, "output_dir")
    with _locked(os.path.join(output_dir, _WORKSHOP, "lock"), name):
        if not _is_there(archive, output_dir, target):
            _obtain(archive, urls, output_dir, target, _Patience(timeout, tries, pause))
    return target


def _check_arguments(output_dir, timeout):
    if not output_dir:
        raise UserError("--output_dir is missing: name the folder that gets the files")
    if files.is_remote(output_dir):
        raise UserError("--output_dir=%s is not a local folder: download to one, then copy the "
                        "files" % output_dir)
    if not 0 < timeout <= _LONGEST_TIMEOUT:
        raise UserError("--timeout=%s: a number of seconds above 0 is needed, at most %d"
                        % (timeout, _LONGEST_TIMEOUT))


def _obtain(archive, urls, output_dir, target, patience):
    def install(path):
        return _install(archive, path, output_dir, target)

    brought = os.path.join(output_dir, archive.archive)
    if os.path.isfile(brought):
        console.say("%s: unpacking %s, which is there already" % (archive.name, brought))
        try:
            install(brought)
        except _BadArchiveError as error:
            raise UserError("%s: %s; remove it or download it again" % (brought, error)) from error
    else:
        _from_mirrors(archive, urls, output_dir, target, patience, install)
    left = _missing(archive, target)
    if left:
        raise UserError("%s: no usable file %s, although something of that name is there; "
                        "remove it and give the command again" % (target, ", ".join(left)))
    console.say("%s: ready in %s" % (archive.name, target))


@contextlib.contextmanager
def _locked(path, name):
    """Lets one process at a time work in a folder; the lock ends with the process, even killed."""
    with io.open(path, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("%s: another process is downloading to this folder; waiting for it" % name)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            console.say("%s: this file system has no locks (%s): do not start the same download "
                        "twice at a time" % (name, error.strerror))
        yield


# ---------------------------------------------------------------------------------------------
# What is there already
# ---------------------------------------------------------------------------------------------

def _is_there(archive, output_dir, target):
    """Says so and returns True when the required files are there; raises if they are another's."""
    missing = _missing(archive, target)
    source = _sources(output_dir).get(archive.folder)
    if len(missing) < len(archive.required) and source not in (None, archive.name):
        raise UserError("%s holds %s, fetched earlier, and not %s: choose another --output_dir"
                        % (target, source, archive.name))
    if missing:
        return False
    console.say("%s: already there, in %s" % (archive.name, target))
    return True


def _missing(archive, folder):
    """Returns the required names and globs that no file of the folder fits."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    missing = []
    for pattern in archive.required:
        paths = [os.path.join(folder, name) for name in _fitting(names, pattern)]
        paths = [path for path in paths if os.path.isfile(path)]
        if not paths:
            missing.append(pattern)
        for path in paths:
            if os.path.getsize(path) == 0:
                raise UserError("%s is empty: remove it and give the command again" % path)
    return missing


def _fitting(names, pattern):
    return [name for name in names
            if not name.startswith(".") and fnmatch.fnmatchcase(name, pattern)]


def _sources(output_dir):
    """Returns a dict of folder below output_dir to the name of the archive it was filled from."""
    return _read_own_json(_sources_path(output_dir))


def _sources_path(output_dir):
    return os.path.join(output_dir, _WORKSHOP, "sources.json")


def _read_own_json(path):
    """Reads a JSON object that this program wrote; a damaged or absent one counts as empty."""
    if not os.path.isfile(path):
        return {}
    try:
        value = files.read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------------------------------------
# Mirrors, one after the other
# ---------------------------------------------------------------------------------------------

def _from_mirrors(archive, urls, output_dir, target, patience, install):
    part = _Part(os.path.join(output_dir, _WORKSHOP, archive.archive + ".part"))
    failures = []
    for url in urls:
        try:
            _from_mirror(archive, url, part, patience, install)
            part.discard()
            return
        except _MirrorError as error:
            console.say("%s: %s: %s" % (archive.name, url, error))
            failures.append("  %s: %s" % (url, error))
    raise UserError(_remedy(archive, failures, output_dir, target, part.size() > 0))


def _remedy(archive, failures, output_dir, target, goes_on):
    return (
        "%s could not be downloaded:\n%s\n"
        "Give the same command again later%s. Or name another mirror: the environment's "
        "ALBERT_ZH_MIRROR=BASE_URL (--mirror of download.py), or a line in data/downloads.json. Or "
        "download %s yourself (about it: %s) and either put it into %s as it is and give the same "
        "command again, or unpack it so that %s holds %s" % (
            archive.name, "\n".join(failures), ": it goes on where it stopped" if goes_on else "",
            archive.archive, archive.page, output_dir, target,
            ", ".join(archive.required)))


def _from_mirror(archive, url, part, patience, install):
    """Receives and installs the archive from one mirror, in several tries where that may help."""
    console.say("%s: downloading %s" % (archive.name, url))
    failed, most = 0, part.size()
    while True:
        begun = part.size() > 0
        try:
            _receive(archive, url, part, patience.timeout)
            _install_part(part, begun, install)
            return
        except _MirrorError as error:
            if part.size() >= most + _WORTHWHILE:
                failed, most = 0, part.size()
            failed += 1
            if not error.again or failed >= patience.tries:
                raise
            seconds = patience.pause * 2 ** (failed - 1)
            console.say("%s: %s; next try in %.3g seconds" % (archive.name, error, seconds))
            time.sleep(seconds)


def _install_part(part, begun, install):
    try:
        install(part.path)
    except _BadArchiveError as error:
        # A whole answer that is bad will be bad again; one put together from several answers, or
        # of unknown length, may just have been damaged on the way.
        again = begun or part.total() is None
        part.discard()
        raise _MirrorError(str(error), again) from error


class _Part(object):
    """An archive that may be unfinished, with a note beside it of what it is a part of."""

    def __init__(self, path):
        self.path = path
        self._note_path = path + ".json"

    def size(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def total(self):
        """Bytes of the whole archive, None where the server did not say."""
        return self._note().get("total")

    def is_complete(self):
        return self.size() > 0 and self.size() == self.total()

    def discard(self):
        for path in (self.path, self._note_path):
            if os.path.exists(path):
                files.remove(path)

    def restart(self, url, validator, total):
        """Empties the part; what comes now has the given version mark and length."""
        self.discard()
        files.write_json(self._note_path, {"url": url, "validator": validator, "total": total})

    def request_headers(self, url):
        """Headers that ask for the rest, provided that it is the rest of the same file."""
        note = self._note()
        if not self.size() or not note:
            return {}
        headers = {"Range": "bytes=%d-" % self.size()}
        if note.get("url") == url and note.get("validator"):
            headers["If-Range"] = note["validator"]
        return headers

    def continues(self, url, validator, first, total):
        """Whether an answer that starts at byte `first` continues this part.

        Between mirrors only the length can be compared; the check of the archive decides.
        """
        note = self._note()
        if not note or first != self.size():
            return False
        if note.get("url") == url and validator and note.get("validator"):
            return validator == note["validator"] and total in (None, note.get("total"))
        return total is not None and total == note.get("total")

    def _note(self):
        return _read_own_json(self._note_path)


# ---------------------------------------------------------------------------------------------
# One request
# ---------------------------------------------------------------------------------------------

class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise _MirrorError("it redirects to %s, which is no web address" % newurl, again=False)
        # Python before 3.11 does not know 308, which differs from 307 in its permanence only.
        return super(_WebRedirects, self).redirect_request(
            req, fp, 307 if code == 308 else code, msg, headers, newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def _receive(archive, url, part, timeout):
    """Completes `part` by one request; raises _MirrorError when it is not complete then."""
    if part.is_complete():
        return
    with contextlib.closing(_request(url, part.request_headers(url), timeout)) as response:
        code = response.getcode()
        if code == 416:
            _settle_refused_range(part, response)
        elif code == 206:
            total = _continue(archive, url, part, response)
            _copy_body(archive, response, part, total, timeout)
        elif code == 200:
            total = _begin(archive, url, part, response)
            _copy_body(archive, response, part, total, timeout)
        else:
            raise _MirrorError("the server answered HTTP %d" % code, again=False)


def _request(url, headers, timeout):
    """Returns the open response; one of HTTP 416 (there is no such range) counts as a response."""
    opener = urllib.request.build_opener(_WebRedirects)  # proxies as the environment says
    headers = dict(headers, **{"User-Agent": "albert_zh-download", "Accept": "*/*"})
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        again = error.code >= 500 or error.code in (408, 425, 429)
        raise _MirrorError("the server answered HTTP %d %s" % (error.code, error.reason),
                           again) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _network_error(error) from error


def _network_error(error):
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _MirrorError("its certificate is not accepted (%s)" % cause.verify_message, False)
    if isinstance(cause, socket.timeout):
        return _MirrorError("no answer within the time of --timeout", again=True)
    if isinstance(cause, socket.gaierror):
        return _MirrorError("its host name cannot be resolved (no network?)", again=True)
    if isinstance(cause, OSError) and cause.strerror:
        return _MirrorError(cause.strerror, again=True)
    return _MirrorError("the connection failed (%s)" % (str(cause) or type(cause).__name__), True)


def _settle_refused_range(part, response):
    """HTTP 416: the part is complete already, or part of a file that is no longer there."""
    found = re.match(r"bytes \*/(\d+)$", response.headers.get("Content-Range", ""))
    total = int(found.group(1)) if found else part.total()
    if part.size() != total:
        part.discard()
        raise _MirrorError("the file has changed on the server; starting again", again=True)


def _continue(archive, url, part, response):
    """Checks that the answer is the rest of `part`; returns the length of the whole, or None."""
    found = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
    first = int(found.group(1)) if found else None
    total = int(found.group(2)) if found and found.group(2) != "*" else None
    if not part.continues(url, _validator(response), first, total):
        part.discard()
        raise _MirrorError("the file has changed on the server; starting again", again=True)
    total = total or part.total()
    _check_offer(archive, total)
    _check_space(os.path.dirname(part.path), (total or 0) - part.size())
    console.say("%s: going on at %.1f MB" % (archive.name, part.size() / 1e6))
    return total


def _begin(archive, url, part, response):
    """Checks the answer's first bytes, starts `part` with them; returns the length, or None."""
    head = _read_head(response)
    kind = response.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml") or b"<" in head:
        raise _MirrorError("the server answered a web page, not an archive", again=False)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    if len(head) < 4 and total != len(head):
        raise _MirrorError("the connection was cut off at the start", again=True)
    if head != b"PK\x03\x04":
        raise _MirrorError("the server answered something that is no zip archive", again=False)
    _check_offer(archive, total)
    _check_space(os.path.dirname(part.path), total or archive.min_bytes)
    part.restart(url, _validator(response), total)
    with io.open(part.path, "wb") as stream:
        stream.write(head)
    return total


def _validator(response):
    """Returns what identifies the file's version for If-Range: a strong ETag, else a date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _check_offer(archive, total):
    if total is None:
        return
    if archive.bytes is not None and total != archive.bytes:
        raise _MirrorError("it offers %s bytes where the archive has %s"
                           % (format(total, ","), format(archive.bytes, ",")), again=False)
    if not archive.min_bytes <= total <= archive.max_bytes:
        raise _MirrorError("it offers %s bytes, where %s to %s are plausible" % (
            format(total, ","), format(archive.min_bytes, ","), format(archive.max_bytes, ",")),
            again=False)


def _check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise UserError("%s: %.0f MB are free where %.0f MB are needed; make room, or choose "
                        "another --output_dir" % (folder, free / 1e6, (needed + _MARGIN) / 1e6))


class _Pace(object):
    """Gives up a server that sends a byte now and then, which no timeout of a read notices."""

    def __init__(self, timeout, size):
        self._seconds, self._began, self._size = _SLOW_AFTER * timeout, time.time(), size

    def require(self, size):
        """Raises _MirrorError when too few bytes have come of late; size: of all so far."""
        seconds = time.time() - self._began
        if seconds < self._seconds:
            return
        if size - self._size < _SLOW * seconds:
            raise _MirrorError("it is too slow: %s bytes in %.0f seconds"
                               % (format(size - self._size, ","), seconds), again=True)
        self._began, self._size = time.time(), size


def _copy_body(archive, response, part, total, timeout):
    """Appends the answer to `part`; raises _MirrorError when it ends too early or not at all."""
    limit = total if total is not None else archive.max_bytes + 1
    with io.open(part.path, "ab") as stream:
        size = stream.tell()
        show = _progress(archive.name, total, size)
        pace = _Pace(timeout, size)
        while size < limit:
            block = _read(response, min(_BLOCK, limit - size))
            if not block:
                break
            stream.write(block)
            size += len(block)
            show(size)
            pace.require(size)
    if total is not None and size < total:
        raise _MirrorError("the connection was cut off after %s of %s bytes"
                           % (format(size, ","), format(total, ",")), again=True)
    if total is None and size == limit:
        part.discard()
        raise _MirrorError("it sends more than %s bytes, the most that is plausible"
                           % format(archive.max_bytes, ","), again=False)


def _progress(label, total, start):
    """Returns a function that takes the bytes so far and shows megabytes, rate and time left."""
    total_mb = None if total is None else max(math.ceil(total / 1e5), 1) / 10
    progress = console.Progress(label, total_mb, unit="MB", start=start / 1e6)

    def show(size):
        progress.update(total_mb if size == total else size // 100000 / 10)

    return show


def _read_head(response):
    head = b""
    while len(head) < 4:
        block = _read(response, 4 - len(head))
        if not block:
            break
        head += block
    return head


def _read(response, size):
    """Returns up to `size` bytes as they arrive: what came before a stall is not lost."""
    try:
        return response.read1(size)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _network_error(error) from error


# ---------------------------------------------------------------------------------------------
# Checking and unpacking
# ---------------------------------------------------------------------------------------------

# What zipfile raises for damaged archives, depending on the byte that is wrong.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error,
               OverflowError)


def _install(archive, path, output_dir, target):
    """Checks the archive at `path`, unpacks it aside and moves what is missing into `target`."""
    _check_file(archive, path)
    files.make_dir(target, "output_dir")
    staging = os.path.join(target, _UNPACKING)
    if os.path.isdir(staging):
        shutil.rmtree(staging)  # ours, left by a run that was killed
    os.mkdir(staging)
    try:
        names = _unpack(archive, path, staging)
        files.write_json(_sources_path(output_dir),
                         dict(_sources(output_dir), **{archive.folder: archive.name}))
        _place(archive, names, staging, target)
    finally:
        shutil.rmtree(staging)


def _check_file(archive, path):
    size = os.path.getsize(path)
    if archive.bytes is not None and size != archive.bytes:
        raise _BadArchiveError("%s bytes where the archive has %s"
                               % (format(size, ","), format(archive.bytes, ",")))
    if not archive.min_bytes <= size <= archive.max_bytes:
        raise _BadArchiveError("its %s bytes are not plausible" % format(size, ","))
    if archive.sha256 is not None:
        found = files.fingerprint(path)
        if found != archive.sha256:
            raise _BadArchiveError("its SHA-256 is %s where %s is expected"
                                   % (found, archive.sha256))


def _unpack(archive, path, folder):
    """Unpacks into an empty folder; returns the relative names. zipfile checks every CRC."""
    try:
        zipped = zipfile.ZipFile(path)
    except _ZIP_ERRORS + (OSError,) as error:  # OSError: a seek to where a damaged header points
        raise _BadArchiveError("it is no whole zip archive (%s)" % error) from error
    with zipped:
        plan = _plan(archive, zipped.infolist())
        needed = sum(info.file_size for info in plan.values())
        if needed > archive.max_unpacked_bytes:
            raise _BadArchiveError("it would unpack to %s bytes, where %s are plausible" % (
                format(needed, ","), format(archive.max_unpacked_bytes, ",")))
        _check_space(folder, needed)
        for name, info in plan.items():
            try:
                _unpack_member(zipped, info, os.path.join(folder, name))
            except _ZIP_ERRORS as error:
                raise _BadArchiveError("its member %s is damaged (%s)" % (name, error)) from error
    return list(plan)


def _unpack_member(zipped, info, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    left = info.file_size
    with zipped.open(info) as source, io.open(path, "xb") as stream:
        for block in iter(lambda: source.read(_BLOCK), b""):
            left -= len(block)
            if left < 0:
                break
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    if left:
        raise zipfile.BadZipFile("not the length that the archive's directory says")


def _plan(archive, members):
    """Returns an ordered dict of relative name to ZipInfo: what to unpack, and to where.

    Refuses whatever could reach outside of the folder or hide something. Folders around
    everything are dropped: {"albert_tiny/vocab.txt", ...} becomes {"vocab.txt", ...}.
    """
    if len(members) > _MAX_MEMBERS:
        raise _BadArchiveError("it has %d members, where at most %d are plausible"
                               % (len(members), _MAX_MEMBERS))
    parts_of = [(_safe_parts(info), info) for info in members]
    kept = [(parts, info) for parts, info in parts_of
            if not info.orig_filename.endswith("/") and not _is_litter(parts)]
    while kept and all(len(parts) > 1 and parts[0] == kept[0][0][0] for parts, _ in kept):
        kept = [(parts[1:], info) for parts, info in kept]
    _check_clashes([parts for parts, _ in kept])
    plan = collections.OrderedDict(("/".join(parts), info) for parts, info in kept)
    for wanted, others in archive.substitutes.items():
        other = next((name for name in others if name in plan), None)
        if wanted not in plan and other:
            console.say("%s: the archive has no %s; %s serves as such"
                        % (archive.name, wanted, other))
            plan[wanted] = plan[other]
    top = [name for name in plan if "/" not in name]
    lacking = [pattern for pattern in archive.required if not _fitting(top, pattern)]
    if lacking:
        raise _BadArchiveError("it lacks %s; it holds %s" % (
            ", ".join(lacking), ", ".join(list(plan)[:10]) or "nothing"))
    return plan


def _safe_parts(info):
    """Returns the components of a member's name; raises _BadArchiveError unless it is harmless."""
    name = info.orig_filename
    parts = [part for part in name.split("/") if part not in ("", ".")]
    kind = stat.S_IFMT(info.external_attr >> 16)
    for wrong, is_so in (
            ("has no name", not parts),
            ("has an absolute path", name.startswith("/") or re.match("[A-Za-z]:", name)),
            ("leads out of the folder", ".." in parts),
            ("has a backslash or a control character", re.search(r"[\x00-\x1f\\]", name)),
            ("has a name of more than 200 bytes",
             any(len(part.encode("utf-8", "replace")) > 200 for part in parts) or len(parts) > 10),
            ("is a link or a device", kind not in (0, stat.S_IFREG, stat.S_IFDIR)),
            ("is encrypted", info.flag_bits & 0x41),
            # zipfile bounds the memory of these two only.
            ("is compressed in an unusual way",
             info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
            ("lies outside of the archive", info.header_offset < 0)):
        if is_so:
            raise _BadArchiveError("its member %r %s; nothing was unpacked" % (name, wrong))
    return parts


def _is_litter(parts):
    """Whether a member is a by-product of macOS or hidden (our own folders are, too)."""
    return any(part == "__MACOSX" or part.startswith(".") for part in parts)


def _check_clashes(all_parts):
    """Refuses names that would land on one place, also where the case of letters is ignored."""
    taken = set()
    folders = {tuple(part.lower() for part in parts[:depth])
               for parts in all_parts for depth in range(1, len(parts))}
    for parts in all_parts:
        place = tuple(part.lower() for part in parts)
        if place in taken or place in folders:
            raise _BadArchiveError("it holds %s twice; nothing was unpacked" % "/".join(parts))
        taken.add(place)


def _place(archive, names, staging, target):
    """Moves files to where there are none; required ones last: they show that all is there."""
    required = {name for pattern in archive.required for name in _fitting(names, pattern)}
    for name in sorted(names, key=lambda name: (name in required, name)):
        source, goal = os.path.join(staging, name), os.path.join(target, name)
        if os.path.lexists(goal):
            same = os.path.isfile(goal) and files.fingerprint(goal) == files.fingerprint(source)
            console.say("%s: kept %s, which was there%s" % (
                archive.name, goal, "" if same else " and differs from the archive's"))
            continue
        os.makedirs(os.path.dirname(goal), exist_ok=True)
        files.move(source, goal)


# ---------------------------------------------------------------------------------------------
# The downloads file
# ---------------------------------------------------------------------------------------------

def read_downloads(path):
    """Reads and checks the list of archives.

    Returns:
        Ordered dict of name to Archive.

    Raises:
        UserError: the file is missing or an entry is malformed; the message names the entry, the
            field and what it must be.
    """
    files.require_file(path, "downloads_file")
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise UserError("%s must hold a JSON object with kinds and archives" % path)
    kinds, archives = content.get("kinds"), content.get("archives")
    if not isinstance(kinds, dict) or not isinstance(archives, dict) or not archives:
        raise UserError("%s must hold two objects, kinds and archives" % path)
    return collections.OrderedDict(
        (name, _read_archive("%s, archive %s" % (path, name), name, entry, kinds))
        for name, entry in archives.items())


def _read_archive(place, name, entry, kinds):
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in kinds or not isinstance(kinds[kind], dict):
        raise UserError("%s: kind must be one of: %s" % (place, ", ".join(sorted(kinds))))
    values = {"bytes": None, "sha256": None, "about_bytes": None, "substitutes": {}}
    values.update(kinds[kind])
    values.update(entry)
    del values["kind"]
    for field in values:
        if field not in _FIELDS:
            raise UserError("%s: unknown field %s.%s"
                            % (place, field, errors.nearest(field, _FIELDS)))
    for field, (what, check) in _FIELDS.items():
        if field not in values or not check(values[field]):
            raise UserError("%s: %s must be %s" % (place, field, what))
    if values["min_bytes"] > values["max_bytes"]:
        raise UserError("%s: min_bytes is larger than max_bytes" % place)
    return Archive(name=name, **values)


def _is_text(value):
    return isinstance(value, str) and bool(value.strip())


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_file_name(value):
    return _is_text(value) and re.match(r"[A-Za-z0-9][\w.+-]*$", value) is not None


def _is_list_of(check):
    return lambda value: isinstance(value, list) and bool(value) and all(map(check, value))


def _is_web_address(value):
    """Whether a base URL can be used: http or https, a host, no password, query or fragment."""
    if not _is_text(value) or re.search(r"[\x00-\x20\x7f]", value):
        return False
    try:
        split = urllib.parse.urlsplit(value)
        split.port  # noqa: B018 - raises ValueError when it is no number
    except ValueError:
        return False
    return (split.scheme in ("http", "https") and bool(split.hostname) and "@" not in split.netloc
            and not split.query and not split.fragment)


def _is_substitutes(value):
    return isinstance(value, dict) and all(map(_is_list_of(_is_file_name), value.values()))


def _is_sha256(value):
    return isinstance(value, str) and re.match("[0-9a-f]{64}$", value) is not None


def _or_null(check):
    return lambda value: value is None or check(value)


_WEB_ADDRESS = "http:// or https:// addresses without password, query or blank"

_FIELDS = collections.OrderedDict([
    ("about", ("a text", _is_text)),
    ("archive", ("a file name", _is_file_name)),
    ("mirrors", ("a list of " + _WEB_ADDRESS, _is_list_of(_is_web_address))),
    ("page", ("an address to read about it", _is_web_address)),
    ("folder", ("the name of one folder, or ''", lambda v: v == "" or _is_file_name(v))),
    ("required", ("a list of names or globs", _is_list_of(_is_text))),
    ("substitutes", ("an object of file name to list of file names", _is_substitutes)),
    ("bytes", ("a positive number, or null", _or_null(_is_count))),
    ("sha256", ("64 hexadecimal digits in lower case, or null", _or_null(_is_sha256))),
    ("about_bytes", ("a positive number, or null", _or_null(_is_count))),
    ("min_bytes", ("a positive number", _is_count)),
    ("max_bytes", ("a positive number", _is_count)),
    ("max_unpacked_bytes", ("a positive number", _is_count)),
])


def _find(name, downloads_file):
    known = read_downloads(downloads_file)
    if name not in known:
        raise UserError("--name%s.%s Known: %s" % (
            "=%s is not in %s" % (name, downloads_file) if name else " is missing",
            errors.nearest(name, known) if name else "", ", ".join(known)))
    return known[name]


def _addresses(archive, mirrors):
    """Returns the archive's addresses in the order to try them, the user's own mirrors first."""
    for mirror in mirrors:
        if not _is_web_address(mirror):
            raise UserError("a mirror (--mirror or ALBERT_ZH_MIRROR) is not usable: it must be one "
                            "of the %s" % _WEB_ADDRESS)
    bases = list(mirrors) + list(archive.mirrors)
    urls = [base.rstrip("/") + "/" + urllib.parse.quote(archive.archive) for base in bases]
    return list(collections.OrderedDict.fromkeys(urls))


def describe(archives):
    """Returns a table of the archives: name, size, what it is."""
    longest = max(len(archive.about) for archive in archives)
    rows = [[archive.name, _size_text(archive), archive.about.ljust(longest)]
            for archive in archives]
    return console.table(["name", "size", "what it is".ljust(longest)], rows)


def _size_text(archive):
    known = archive.bytes or archive.about_bytes
    return "%s%s MB" % ("" if known else "up to ",
                        format(math.ceil((known or archive.max_bytes) / 1e6), ","))


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags; not on import, since scripts with flags of their own import `fetch`."""
    flags.DEFINE_string("name", None, "What to fetch; --list shows the names.")
    flags.DEFINE_string("output_dir", None,
                        "Folder that gets a model's files; a task's go into <output_dir>/<task>.")
    flags.DEFINE_boolean("list", False, "Print the known names and stop.")
    flags.DEFINE_string("downloads_file", DOWNLOADS_FILE, "JSON file of archives and mirrors.")
    flags.DEFINE_string("mirror", None, "Base URL of a mirror to try first (also: environment "
                                        "variable ALBERT_ZH_MIRROR).")
    flags.DEFINE_float("timeout", 30.0, "Seconds without a byte until a connection is given up.")


def main(_):
    settings = flags.FLAGS
    if settings.list:
        print(describe(read_downloads(settings.downloads_file).values()))
        return
    mirrors = [mirror for mirror in (settings.mirror, os.environ.get("ALBERT_ZH_MIRROR")) if mirror]
    fetch(settings.name, settings.output_dir, settings.downloads_file, mirrors, settings.timeout)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
