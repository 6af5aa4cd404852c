"""download.py against local servers that misbehave, and the released downloads file itself."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile

import pytest

import download
from errors import UserError

SCRIPT = download.__file__
FILES = {"train.json": b"".join(b'{"id": %d}\n' % i for i in range(4000)),
         "dev.json": b'{"id": 1}\n', "test.json": b'{"id": 2}\n'}


# ---------------------------------------------------------------------------------------------
# A server whose answers a test scripts, and archives
# ---------------------------------------------------------------------------------------------

class Site(object):
    """A web server of one thread a request; `script` holds functions for the next requests.

    requests: list of dicts of path, range, if_range and sent (body bytes). When the script is
    used up, `serve` answers.
    """

    def __init__(self, content):
        self.content, self.etag, self.ranges = content, '"v1"', True
        self.script, self.requests = [], []
        self.release = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = "http://127.0.0.1:%d/files/" % self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ranges_asked(self):
        return [request["range"] for request in self.requests]


def _handler(site):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the library's name
            self.site = site
            self.entry = {"path": self.path, "range": self.headers.get("Range"),
                          "if_range": self.headers.get("If-Range"), "sent": 0}
            site.requests.append(self.entry)
            answer = site.script.pop(0) if site.script else serve
            with contextlib.suppress(ConnectionError):
                answer(self)

        def body(self, content):
            self.wfile.write(content)
            self.entry["sent"] += len(content)

        def log_message(self, *arguments):
            """Keeps the test output quiet."""

    return Handler


def start_answer(handler, code, length, **headers):
    handler.send_response(code)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def serve(handler, limit=None):
    """An honest answer, with ranges if the site has them; cut off after `limit` body bytes."""
    site, content = handler.site, handler.site.content
    asked = handler.headers.get("Range")
    same = handler.headers.get("If-Range") in (None, site.etag)
    headers = {"ETag": site.etag} if site.etag else {}
    if asked and site.ranges and same:
        first = int(asked[len("bytes="):-1])
        if first >= len(content):
            start_answer(handler, 416, 0, Content_Range="bytes */%d" % len(content))
            return
        headers["Content_Range"] = "bytes %d-%d/%d" % (first, len(content) - 1, len(content))
        start_answer(handler, 206, len(content) - first, **headers)
        content = content[first:]
    else:
        start_answer(handler, 200, len(content), **headers)
    handler.body(content[:limit])


def cut_after(count):
    return lambda handler: serve(handler, limit=count)


def stall_after(count):
    def answer(handler):
        serve(handler, limit=count)
        handler.wfile.flush()
        handler.site.release.wait(20)
    return answer


def status(code):
    return lambda handler: start_answer(handler, code, 0)


def redirect(address, code=302):
    return lambda handler: start_answer(handler, code, 0, Location=address)


def web_page(handler):
    page = b"Please <b>log in</b> first"
    start_answer(handler, 200, len(page), Content_Type="text/html; charset=utf-8")
    handler.body(page)


def zip_of(members, compression=zipfile.ZIP_STORED):
    """Returns a zip archive; `members` is a dict, or a list of pairs of name or ZipInfo, bytes."""
    stream = io.BytesIO()
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(stream, "w", compression) as zipped:
        for name, content in pairs:
            zipped.writestr(name, content)
    return stream.getvalue()


GOOD = zip_of(FILES)


@pytest.fixture(autouse=True)
def direct_connections(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ALBERT_ZH_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def new_site():
    with contextlib.ExitStack() as stack:
        def make(content=GOOD):
            made = Site(content)
            stack.callback(made.close)
            return made
        yield make


@pytest.fixture
def site(new_site):
    return new_site()


@pytest.fixture
def list_of(tmp_path):
    """Function that writes a downloads file of one archive, `toy`, and returns its path."""
    def make(*sites, **fields):
        entry = {"kind": "data", "archive": "toy_public.zip", "about": "a toy", "folder": "toy",
                 "mirrors": [getattr(each, "url", each) for each in sites],
                 "page": "https://example.org", "required": ["train.json", "dev.json", "test.json"],
                 "min_bytes": 100, "max_bytes": 1000000, "max_unpacked_bytes": 1000000}
        entry.update(fields)
        path = tmp_path / "downloads.json"
        path.write_text(json.dumps({"kinds": {"data": {}}, "archives": {"toy": entry}}))
        return str(path)
    return make


@pytest.fixture
def fetch(tmp_path):
    """Function that fetches `toy` into tmp_path/out with the patience of a test."""
    def run(downloads_file, **arguments):
        settings = dict(timeout=0.5, tries=3, pause=0.01)
        settings.update(arguments)
        return download.fetch("toy", str(tmp_path / "out"), downloads_file, **settings)
    return run


def contents(folder):
    """Returns relative path -> bytes of all files below a folder, our own .download aside."""
    found = {}
    for place, folders, names in os.walk(str(folder)):
        folders[:] = [name for name in folders if name != ".download"]
        for name in names:
            path = os.path.join(place, name)
            with io.open(path, "rb") as stream:
                found[os.path.relpath(path, str(folder))] = stream.read()
    return found


def part_of(tmp_path):
    return tmp_path / "out" / ".download" / "toy_public.zip.part"


def assert_complete(tmp_path):
    assert contents(tmp_path / "out" / "toy") == FILES
    assert sorted(os.listdir(str(tmp_path / "out" / ".download"))) == ["lock", "sources.json"]


# ---------------------------------------------------------------------------------------------
# Downloading
# ---------------------------------------------------------------------------------------------

def test_fetches_once_and_then_finds_it_there(site, list_of, fetch, tmp_path, capfd):
    exact = dict(bytes=len(GOOD), sha256=hashlib.sha256(GOOD).hexdigest())
    assert fetch(list_of(site, **exact)) == str(tmp_path / "out" / "toy")
    assert_complete(tmp_path)
    fetch(list_of(site, **exact))
    assert [request["path"] for request in site.requests] == ["/files/toy_public.zip"]
    shown = capfd.readouterr().err
    assert "already there" in shown
    assert "toy  MB 0.1/0.1  " in shown and "MB/s" in shown


def test_cut_off_download_goes_on_where_it_stopped(site, list_of, fetch, tmp_path):
    site.script = [cut_after(10000), cut_after(5000)]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-", "bytes=15000-"]
    assert site.requests[1]["if_range"] == '"v1"'
    assert sum(request["sent"] for request in site.requests) == len(GOOD)


def test_part_is_kept_for_the_next_run(site, list_of, fetch, tmp_path):
    site.script = [cut_after(10000)]
    with pytest.raises(UserError, match="cut off after 10,000 of"):
        fetch(list_of(site), tries=1)
    assert part_of(tmp_path).read_bytes() == GOOD[:10000]
    assert not (tmp_path / "out" / "toy").exists()
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-"]


def test_server_without_ranges_starts_again(site, list_of, fetch, tmp_path):
    site.ranges = False
    site.script = [cut_after(10000)]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert [request["sent"] for request in site.requests] == [10000, len(GOOD)]


def test_server_without_version_marks_resumes(site, list_of, fetch, tmp_path):
    site.etag = ""
    site.script = [cut_after(10000)]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-"]
    assert site.requests[1]["if_range"] is None


def test_server_that_forgets_the_length_is_read_to_the_end(site, list_of, fetch, tmp_path):
    def without_length(handler):
        start_answer(handler, 200, None)
        handler.body(GOOD)
    site.script = [without_length]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert len(site.requests) == 1


def test_endless_answer_is_given_up(site, list_of, fetch, tmp_path):
    def endless(handler):
        start_answer(handler, 200, None)
        handler.body(b"PK\x03\x04")
        while True:
            handler.body(b"x" * 100000)
    site.script = [endless]
    with pytest.raises(UserError, match="sends more than 300,000 bytes"):
        fetch(list_of(site, max_bytes=300000))
    assert not part_of(tmp_path).exists()


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_file_changed_between_tries_starts_again(ignores_if_range, new_site, list_of, fetch,
                                                 tmp_path, capfd):
    old = zip_of(dict(FILES, **{"train.json": FILES["train.json"].replace(b"id", b"ID")}))
    assert len(old) == len(GOOD)
    site = new_site(old)

    def change_then_serve(handler):
        site.content, site.etag = GOOD, '"v2"'
        if ignores_if_range:
            del handler.headers["If-Range"]
        serve(handler)

    site.script = [cut_after(10000), change_then_serve]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert ("file has changed on the server" in capfd.readouterr().err) == ignores_if_range


def test_answer_from_another_byte_than_asked_is_not_appended(site, list_of, fetch, tmp_path,
                                                             capfd):
    def from_elsewhere(handler):
        start_answer(handler, 206, len(GOOD) - 500, ETag=site.etag,
                     Content_Range="bytes 500-%d/%d" % (len(GOOD) - 1, len(GOOD)))
        handler.body(GOOD[500:])
    site.script = [cut_after(10000), from_elsewhere]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert "file has changed on the server" in capfd.readouterr().err


def test_mixture_of_two_versions_is_found_and_fetched_anew(new_site, list_of, fetch, tmp_path):
    old = zip_of(dict(FILES, **{"train.json": FILES["train.json"].replace(b"id", b"ID")}))
    site = new_site(old)
    site.etag = ""

    def change_then_serve(handler):
        site.content = GOOD
        serve(handler)

    site.script = [cut_after(10000), change_then_serve]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-", None]


def test_complete_part_is_used_without_a_request(site, list_of, fetch, tmp_path):
    site.script = [cut_after(10000)]
    with pytest.raises(UserError):
        fetch(list_of(site), tries=1)
    part_of(tmp_path).write_bytes(GOOD)
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert len(site.requests) == 1


def test_range_beyond_a_file_that_shrank_starts_again(site, list_of, fetch, tmp_path, capfd):
    site.script = [cut_after(10000)]
    with pytest.raises(UserError):
        fetch(list_of(site), tries=1)
    site.script = [lambda handler: start_answer(handler, 416, 0, Content_Range="bytes */500")]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-", None]
    assert "file has changed on the server" in capfd.readouterr().err


def test_range_refused_because_all_is_there_counts_as_complete(site, list_of, fetch, tmp_path):
    """A server that never told the length leaves a whole part that is not known to be whole."""
    os.makedirs(str(part_of(tmp_path).parent))
    part_of(tmp_path).write_bytes(GOOD)
    note = {"url": site.url + "toy_public.zip", "validator": '"v1"', "total": None}
    part_of(tmp_path).with_name("toy_public.zip.part.json").write_text(json.dumps(note))
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert site.requests[0]["range"] == "bytes=%d-" % len(GOOD)
    assert sum(request["sent"] for request in site.requests) == 0


@pytest.mark.parametrize("note", ["", "[1]", '{"url": "x"}'])
def test_part_with_a_damaged_note_is_not_trusted(note, site, list_of, fetch, tmp_path):
    os.makedirs(str(part_of(tmp_path).parent))
    part_of(tmp_path).write_bytes(b"rubbish" * 1000)
    part_of(tmp_path).with_name("toy_public.zip.part.json").write_text(note)
    fetch(list_of(site))
    assert_complete(tmp_path)


@pytest.mark.parametrize("code", [500, 503, 429])
def test_passing_server_error_is_tried_again(code, site, list_of, fetch, tmp_path):
    site.script = [status(code)]
    fetch(list_of(site))
    assert_complete(tmp_path)
    assert len(site.requests) == 2


def test_not_found_is_not_tried_again(site, list_of, fetch):
    site.script = [status(404)] * 5
    with pytest.raises(UserError, match="HTTP 404 Not Found"):
        fetch(list_of(site))
    assert len(site.requests) == 1


def test_stalled_connection_times_out_and_goes_on(site, list_of, fetch, tmp_path):
    site.script = [stall_after(10001)]
    fetch(list_of(site), timeout=0.2)
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10001-"]


def test_pauses_double(site, list_of, fetch, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    site.script = [status(500)] * 9
    with pytest.raises(UserError, match="HTTP 500"):
        fetch(list_of(site), tries=4, pause=1.0)
    assert pauses == [1.0, 2.0, 4.0]


def test_a_try_that_brought_much_is_no_failed_one(new_site, list_of, fetch, monkeypatch):
    monkeypatch.setattr(download, "_WORTHWHILE", 1000)
    site = new_site()
    site.script = [cut_after(2000)] * 9
    fetch(list_of(site), tries=2)
    assert len(site.requests) == 10


def test_short_content_fails_in_the_end(site, list_of, fetch, tmp_path):
    site.ranges = False
    site.script = [cut_after(4000)] * 9
    with pytest.raises(UserError, match="cut off after 4,000 of(.|\n)*later: it goes on where it"):
        fetch(list_of(site), tries=2)
    assert len(site.requests) == 2
    assert not (tmp_path / "out" / "toy").exists()


def test_web_page_is_recognised_and_spoils_no_part(site, list_of, fetch, tmp_path):
    site.script = [cut_after(10000), web_page]
    with pytest.raises(UserError, match="answered a web page, not an archive"):
        fetch(list_of(site))
    assert part_of(tmp_path).read_bytes() == GOOD[:10000]


def test_page_without_content_type_and_other_rubbish_are_recognised(new_site, list_of, fetch):
    page, rubbish = new_site(b"\n<html>" + b" " * 1000), new_site(b"version https://git-lfs" * 99)
    with pytest.raises(UserError) as caught:
        fetch(list_of(page, rubbish))
    assert "web page" in str(caught.value) and "no zip archive" in str(caught.value)


def test_redirect_to_the_web_is_followed(site, new_site, list_of, fetch, tmp_path):
    first = new_site()
    first.script = [redirect(site.url + "elsewhere.zip", 302), redirect(site.url + "x.zip", 308)]
    site.script = [cut_after(10000)]
    fetch(list_of(first))
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=10000-"]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,PK"])
def test_redirect_elsewhere_is_not_followed(address, site, list_of, fetch):
    site.script = [redirect(address)]
    with pytest.raises(UserError, match="not allowed|no web address"):
        fetch(list_of(site))


def test_second_mirror_is_used_and_goes_on_with_the_part(site, new_site, list_of, fetch, tmp_path):
    first = new_site()
    first.script = [cut_after(10000), status(404)]
    site.etag = '"its own"'
    fetch(list_of(first, site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == ["bytes=10000-"]
    assert site.requests[0]["if_range"] is None


def test_second_mirror_with_another_file_starts_again(site, new_site, list_of, fetch, tmp_path):
    first = new_site(GOOD + b"longer")
    first.script = [cut_after(10000), status(404)]
    fetch(list_of(first, site))
    assert_complete(tmp_path)
    assert site.ranges_asked() == ["bytes=10000-", None]


def test_own_mirror_comes_first(site, new_site, list_of, fetch, tmp_path):
    own = new_site()
    fetch(list_of(site), mirrors=[own.url.rstrip("/")])
    assert_complete(tmp_path)
    assert [own.requests[0]["path"], len(site.requests)] == ["/files/toy_public.zip", 0]


def test_proxy_of_the_environment_is_used(site, list_of, fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("no_proxy", "")
    fetch(list_of("http://mirror.invalid/zips/"))
    assert_complete(tmp_path)
    assert site.requests[0]["path"] == "http://mirror.invalid/zips/toy_public.zip"


def test_nothing_is_fetched_when_the_disk_is_full(site, list_of, fetch, tmp_path, monkeypatch):
    usage = type(download.shutil.disk_usage("/"))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(10 ** 9, 10 ** 9, 1000))
    with pytest.raises(UserError, match="0 MB are free where 17 MB are needed"):
        fetch(list_of(site))
    assert contents(tmp_path / "out") == {}


def test_nothing_is_unpacked_when_the_disk_is_too_full_for_it(site, list_of, fetch, tmp_path,
                                                              monkeypatch):
    usage, real = type(download.shutil.disk_usage("/")), download.shutil.disk_usage
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: (
        usage(10 ** 9, 10 ** 9, 1000) if "unpacking" in folder else real(folder)))
    with pytest.raises(UserError, match="toy/.download-unpacking: 0 MB are free where 17 MB"):
        fetch(list_of(site))
    assert contents(tmp_path / "out") == {}
    assert part_of(tmp_path).read_bytes() == GOOD


# ---------------------------------------------------------------------------------------------
# Verifying and unpacking
# ---------------------------------------------------------------------------------------------

def with_member(name, content=b"x", **attributes):
    """Returns the good files and one more member with the given attributes of ZipInfo."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    for key, value in attributes.items():
        setattr(info, key, value)
    return zip_of(list(FILES.items()) + [(info, content)])


