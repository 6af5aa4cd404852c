"""Sends malformed requests to the service: each must be refused, and the service stay well.

    python benchmarks/fuzz_service.py --model_dir=albert_lcqmc_checkpoints --requests=10000
    python benchmarks/fuzz_service.py --address=127.0.0.1:8501

Without --address it starts serve.py itself. What is sent follows from --seed. A refusal is a status
of 4xx; a request that never ends may also be left without an answer. Now and then a proper request
is sent, which must be answered. What an independent tool thinks of the service:

    pip install schemathesis && schemathesis run http://127.0.0.1:8501/openapi.json
"""

import collections
import json
import os
import random
import re
import socket
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import errors  # noqa: E402 - the project's modules lie one folder up
from absl import flags  # noqa: E402
from console import Progress, table  # noqa: E402
from errors import UserError  # noqa: E402

FLAGS = flags.FLAGS
PATHS = {"similarity": "/v1/similarity", "classify": "/v1/classify", "embed": "/v1/embed",
         "fill-mask": "/v1/fill-mask", "predict": "/v1/models/albert_zh:predict"}
PROPER = {
    "similarity": {"pairs": [["天气好", "天气不错"]], "method": "cosine"},
    "classify": {"texts": ["天气好", ["天", "地"]]},
    "embed": {"texts": ["天气好"], "layers": [-1], "pooling": "mean", "normalize": True},
    "fill-mask": {"texts": ["天[MASK]好"], "top": 3},
    "predict": {"instances": ["天气好", {"text_a": "天", "text_b": "地"}]},
}
SECONDS = 60  # for an answer

Malformed = collections.namedtuple("Malformed", ["kind", "data", "complete", "may_be_proper"])
Malformed.__doc__ = """Bytes for a connection of their own.

kind: what is wrong, for the table; complete: whether the service can know where the request ends;
may_be_proper: whether chance may have made it a proper one."""


def define_flags():
    flags.DEFINE_string("address", None, "HOST:PORT of a service that runs; none: start one.")
    flags.DEFINE_string("model_dir", None, "Folder of the model for the one that is started.")
    flags.DEFINE_integer("requests", 10000, "Malformed requests.")
    flags.DEFINE_integer("seed", 0, "What is sent follows from it.")


# ---------------------------------------------------------------------------------------------
# What is sent
# ---------------------------------------------------------------------------------------------

def malformed(generator):
    """Returns a Malformed that a random.Random chooses."""
    return generator.choice(_KINDS)(generator)


def proper(name="embed"):
    """Returns the bytes of a request that every model answers."""
    return _post(PATHS[name], json.dumps(PROPER[name]).encode("ascii"))


def _post(path, body, content_type="application/json", more=()):
    lines = ["POST %s HTTP/1.1" % path, "Host: localhost", "Content-Length: %d" % len(body)]
    if content_type is not None:
        lines.append("Content-Type: " + content_type)
    lines += more
    return "\r\n".join(lines + ["", ""]).encode("ascii") + body


def _chosen(generator):
    """Returns (path, a copy of a proper request)."""
    name = generator.choice(sorted(PATHS))
    return PATHS[name], json.loads(json.dumps(PROPER[name]))


def _wrong_field(generator):
    """A field of another type, out of range, missing or unknown."""
    path, request = _chosen(generator)
    texts = [name for name in ("pairs", "texts", "instances") if name in request][0]
    wrong = generator.choice([
        lambda: request.pop(texts),
        lambda: request.update({texts: _odd_value(generator)}),
        lambda: request.update({texts: [_odd_value(generator)]}),
        lambda: request.update({texts: request[texts] * 400}),
        lambda: request.update({texts: [["天", "地", "人"]]}),
        lambda: request.update({texts: [["天"]]}),
        lambda: request.update({texts: ["天" * 2001]}),
        lambda: request.update({texts: [{"text_a": 1}]}),
        lambda: request.update({texts: [{"text_b": "天"}]}),
        lambda: request.update({generator.choice(["text", "Pairs", "", "__proto__", "\ud800",
                                                  "天" * 50]): 1}),
        lambda: request.update([generator.choice(_WRONG_SETTINGS)]),
    ])
    wrong()
    return Malformed("wrong field", _post(path, json.dumps(request).encode("ascii")), True, False)


_WRONG_SETTINGS = [(name, value) for name, values in {
    "top": [0, -1, 10 ** 9, 10 ** 25, 1.5, "3", True, None, [], {}],
    "layers": [[], [99], [-99], [0] * 99, ["0"], [True], [0.5], 0, None, {}],
    "pooling": ["sum", "", 0, None, ["mean"]], "method": ["x", "", 0, True, [], {}],
    "normalize": [0, 1, "true", None, []], "signature_name": ["x", "", 0, []],
}.items() for value in values]


def _odd_value(generator):
    """Neither a text or a pair of texts, nor a list of such."""
    return generator.choice([
        None, True, False, 0, -1, 1.5, 10 ** 25, "\ud800", {}, {"a": {}}, [], [[]], [None],
        [[["天"]]], [{}], [1, 2], [True], "x" * 3000, [["天", None]], [["天", 1]]])


