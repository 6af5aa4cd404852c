"""The web service as an application: endpoints, limits, figures for Prometheus, the page.

serve.py runs it. Needs the packages of requirements/serve.txt and Python 3.9 or newer.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import mimetypes
import os
import re
import time

import console
import inference
import numpy as np
import prometheus_client
import request_batching
import service_api
import similarity
from service_api import RefusedError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

WEB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "web")
PAGES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/docs": "docs.html",
         "/docs.js": "docs.js"}
OPEN = frozenset(PAGES) | {"/healthz", "/openapi.json"}  # paths that need no token
RETRY_AFTER = 1  # seconds
BODY_SECONDS = 10  # for a body to come in
PREDICT_LAYER = -2  # whose mean :predict gives of a model without a classifier
DECIMALS = 7

SECURITY_HEADERS = [
    (b"content-security-policy",
     b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()")]


# ---------------------------------------------------------------------------------------------
# The model behind its queue
# ---------------------------------------------------------------------------------------------

class Engine(object):
    """What a predictor can do, for requests that are computed together."""

    def __init__(self, predictor, name, max_tokens, batching, limits=service_api.DEFAULTS):
        """Starts the threads that compute.

        Args:
            predictor: inference.Predictor.
            name: of the model, for /v1/models/.
            max_tokens: tokens that are read of a text or pair.
            batching: request_batching.Settings.
            limits: service_api.Limits.
        """
        self._predictor, self.name, self.limits = predictor, name, limits
        self._max_tokens = max_tokens
        self.figures = Figures()
        self._batcher = request_batching.Batcher(
            self._compute, batching, length=_length, observe=self.figures.batch_done)
        self.figures.queue.set_function(lambda: self._batcher.waiting)

    @property
    def model(self):
        """inference.ModelFolder."""
        return self._predictor.model

    @property
    def layers(self):
        return self.model.config.num_hidden_layers

    @property
    def sizes(self):
        """service_api.Sizes."""
        config = self.model.config
        return service_api.Sizes(self.layers, self._max_tokens, config.vocab_size,
                                 config.type_vocab_size)

    def require(self, ability):
        """Raises RefusedError unless the model can do "classify", "compare" or "fill-mask"."""
        head, reason = self.model.head, None
        if ability == "fill-mask":
            if not self.model.fills_masks:
                reason = ("this model cannot fill masks: it has no masked words' head; serve a "
                          "pre-trained checkpoint")
        elif head is None:
            reason = ("this model has no classifier: it is only pre-trained; serve a fine-tuned "
                      "one")
        elif ability == "compare":
            reason = inference.why_no_comparison(self.model)
            reason = reason and ("this model %s: ask /v1/classify, or here with the method cosine"
                                 % reason)
        if reason:
            raise RefusedError(409, reason)

    def can(self, ability):
        try:
            self.require(ability)
        except RefusedError:
            return False
        return True

    def describe(self):
        """Returns what users of the service need to know of the model, as a dict."""
        model, limits = self.model, self.limits
        return {
            "name": self.name, "layout": model.layout.name, "layers": self.layers,
            "hidden_size": model.config.hidden_size, "labels": model.labels,
            "max_tokens": self._max_tokens,
            "abilities": [ability for ability in ("compare", "classify", "fill-mask")
                          if self.can(ability)] + ["embed"],
            "limits": {"body_bytes": limits.body_bytes, "items": limits.items,
                       "text_chars": limits.text_chars, "masks": limits.masks,
                       "words": limits.words, "seconds": limits.seconds}}

    async def compute(self, kind, items):
        """Returns the values of items and notes how long they took.

        Args:
            kind: ("probabilities",), ("vectors", layers, pooling) or ("words", top).
            items: list of strings, or of pairs of them.

        Returns:
            request_batching.Answer.

        Raises:
            RefusedError: the queue is full, time is over, or an item cannot be computed.
        """
        try:
            future = self._batcher.submit(kind, items)
        except request_batching.QueueFullError as error:
            raise RefusedError(429, "the queue is full; ask again later",
                          {"Retry-After": str(RETRY_AFTER)}) from error
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise RefusedError(504, "no answer within %g seconds" % self.limits.seconds) from error
        except request_batching.ItemError as error:
            raise RefusedError(422, "item %d: %s" % (error.index, self._why(kind))) from error

    def _why(self, kind):
        """Why an item that was checked cannot be computed all the same."""
        if kind[0] == "words":
            return "no [MASK] is among the %d tokens that are read of it" % self._max_tokens
        return "the model cannot compute it"

    def _compute(self, kind, items):
        if kind[0] == "probabilities":
            return self._predictor.probabilities(items)
        if kind[0] == "vectors":
            return self._predictor.vectors(items, kind[1], kind[2])
        return self._predictor.masked_words(items, kind[1])

    def close(self):
        """Computes what was accepted; nothing is accepted any more."""
        self._batcher.close()


def _length(item):
    """Returns about as many tokens as a Chinese text, or a pair, has."""
    if isinstance(item, inference.Tokens):
        return len(item.input_ids)
    return 2 + len(item) if isinstance(item, str) else 3 + sum(map(len, item))


class Figures(object):
    """What Prometheus asks for."""

    def __init__(self):
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._requests = prometheus_client.Counter(
            "albert_zh_requests", "Requests answered.", ["endpoint", "status"],
            registry=self.registry)
        self._seconds = prometheus_client.Histogram(
            "albert_zh_request_seconds", "From a request's header to its answer.", ["endpoint"],
            registry=self.registry,
            buckets=(.005, .01, .02, .03, .05, .075, .1, .2, .5, 1, 2, 5, 10, 30))
        self._items = prometheus_client.Counter(
            "albert_zh_items", "Texts and pairs asked for.", ["endpoint"], registry=self.registry)
        self._batch_items = prometheus_client.Histogram(
            "albert_zh_batch_items", "Items computed together.", registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
        self._batch_seconds = prometheus_client.Histogram(
            "albert_zh_batch_seconds", "Seconds that a batch took.", registry=self.registry,
            buckets=(.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5))
        self.under_way = prometheus_client.Gauge(
            "albert_zh_requests_under_way", "Requests not yet answered.", registry=self.registry)
        self.queue = prometheus_client.Gauge(
            "albert_zh_queue_items", "Items that wait.", registry=self.registry)

    def request_done(self, endpoint, status, seconds):
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def items_asked(self, endpoint, count):
        self._items.labels(endpoint).inc(count)

    def batch_done(self, items, seconds):
        self._batch_items.observe(items)
        self._batch_seconds.observe(seconds)


# ---------------------------------------------------------------------------------------------
# The endpoints: what is asked to what is answered
# ---------------------------------------------------------------------------------------------

async def _similarity(engine, asked):
    pairs = asked.pairs
    method = asked.method or ("classifier" if engine.can("compare") else "cosine")
    if method == "classifier":
        engine.require("compare")
        answer = await engine.compute(("probabilities",), pairs)
        numbers = np.array(answer.values)[:, 1]
    else:
        answer = await engine.compute(_mean_vectors(engine), [text for pair in pairs
                                                              for text in pair])
        vectors = np.array(answer.values)
        numbers = similarity.cosine_similarity(vectors[0::2], vectors[1::2])
    return answer, {"method": method,
                    "label": engine.model.labels[1] if method == "classifier" else None,
                    "similarities": _numbers(numbers)}


async def _classify(engine, asked):
    engine.require("classify")
    answer = await engine.compute(("probabilities",), asked.texts)
    labels = engine.model.labels
    results = []
    for row in answer.values:
        best = int(np.argmax(row))
        row = _numbers(row)
        results.append({"label": labels[best], "probability": row[best], "probabilities": row})
    return answer, {"labels": labels, "results": results}


async def _embed(engine, asked):
    kind = ("vectors", tuple(asked.layers), asked.pooling)
    answer = await engine.compute(kind, asked.texts)
    vectors = np.array(answer.values)
    if asked.normalize:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return answer, {"dimensions": vectors.shape[1], "vectors": _numbers(vectors)}


async def _fill_mask(engine, asked):
    engine.require("fill-mask")
    top = min(asked.top, len(engine.model.tokenizer.vocab))
    answer = await engine.compute(("words", top), asked.texts)
    return answer, {"results": [
        [[{"word": word, "probability": round(probability, DECIMALS)}
          for word, probability in words] for words in masks] for masks in answer.values]}


async def _predict(engine, asked):
    kind = ("probabilities",) if engine.can("classify") else _mean_vectors(engine)
    answer = await engine.compute(kind, [_instance(item) for item in asked.instances])
    return answer, {"predictions": _numbers(np.array(answer.values))}


def _instance(item):
    """Returns an instance of `:predict` as inference.Predictor takes it."""
    if isinstance(item, (str, list)):
        return item
    if hasattr(item, "text_a"):
        return item.text_a if item.text_b is None else [item.text_a, item.text_b]
    count = sum(item.input_mask) if item.input_mask else len(item.input_ids)
    segments = item.segment_ids or [0] * count
    return inference.Tokens(item.input_ids[:count], segments[:count])


def _mean_vectors(engine):
    return ("vectors", (max(PREDICT_LAYER, -engine.layers),), "mean")


def _numbers(array):
    """Returns float32 numbers as a list with as many decimals as they are good for."""
    return np.asarray(array, np.float64).round(DECIMALS).tolist()


def _count(asked):
    return len(next(iter(asked.__dict__.values())))  # the first field of each is the list


ANSWERS = {"similarity": _similarity, "classify": _classify, "embed": _embed,
           "fill-mask": _fill_mask, "predict": _predict}


# ---------------------------------------------------------------------------------------------
# The application
# ---------------------------------------------------------------------------------------------

def make_app(engine, token=None, hosts=None):
    """Returns the ASGI application.

    Args:
        engine: Engine; the caller closes it once the application has ended.
        token: bytes that every request for an answer must bear; None: none is asked for.
        hosts: names that the service may be called by, beside those of this machine itself; None:
            any name. Where nothing but the address keeps others out, a web page must not reach the
            service under a name of its own that it has pointed to 127.0.0.1 (DNS rebinding).
    """
    endpoints = service_api.endpoints(engine.limits, engine.sizes)
    document = service_api.openapi(endpoints, engine.name, token is not None, hosts is not None)
    routes = [Route(endpoint.path, _poster(engine, endpoint, ANSWERS[name]), methods=["POST"],
                    name=name) for name, endpoint in endpoints.items()]

    async def state(request):
        if request.path_params["name"].endswith(":predict"):
            raise RefusedError(405, "Method Not Allowed", {"Allow": "POST"})
        _require_name(engine, request)
        return _json({"model_version_status": [{
            "version": "1", "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""}}]})

    async def metrics(_):
        return Response(prometheus_client.generate_latest(engine.figures.registry),
                        media_type="text/plain; version=0.0.4")

    async def model(_):
        return _json(engine.describe())

    async def health(_):
        return _json({"status": "ok"})

    async def openapi(_):
        return _json(document)

    routes += [Route("/v1/model", model), Route("/v1/models/{name}", state),
               Route("/healthz", health), Route("/metrics", metrics),
               Route("/openapi.json", openapi)]
    routes += [_file_route(path, name) for path, name in PAGES.items()]
    app = Starlette(routes=routes, exception_handlers={
        RefusedError: _refusal, HTTPException: _http_refusal, ClientDisconnect: _gone,
        Exception: _failure})
    app.router.redirect_slashes = False
    return Gate(app, engine, token, hosts)


def _poster(engine, endpoint, answer):
    """Returns the handler of an endpoint that takes JSON."""
    any_type = endpoint.path.startswith("/v1/models/")  # users of TensorFlow Serving set none

    async def handler(request):
        if "{name}" in endpoint.path:
            _require_name(engine, request)
        _require_readable(request, engine.limits.body_bytes, any_type)
        asked = service_api.read(endpoint.asks, await _body(request, engine.limits.body_bytes))
        engine.figures.items_asked(endpoint.path, _count(asked))
        took, result = await answer(engine, asked)
        return _json(result, headers={"Server-Timing": "queue;dur=%.1f, model;dur=%.1f" % (
            1e3 * took.waited, 1e3 * took.computed)})

    return handler


def _require_name(engine, request):
    name = request.path_params["name"]
    if name != engine.name:
        raise RefusedError(404, "there is no model of this name; the one served here is %s"
                      % engine.name)


def _require_readable(request, most, any_type):
    """Raises RefusedError for what can be seen in a request's header."""
    headers = request.headers
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if not any_type and kind != "application/json":
        raise RefusedError(415, "the header Content-Type: application/json is expected")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "the body must not be compressed")
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 15 or int(length) > most:
        raise _too_large(most)