def patched(archive, name, offset_from_name, value):
    """Returns the archive with one byte of the central directory's entry of `name` replaced."""
    place = archive.rindex(name.encode()) + offset_from_name
    return archive[:place] + bytes([value]) + archive[place + 1:]


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1:]


MODEL = {"albert_model.ckpt.index": b"i", "albert_model.ckpt.meta": b"m", "checkpoint": b"c",
         "albert_model.ckpt.data-00000-of-00001": b"d" * 200, "vocab.txt": b"[PAD]\n",
         "albert_config_tiny.json": b"{}"}
MODEL_FIELDS = {"folder": "", "required": ["*.index", "*.data-*", "vocab.txt", "*config*.json"]}

BAD_ARCHIVES = {
    "crc": (flip(GOOD, 1000), "train.json is damaged"),
    "cut": (GOOD[:-30], "no whole zip archive"),
    "directory before the start": (GOOD[:-8] + b"\x7f" + GOOD[-7:], "no whole zip archive"),
    "parent": (with_member("../evil.txt"), "'../evil.txt' leads out of the folder"),
    "inner parent": (with_member("a/../../evil.txt"), "leads out of the folder"),
    "absolute": (with_member("/tmp/evil.txt"), "absolute path"),
    "drive": (with_member("C:/evil.txt"), "absolute path"),
    "backslash": (with_member("..\\evil.txt"), "backslash"),
    "control": (with_member("evil\x1b.txt"), "control character"),
    "symlink": (with_member("link", b"/etc/passwd", create_system=3,
                            external_attr=(stat.S_IFLNK | 0o777) << 16), "link or a device"),
    "fifo": (with_member("pipe", create_system=3, external_attr=(stat.S_IFIFO | 0o666) << 16),
             "link or a device"),
    "encrypted": (patched(with_member("secret"), "secret", -38, 1),
                  "'secret' is encrypted; nothing was unpacked"),
    "method": (with_member("x.bz2", compress_type=zipfile.ZIP_BZIP2), "unusual way"),
    "same but for case": (with_member("Train.json"), "holds Train.json twice"),
    "file and folder": (with_member("dev.json/x"), "holds dev.json twice"),
    "many": (zip_of([("f%d" % i, b"") for i in range(1001)]), "1001 members"),
    "missing": (zip_of({"train.json": FILES["train.json"], "dev.json": b"x"}), "lacks test.json"),
    "long name": (with_member("n" * 201), "more than 200 bytes"),
    "bomb": (zip_of(dict(FILES, zeros=b"\0" * 5000000), zipfile.ZIP_DEFLATED),
             "would unpack to 5,0"),
    "lying bomb": (patched(zip_of(dict(FILES, zeros=b"\0" * 5000000), zipfile.ZIP_DEFLATED),
                           "zeros", -20, 0), "zeros is damaged"),
}