def _no_json(generator):
    """A body that is no JSON, or not ours to take."""
    path, request = _chosen(generator)
    text = json.dumps(request)
    body = generator.choice([
        lambda: text[:generator.randrange(len(text))].encode("ascii"),
        lambda: text.encode("ascii") + generator.choice([b"}", b"x", b",", b"\x00", b"[]"]),
        lambda: text.encode("utf-16"), lambda: text.encode("utf-32"),
        lambda: b"\xef\xbb\xbf" + text.encode("ascii"),
        lambda: text.replace('"', "'").encode("ascii"),
        lambda: json.dumps(request, ensure_ascii=False).encode("gb18030"),
        lambda: text[:-1].encode("ascii") + b', "' + bytes([generator.randrange(128, 256)]) + b'"}',
        lambda: b'{"texts": ["' + generator.choice([b"\x00", b"\n", b"\x1f", b"\\x", b"\\u12"])
        + b'"]}',
        lambda: ("%s, %s" % (text[:-1], text[1:])).encode("ascii"),  # every key twice
        lambda: b'{"top": %s}' % generator.choice([b"NaN", b"Infinity", b"-Infinity", b"1e", b"01",
                                                   b"+1", b".5", b"0x10"]),
        lambda: b'{"top": ' + b"9" * generator.choice([31, 5000, 500000]) + b"}",
        lambda: b'{"top": 1.' + b"9" * generator.choice([31, 5000, 500000]) + b"}",
        lambda: b"[" * generator.choice([200, 5000, 300000]),
        lambda: b'{"texts": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        lambda: b'{"a":' * generator.choice([200, 5000, 100000]),
        lambda: generator.choice([b"", b" ", b"null", b"true", b"1", b'"x"', b"[]", b"[{}]", b"{}",
                                  b"{", b"}", b"\x00", b"a=b&c=d"]),
        lambda: bytes(generator.randrange(256) for _ in range(generator.randrange(1, 200))),
    ])()
    return Malformed("no JSON", _post(path, body), True, False)


def _wrong_header(generator):
    """A proper body under a header that says something else."""
    path, request = _chosen(generator)
    while "predict" in path:  # which takes any type, as TensorFlow Serving does
        path, request = _chosen(generator)
    body = json.dumps(request).encode("ascii")
    data = generator.choice([
        lambda: _post(path, body, generator.choice([
            None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
            "application/jsonp", "json", "application/xml", ";"])),
        lambda: _post(path, body, more=["Content-Encoding: " + generator.choice([
            "gzip", "deflate", "br", "identity, gzip", "x"])]),
        lambda: _post(path, body).replace(
            b"Content-Length: %d" % len(body), b"Content-Length: " + generator.choice([
                b"-1", b"1e9", b"99999999999999999999", b"0x20", b"2000000", b"1 2", b"1,2",
                b"\xff"])),
        lambda: _post(path, body, more=["Content-Length: 3"]),
        lambda: _post(path, body, more=["Transfer-Encoding: " + generator.choice([
            "chunked", "gzip", "chunked, x"])]),
        lambda: _post(path, b" " * (1 << 20) + body),
    ])()
    return Malformed("wrong header", data, False, False)


def _chunked(generator):
    """A body in chunks that are too many, or wrong."""
    head = (b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    body = json.dumps(PROPER["embed"]).encode("ascii")
    data, complete = generator.choice([
        (b"zz\r\n" + body, True), (b"-5\r\n" + body, True), (b"fffffffffffffffff\r\n", True),
        (b"10000\r\n" + b" " * 0x10000 + b"\r\n", False), (b"5\r\n" + body, True),
        ((b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 40 + b"0\r\n\r\n", True),
        (b"%x\r\n%s" % (len(body), body[:-3]), False)])
    return Malformed("wrong chunks", head + data, complete, False)


def _wrong_place(generator):
    """A path or a method that does not exist."""
    method = generator.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
    data = generator.choice([
        lambda: "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (method, generator.choice(
            sorted(PATHS.values()))),
        lambda: "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % generator.choice([
            "/x", "/v1", "/v1/", "/v1/models", "/v1/models/other", "/v1/models/", "//", "/..",
            "/page.css/", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%ff%fe",
            "/%", "/web/page.js", "/.git/config", "/service.py", "/" + "a" * 9000, "/v1/embed/",
            "/index.html", "*", "/%F0%9F%98%80"]),
        lambda: "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" % (
            generator.choice([
                "/", "/healthz", "/metrics", "/v1/model", "/v1/models/other:predict",
                "/openapi.json", "/v1/models/albert_zh:regress", "/v1/models/:predict",
                "/v1/models/albert_zh:x/"])),
    ])()
    return Malformed("wrong place", data.encode("ascii"), True, False)