def _too_large(most):
    return RefusedError(413, "the body may have %d bytes at most" % most, {"Connection": "close"})


async def _body(request, most):
    """Returns the body; what comes in beyond the limit is not read."""
    async def read():
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
        return b"".join(parts)

    try:
        return await asyncio.wait_for(read(), BODY_SECONDS)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise RefusedError(408, "the body did not come within %d seconds" % BODY_SECONDS,
                      {"Connection": "close"}) from error


def _json(value, status=200, headers=None):
    # ASCII: names and words may hold what is no Unicode text, such as half a surrogate pair.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=status != 200)
    return Response(text.encode("utf-8", "replace"), status, headers, "application/json")


async def _refusal(_, refused):
    return _json({"error": refused.reason}, refused.status, refused.headers)


async def _http_refusal(_, error):
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _failure(_, __):
    return _json({"error": "the service failed; its log names the error"}, 500)


async def _gone(_, __):
    return Response(status_code=400)  # nobody reads it


def _file_route(path, name):
    """Returns the route of a file of the page, which is read once."""
    with open(os.path.join(WEB, name), "rb") as stream:
        content = stream.read()
    tag = '"%s"' % hashlib.sha256(content).hexdigest()[:32]
    kind = mimetypes.types_map[os.path.splitext(name)[1]] + "; charset=utf-8"
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def handler(request):
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return Route(path, handler)