@pytest.mark.parametrize("fault", sorted(BAD_ARCHIVES))
def test_bad_archive_leaves_nothing_behind(fault, new_site, list_of, fetch, tmp_path):
    content, message = BAD_ARCHIVES[fault]
    bound = 10 ** 7 if fault == "lying bomb" else 10 ** 6
    site = new_site(content)
    with pytest.raises(UserError) as caught:
        fetch(list_of(site, max_unpacked_bytes=bound))
    assert message in str(caught.value)
    assert len(site.requests) == 1
    assert contents(tmp_path) == {"downloads.json": (tmp_path / "downloads.json").read_bytes()}
    assert not part_of(tmp_path).exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_member_is_refused(new_site, list_of, fetch):
    site = new_site(zip_of(list(FILES.items()) + [("dev.json", b"other")]))
    with pytest.raises(UserError, match="holds dev.json twice"):
        fetch(list_of(site))


def test_bad_archive_of_one_mirror_is_made_good_by_the_next(site, new_site, list_of, fetch,
                                                            tmp_path):
    fetch(list_of(new_site(flip(GOOD, 1000)), new_site(BAD_ARCHIVES["parent"][0]), site))
    assert_complete(tmp_path)


@pytest.mark.parametrize("fields, message", [
    ({"sha256": "0" * 64}, "its SHA-256 is %s" % hashlib.sha256(GOOD).hexdigest()),
    ({"bytes": 5}, "offers %s bytes where the archive has 5" % format(len(GOOD), ",")),
    ({"min_bytes": 900000}, "900,000 to 1,000,000 are plausible"),
    ({"max_bytes": 1000}, "100 to 1,000 are plausible")])