def _no_http(generator):
    """What is no HTTP at all, or not quite."""
    data = generator.choice([
        lambda: bytes(generator.randrange(256) for _ in range(generator.randrange(1, 500))),
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        lambda: b"GET /\r\n\r\n", lambda: b"GET / HTTP/9.9\r\n\r\n", lambda: b"\r\n" * 50,
        lambda: b"get / http/1.1\r\n\r\n", lambda: b"GET  /  HTTP/1.1\r\n\r\n",
        lambda: b"FOO /v1/embed HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\nno colon here\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\n: empty\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\nA: b\x00c\r\n\r\n",
        lambda: b"GET /\xe5\xa4\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\nA: " + b"a" * generator.choice([40000, 400000]) + b"\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\n" + b"A: b\r\n" * generator.choice([8000, 50000]) + b"\r\n",
        lambda: b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
        lambda: b"GET /x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ])()
    return Malformed("no HTTP", data, False, True)


def _flipped(generator):
    """A proper request with some bytes that chance has changed, left out or put in."""
    path, request = _chosen(generator)
    data = bytearray(_post(path, json.dumps(request, ensure_ascii=False).encode("utf-8")))
    for _ in range(generator.randrange(1, 6)):
        place = generator.randrange(len(data))
        change = generator.randrange(3)
        if change == 0:
            data[place] = generator.randrange(256)
        elif change == 1:
            del data[place]
        else:
            data.insert(place, generator.randrange(256))
    return Malformed("changed bytes", bytes(data), False, True)


_KINDS = [_wrong_field, _wrong_field, _wrong_field, _no_json, _no_json, _no_json, _wrong_header,
          _chunked, _wrong_place, _no_http, _flipped]


# ---------------------------------------------------------------------------------------------
# Sending
# ---------------------------------------------------------------------------------------------

def send(address, data, seconds=SECONDS):
    """Sends bytes over a connection of their own, then ends its sending side.

    Returns:
        status of the first answer, or None where there was none.
    """
    with socket.create_connection(address, seconds) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all was sent; the answer may lie there
        try:
            while b"\r\n\r\n" not in answer:
                more = connection.recv(65536)
                if not more:
                    break
                answer += more
        except ConnectionResetError:
            pass  # refused while it was still sent; what had come of the answer counts
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(found.group(1)) if found else None


def is_refused(request, status):
    """Whether a status, or None, is what a Malformed is to get."""
    if status is None:
        return not request.complete
    return 400 <= status < 500 or (request.may_be_proper and status == 200)


def fuzz(address, count, seed, progress=lambda done: None):
    """Sends `count` malformed requests.

    Returns:
        (Counter of (kind, status), list of Malformed that were not refused)

    Raises:
        UserError: the service does not answer a proper request any more.
    """
    generator, statuses, taken = random.Random(seed), collections.Counter(), []
    for number in range(count):
        request = malformed(generator)
        status = send(address, request.data)
        statuses[request.kind, status] += 1
        if not is_refused(request, status):
            taken.append((request, status))
        if number % 100 == 99 or number + 1 == count:
            status = send(address, proper())
            if status != 200:
                raise UserError("after %d malformed requests a proper one gets the status %s"
                                % (number + 1, status))
        progress(number + 1)
    return statuses, taken


def main(_):
    if FLAGS.requests < 1:
        raise UserError("--requests=%d: at least 1 is needed" % FLAGS.requests)
    if (FLAGS.address is None) == (FLAGS.model_dir is None):
        raise UserError("name either --address of a service or --model_dir of a model")
    service = None
    if FLAGS.address:
        host, _, port = FLAGS.address.rpartition(":")
        if not port.isdigit():
            raise UserError("--address=%s: HOST:PORT is expected" % FLAGS.address)
        address = (host, int(port))
    else:
        service = _start(FLAGS.model_dir)
        address = service.address
    try:
        before = service and service.memory()
        progress = Progress("fuzz", FLAGS.requests, "request")
        statuses, taken = fuzz(address, FLAGS.requests, FLAGS.seed, progress.update)
        after = service and service.memory()
    finally:
        ended = service.stop() if service else 0
    codes = sorted({status for _, status in statuses}, key=str)
    print(table(["malformed"] + ["none" if code is None else str(code) for code in codes], [
        [kind] + [statuses[kind, code] for code in codes]
        for kind in sorted({kind for kind, _ in statuses})]))
    if service:
        print("memory: %.0f MB before, %.0f MB after; exit status %d" % (
            before / 2.0 ** 20, after / 2.0 ** 20, ended))
    if taken or ended:
        raise UserError("%d requests were not refused; the first (status %s, %s): %r" % (
            (len(taken), taken[0][1], taken[0][0].kind, taken[0][0].data[:400]) if taken
            else (0, "-", "exit status %d" % ended, b"")))
    print("All %d were refused, and the service is well." % FLAGS.requests)


def _start(model_dir):
    """Starts serve.py as benchmarks/serve.py does."""
    import importlib.util
    spec = importlib.util.spec_from_file_location(
        "serve_benchmark", os.path.join(ROOT, "benchmarks", "serve.py"))
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark.Service(model_dir, [])


if __name__ == "__main__":
    define_flags()
    errors.run(main)