# ---------------------------------------------------------------------------------------------
# What every request passes
# ---------------------------------------------------------------------------------------------

class Gate(object):
    """Around the application: host, token, number of requests, figures, headers, errors."""

    def __init__(self, app, engine, token, hosts):
        self._app, self._engine, self._token, self._hosts = app, engine, token, hosts
        self._under_way = 0
        self._known = frozenset(route.path for route in app.routes)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("%s is not served" % scope["type"])
        started, status = time.perf_counter(), [None]

        async def send_noting(message):
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] = self._with_security(scope["path"], message["headers"])
            await send(message)

        self._under_way += 1
        self._engine.figures.under_way.inc()
        try:
            await self._passed(scope)(scope, receive, send_noting)
        except Exception as error:  # noqa: BLE001 - told without the texts, which it may quote
            console.say("ERROR: %s while answering %s" % (_kinds(error), self._endpoint(scope)))
            if status[0] is None:
                await (await _failure(None, error))(scope, receive, send_noting)
        finally:
            self._under_way -= 1
            self._engine.figures.under_way.dec()
            self._engine.figures.request_done(self._endpoint(scope), status[0] or 499,
                                              time.perf_counter() - started)

    def _passed(self, scope):
        """Returns the application, or what refuses the request."""
        if self._hosts is not None and not is_called_by(_host_of(scope), self._hosts):
            return _json({"error": "this name in the header Host is not of this machine; the "
                          "service takes it with --allowed_hosts"}, 421)
        if scope["path"] in OPEN:
            return self._app
        if self._token is not None and not self._bears_token(scope):
            return _json({"error": "the header Authorization: Bearer TOKEN is missing or its token "
                          "is wrong"}, 401, {"WWW-Authenticate": "Bearer"})
        if self._under_way > self._engine.limits.requests:
            return _json({"error": "too many requests are under way; ask again later"}, 429,
                         {"Retry-After": str(RETRY_AFTER)})
        return self._app

    def _bears_token(self, scope):
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)

    def _endpoint(self, scope):
        """Returns the path's pattern; one word for all that are unknown, so that they are few."""
        path = scope["path"]
        if path in self._known:
            return path
        if path.startswith("/v1/models/"):
            return "/v1/models/{name}" + (":predict" if path.endswith(":predict") else "")
        return "other"

    @staticmethod
    def _with_security(path, headers):
        cached = path in PAGES
        return list(headers) + SECURITY_HEADERS + (
            [] if cached else [(b"cache-control", b"no-store")])


def _host_of(scope):
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"),
                "")


def is_called_by(host, names):
    """Whether a header Host is an address or name of this machine itself, or one of `names`.

    Without the header it is no browser that calls. The port does not matter.

    >>> is_called_by("localhost:8501", []), is_called_by("[::1]:8501", [])
    (True, True)
    >>> is_called_by("example.com", []), is_called_by("example.com", ["example.com"])
    (False, True)
    """
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::[0-9]*)?", host.strip().lower())
    if not found:
        return False
    name = (found.group(1) or found.group(2) or "").rstrip(".")
    if not name and not host.strip() or name == "localhost" or name in names:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _kinds(error):
    """Returns the names of an error and of what caused it."""
    names = []
    while error is not None and len(names) < 5:
        names.append(type(error).__name__)
        error = error.__cause__
    return " from ".join(names)