def test_other_archive_than_expected_is_refused(fields, message, site, list_of, fetch, tmp_path):
    with pytest.raises(UserError) as caught:
        fetch(list_of(site, **fields))
    assert message in str(caught.value)
    assert "goes on where it stopped" not in str(caught.value)  # what came is of no use
    assert not (tmp_path / "out" / "toy" / "train.json").exists()


def test_damaged_archives_never_end_in_another_error(tmp_path):
    """Random damage anywhere: the archive is refused, or its files come out whole."""
    archive = zip_of({"train.json": b"t" * 50, "dev.json": b"d" * 300, "test.json": b"e"},
                     zipfile.ZIP_DEFLATED)
    entry = download.Archive(
        name="toy", about="", archive="toy.zip", mirrors=[], page="", folder="", substitutes={},
        required=["train.json"], bytes=None, sha256=None, about_bytes=None, min_bytes=1,
        max_bytes=10 ** 6, max_unpacked_bytes=10 ** 6)
    draw, refused = random.Random(7), 0
    for number in range(400):
        damaged = bytearray(archive)
        for _ in range(draw.choice([1, 1, 3])):
            damaged[draw.randrange(len(damaged))] = draw.choice([0, 255, draw.randrange(256)])
        path, folder = tmp_path / "toy.zip", tmp_path / str(number)
        path.write_bytes(bytes(damaged))
        folder.mkdir()
        try:
            download._unpack(entry, str(path), str(folder))
        except download._BadArchiveError:
            refused += 1
        else:
            assert (folder / "train.json").read_bytes() == b"t" * 50
    assert 100 < refused < 400


@pytest.mark.parametrize("prefix", ["", "albert_tiny/", "a/b/"])
def test_model_files_land_directly_in_the_folder(prefix, new_site, list_of, fetch, tmp_path):
    litter = {"__MACOSX/._vocab.txt": b"m", prefix + ".DS_Store": b"s"}
    members = {prefix + name: content for name, content in MODEL.items()}
    fetch(list_of(new_site(zip_of(dict(members, **litter))), **MODEL_FIELDS))
    assert contents(tmp_path / "out") == MODEL


def test_inner_folders_stay(new_site, list_of, fetch, tmp_path):
    members = dict(FILES, **{"notes/readme.txt": b"hello", "./more.txt": b"more"})
    fetch(list_of(new_site(zip_of(members))))
    assert contents(tmp_path / "out" / "toy") == dict(
        FILES, **{"notes/readme.txt": b"hello", "more.txt": b"more"})


@pytest.mark.parametrize("names, taken", [
    (["test.json", "test1.0.json"], "test.json"), (["test1.0.json"], "test1.0.json"),
    (["test1.0.json", "test1.1.json"], "test1.1.json")])
def test_substitutes_serve_only_where_the_name_is_missing(names, taken, new_site, list_of, fetch,
                                                          tmp_path, capfd):
    members = {name: content for name, content in FILES.items() if name != "test.json"}
    members.update((name, name.encode()) for name in names)
    fetch(list_of(new_site(zip_of(members)),
                  substitutes={"test.json": ["test1.1.json", "test1.0.json"]}))
    found = contents(tmp_path / "out" / "toy")
    assert found["test.json"] == taken.encode()
    assert all(found[name] == name.encode() for name in names)
    assert ("serves as such" in capfd.readouterr().err) == (taken != "test.json")


# ---------------------------------------------------------------------------------------------
# What the user has is left alone
# ---------------------------------------------------------------------------------------------

def test_only_what_is_missing_is_filled_in(site, list_of, fetch, tmp_path, capfd):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "dev.json").write_bytes(b"mine")
    (folder / "test.json").write_bytes(FILES["test.json"])
    (folder / "notes.txt").write_bytes(b"keep")
    fetch(list_of(site))
    assert contents(folder) == dict(FILES, **{"dev.json": b"mine", "notes.txt": b"keep"})
    shown = capfd.readouterr().err
    assert "dev.json, which was there and differs from the archive's" in shown
    assert "test.json, which was there\n" in shown


def test_complete_folder_needs_no_network_and_no_right_to_write(list_of, fetch, tmp_path):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(b"mine")
    fetch(list_of("http://127.0.0.1:9/"))
    assert os.listdir(str(tmp_path / "out")) == ["toy"]


def test_empty_required_file_is_named(site, list_of, fetch, tmp_path):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "dev.json").write_bytes(b"")
    with pytest.raises(UserError, match="dev.json is empty: remove it"):
        fetch(list_of(site))
    assert contents(folder) == {"dev.json": b""}


def test_dangling_link_in_the_way_is_named(site, list_of, fetch, tmp_path):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "dev.json").symlink_to(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no usable file dev.json"):
        fetch(list_of(site))
    assert not (tmp_path / "nowhere").exists()


def test_folder_of_another_model_is_not_taken_for_the_one_wanted(new_site, list_of, fetch,
                                                                 tmp_path):
    path = list_of(new_site(zip_of(MODEL)), **MODEL_FIELDS)
    fetch(path)
    with io.open(path) as stream:
        content = json.load(stream)
    content["archives"]["other"] = content["archives"]["toy"]
    with io.open(path, "w") as stream:
        json.dump(content, stream)
    with pytest.raises(UserError, match="holds toy, fetched earlier, and not other"):
        download.fetch("other", str(tmp_path / "out"), path)


def test_archive_that_the_user_brought_is_used_and_kept(list_of, fetch, tmp_path):
    (tmp_path / "out").mkdir()
    brought = tmp_path / "out" / "toy_public.zip"
    brought.write_bytes(flip(GOOD, 1000))
    with pytest.raises(UserError, match="toy_public.zip: .*train.json is damaged"):
        fetch(list_of("http://127.0.0.1:9/"))
    brought.write_bytes(GOOD)
    fetch(list_of("http://127.0.0.1:9/"))
    assert contents(tmp_path / "out" / "toy") == FILES
    assert brought.read_bytes() == GOOD


# ---------------------------------------------------------------------------------------------
# The command: failures, several processes, a killed one
# ---------------------------------------------------------------------------------------------

def command(tmp_path, downloads_file, *more):
    return [sys.executable, SCRIPT, "--name=toy", "--output_dir=%s" % (tmp_path / "out"),
            "--downloads_file=%s" % downloads_file, "--timeout=20"] + list(more)


def start(arguments):
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            universal_newlines=True)


def wait_until(condition, seconds=30):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.01)


def test_all_mirrors_dead_gives_one_message(site, new_site, list_of, tmp_path):
    other = new_site()
    site.script, other.script = [status(404)], [web_page]
    process = start(command(tmp_path, list_of(site), "--mirror=" + other.url))
    output, shown = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert "Traceback" not in shown
    message = shown[shown.index("ERROR:"):]
    assert "  %stoy_public.zip: the server answered a web page" % other.url in message
    assert "  %stoy_public.zip: the server answered HTTP 404" % site.url in message
    assert message.index(other.url) < message.index(site.url)
    for remedy in ("ALBERT_ZH_MIRROR=BASE_URL", "https://example.org", "same command again"):
        assert remedy in message


def test_mirror_of_the_environment_and_the_library_needs_no_tensorflow(site, list_of, tmp_path):
    check = ("import sys; sys.path.insert(0, %r); import download; "
             "assert 'tensorflow' not in sys.modules" % os.path.dirname(SCRIPT))
    assert subprocess.call([sys.executable, "-c", check]) == 0
    environment = dict(os.environ, ALBERT_ZH_MIRROR=site.url)
    assert subprocess.call(command(tmp_path, list_of("http://127.0.0.1:9/")), env=environment) == 0
    assert_complete(tmp_path)


def test_two_processes_download_once(site, list_of, tmp_path):
    def wait_then_serve(handler):
        site.release.wait(30)
        serve(handler)
    site.script = [wait_then_serve]
    first = start(command(tmp_path, list_of(site)))
    wait_until(lambda: site.requests)
    second = start(command(tmp_path, str(tmp_path / "downloads.json")))
    assert "waiting" in second.stderr.readline()
    site.release.set()
    first.communicate(timeout=60)
    shown = second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)
    assert "already there" in shown and len(site.requests) == 1
    assert_complete(tmp_path)


def test_killed_download_is_finished_by_the_same_command(site, list_of, tmp_path):
    site.script = [stall_after(20000)]
    path = list_of(site)
    process = start(command(tmp_path, path))
    wait_until(lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size > 8000)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept = part_of(tmp_path).stat().st_size
    assert subprocess.call(command(tmp_path, path)) == 0
    assert_complete(tmp_path)
    assert site.ranges_asked() == [None, "bytes=%d-" % kept]


@pytest.mark.parametrize("name", sorted(FILES) + ["zz.txt"])
def test_run_killed_while_moving_files_is_finished(name, new_site, list_of, fetch, tmp_path,
                                                   monkeypatch):
    """Files that are not required come first: a folder that looks complete is complete."""
    class Killed(BaseException):
        """Stands for the end of the process: nothing catches it."""

    move, rmtree = download.files.move, download.shutil.rmtree

    def move_until(source, goal):
        if goal.endswith(name):
            raise Killed
        move(source, goal)

    members = dict(FILES, **{"zz.txt": b"z"})
    downloads_file = list_of(new_site(zip_of(members)))
    with monkeypatch.context() as patch:
        patch.setattr(download.files, "move", move_until)
        patch.setattr(download.shutil, "rmtree", lambda path: None)
        with pytest.raises(Killed):
            download._place(*_staged(tmp_path, downloads_file, members))
    assert (download.files.move, download.shutil.rmtree) == (move, rmtree)
    fetch(downloads_file)
    assert contents(tmp_path / "out" / "toy") == members


def _staged(tmp_path, downloads_file, members):
    """Arguments of _place for good files that lie unpacked in the staging folder."""
    target = tmp_path / "out" / "toy"
    staging = target / ".download-unpacking"
    staging.mkdir(parents=True)
    for name, content in members.items():
        (staging / name).write_bytes(content)
    archive = download.read_downloads(downloads_file)["toy"]
    return archive, sorted(members), str(staging), str(target)


@pytest.mark.parametrize("arguments, message", [
    (["--name=tnew"], 'Did you mean "tnews"?'), (["--name="], "--name is missing"),
    (["--name=tnews"], "--output_dir is missing"),
    (["--name=tnews", "--output_dir=gs://bucket/x"], "not a local folder"),
    (["--name=tnews", "--output_dir=x", "--timeout=0"], "--timeout=0.0: a number"),
    (["--name=tnews", "--output_dir=x", "--mirror=ftp://host/"], "mirror"),
    (["--name=tnews", "--downloads_file=nowhere.json"], "--downloads_file=nowhere.json"),
    (["--nam=tnews"], "nam")])
def test_wrong_arguments_are_explained(arguments, message, tmp_path):
    process = subprocess.Popen([sys.executable, SCRIPT] + arguments, cwd=str(tmp_path),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               universal_newlines=True)
    shown = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert message in shown and "Traceback" not in shown
    assert os.listdir(str(tmp_path)) == []


# ---------------------------------------------------------------------------------------------
# The downloads file
# ---------------------------------------------------------------------------------------------

MODELS = ["albert_tiny", "albert_tiny_489k", "albert_tiny_zh_google", "albert_small_zh_google",
          "albert_base_zh", "albert_base_zh_additional_36k_steps", "albert_large_zh",
          "albert_xlarge_zh_177k", "albert_xlarge_zh_183k"]
TASKS = {"afqmc": "afqmc_public.zip", "cmnli": "cmnli_public.zip", "csl": "csl_public.zip",
         "iflytek": "iflytek_public.zip", "tnews": "tnews_public.zip",
         "wsc": "cluewsc2020_public.zip", "ocnli": "ocnli_public.zip", "c3": "c3_public.zip",
         "chid": "chid_public.zip", "cmrc2018": "cmrc2018_public.zip",
         "cluener": "cluener_public.zip"}
# What the archives of the newer tasks must hold to count as complete, in one of their spellings.
INSIDE = {"ocnli": ["train.50k.json", "dev.json", "test.json"],
          "c3": ["m-train.json", "d-train.json", "m-dev.json", "d-dev.json", "test1.1.json"],
          "chid": ["train.json", "train_answer.json", "dev.json", "dev_answer.json",
                   "test1.0.json"],
          "cmrc2018": ["train.json", "dev.json", "test.json", "trial.json"]}


def test_released_list_covers_all_models_and_tasks():
    archives = download.read_downloads(download.DOWNLOADS_FILE)
    assert sorted(archives) == sorted(MODELS + list(TASKS))
    for name in MODELS:
        archive = archives[name]
        assert (archive.archive, archive.folder) == (name + ".zip", "")
        assert "https://storage.googleapis.com/albert_zh/" in archive.mirrors
        for config in ("albert_config_tiny.json", "albert_config_tiny_g.json",
                       "albert_config_small_google.json"):
            inside = [config, "vocab.txt", "checkpoint", "albert_model.ckpt.index",
                      "albert_model.ckpt.data-00000-of-00001"]
            assert all(download._fitting(inside, pattern) for pattern in archive.required)
            assert not all(download._fitting(inside[1:], pattern) for pattern in archive.required)
    for name, archive_name in TASKS.items():
        archive = archives[name]
        assert (archive.archive, archive.folder) == (archive_name, name)
        assert "https://storage.googleapis.com/cluebenchmark/tasks/" in archive.mirrors
        if name in INSIDE:
            assert all(download._fitting(INSIDE[name], pattern) for pattern in archive.required)
            assert not all(download._fitting(INSIDE[name][1:], pattern)
                           for pattern in archive.required) or name == "c3"
        else:
            assert archive.required == ["train.json", "dev.json", "test.json"]


def test_released_bounds_hold_the_published_sizes():
    archives = download.read_downloads(download.DOWNLOADS_FILE)
    for name, megabytes in (("albert_tiny", 16), ("albert_base_zh", 40), ("albert_large_zh", 64),
                            ("albert_xlarge_zh_183k", 230)):
        archive = archives[name]
        assert archive.about_bytes == megabytes * 10 ** 6
        assert archive.min_bytes < archive.about_bytes < archive.max_bytes
    for archive in archives.values():
        assert archive.max_bytes < archive.max_unpacked_bytes


def test_list_shows_every_name():
    shown = subprocess.check_output([sys.executable, SCRIPT, "--list"], universal_newlines=True)
    lines = [line.split() for line in shown.splitlines()]
    assert [line[0] for line in lines[2:]] == list(download.read_downloads(download.DOWNLOADS_FILE))
    assert ["albert_tiny", "16", "MB", "ALBERT", "tiny,"] in [line[:5] for line in lines]


@pytest.mark.parametrize("fields, message", [
    ({"mirrors": []}, "mirrors must be a list of http"),
    ({"mirrors": ["file:///tmp/"]}, "mirrors must be"),
    ({"mirrors": ["https://user:secret@host/"]}, "mirrors must be"),
    ({"mirrors": ["https://host:port/"]}, "mirrors must be"),
    ({"archive": "../x.zip"}, "archive must be a file name"),
    ({"folder": ".."}, "folder must be"),
    ({"sha256": "ABC"}, "sha256 must be 64"),
    ({"bytes": "5"}, "bytes must be a positive number, or null"),
    ({"min_bytes": 2000000}, "min_bytes is larger"),
    ({"required": []}, "required must be"),
    ({"substitutes": {"a": "b"}}, "substitutes must be"),
    ({"mirors": []}, 'unknown field mirors. Did you mean "mirrors"?'),
    ({"kind": "dat"}, "kind must be one of: data")])
def test_malformed_entry_is_named(fields, message, list_of):
    with pytest.raises(UserError) as caught:
        download.read_downloads(list_of("http://127.0.0.1:9/", **fields))
    assert message in str(caught.value) and "archive toy" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", '{"kinds": {}, "archives": {}}', "{"])
def test_malformed_list_is_named(text, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(UserError, match="list.json"):
        download.read_downloads(str(path))
