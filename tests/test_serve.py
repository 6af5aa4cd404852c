"""The service: what it answers, what it refuses, that nothing ends it but a signal."""

import argparse
import asyncio
import contextlib
import doctest
import importlib.util
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import helpers
import numpy as np
import pytest
from conftest import ROOT
from test_inference import make_folder, write

import serve
from errors import UserError

NEEDED = ("starlette", "uvicorn", "httptools", "pydantic", "prometheus_client", "httpx")
HAS_ALL = sys.version_info >= (3, 9) and all(map(importlib.util.find_spec, NEEDED))
needs_packages = pytest.mark.skipif(
    not HAS_ALL, reason="the service needs Python 3.9 and requirements/serve.txt")

if HAS_ALL:
    import httpx
    import service
    import service_connections
    from services import BATCHING, LIMITS, TOKENS, make_engine, make_predictor, running

    import similarity


def load_benchmark(name):
    spec = importlib.util.spec_from_file_location(
        name + "_benchmark", os.path.join(ROOT, "benchmarks", name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz_service = load_benchmark("fuzz_service")
serve_benchmark = load_benchmark("serve")


# ---------------------------------------------------------------------------------------------
# What is checked before it starts
# ---------------------------------------------------------------------------------------------

def test_a_missing_package_is_named(monkeypatch):
    """Also the first and only run of the script without its packages, on Python 3.7 too."""
    if sys.version_info >= (3, 9):
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        for name in ("service", "service_connections"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(UserError, match="package .*: pip install -r requirements/serve.txt"):
            serve.load_service()
    else:
        helpers.assert_user_error(helpers.run_script("serve.py", "--model_dir=x"),
                                  "Python 3.9 or newer", "ALBERT_TF=2", "this is Python 3.7")


def test_a_token_comes_from_a_file_or_the_environment(tmp_path):
    path = str(tmp_path / "token")
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert serve.read_token(None, {}) is None
    assert serve.read_token(path, {}) == b"0123456789abcdef"
    assert serve.read_token(None, {"ALBERT_ZH_TOKEN": "f" * 16}) == b"f" * 16
    for wrong in ("short", "with a blank in it", "\u5929" * 20, ""):
        with pytest.raises(UserError, match="ALBERT_ZH_TOKEN: a token has at least 16"):
            serve.read_token(None, {"ALBERT_ZH_TOKEN": wrong})
    with pytest.raises(UserError, match="--token_file=.* does not exist"):
        serve.read_token(path + "x", {})


def test_an_address_in_use_is_named():
    taken = serve.bind("127.0.0.1", 0)
    taken.listen()
    with pytest.raises(UserError, match="--host=127.0.0.1 --port=[0-9]+: .*name another port"):
        serve.bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="--host=no.such.host.invalid is no address"):
        serve.bind("no.such.host.invalid", 0)
    taken.close()


@needs_packages
@pytest.mark.parametrize("flag, fragment", [
    ("--port=70000", "--port=70000 is out of range: 0 to 65535"),
    ("--max_batch=0", "--max_batch=0 is out of range"),
    ("--max_queue=10", "--max_queue=10 does not hold one request"),
    ("--model_name=a/b", "--model_name=a/b does not fit into an address"),
    ("--model_dir=/nowhere", "--model_dir=/nowhere is no folder")])
def test_wrong_flags_are_named(flag, fragment):
    handlers = [(name, signal.getsignal(name)) for name in (signal.SIGTERM, signal.SIGINT)]
    try:
        helpers.assert_user_error(helpers.run_here(serve, "--port=0", flag), fragment)
    finally:
        for name, handler in handlers:
            signal.signal(name, handler)


# ---------------------------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------------------------

def call(app, method, path, data=None, headers=None, content=None):
    """Sends one request to an application in this process; returns the response."""
    async def send():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            if data is not None:
                return await client.request(method, path, json=data, headers=headers)
            return await client.request(method, path, content=content, headers=headers)
    return asyncio.run(send())


def post(app, path, data):
    response = call(app, "POST", path, data)
    return response.status_code, response.json()


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    """{classes: Predictor}."""
    if not HAS_ALL:
        pytest.skip("the service needs requirements/serve.txt")
    with contextlib.ExitStack() as stack:
        yield {classes: stack.enter_context(make_predictor(
            tmp_path_factory.mktemp("model%d" % classes), classes, labels))
            for classes, labels in [(0, None), (2, ["0", "1"]), (3, ["天", "地", "人"])]}


@pytest.fixture(scope="module")
def apps(predictors):
    """{classes: application}."""
    engines = {classes: make_engine(predictor) for classes, predictor in predictors.items()}
    yield {classes: service.make_app(engine) for classes, engine in engines.items()}
    for engine in engines.values():
        engine.close()


PAIRS = [["天地", "人"], ["大小", "多少人天地"], ["", "天"]]
TEXTS = ["天地", ["人", "大小多少"], "日月水火山石" * 8]


@needs_packages
def test_similarity(apps, predictors):
    status, answer = post(apps[2], "/v1/similarity", {"pairs": PAIRS})
    assert status == 200 and (answer["method"], answer["label"]) == ("classifier", "1")
    np.testing.assert_allclose(answer["similarities"], predictors[2].probabilities(PAIRS)[:, 1],
                               atol=2e-6)
    status, answer = post(apps[0], "/v1/similarity", {"pairs": PAIRS})
    assert status == 200 and (answer["method"], answer["label"]) == ("cosine", None)
    vectors = predictors[0].vectors([text for pair in PAIRS for text in pair])
    np.testing.assert_allclose(
        answer["similarities"], similarity.cosine_similarity(vectors[0::2], vectors[1::2]),
        atol=2e-6)
    assert post(apps[2], "/v1/similarity", {"pairs": PAIRS, "method": "cosine"})[1][
        "method"] == "cosine"
    assert post(apps[3], "/v1/similarity", {"pairs": PAIRS})[1]["method"] == "cosine"


@needs_packages
def test_classify(apps, predictors):
    status, answer = post(apps[3], "/v1/classify", {"texts": TEXTS})
    assert status == 200 and answer["labels"] == ["天", "地", "人"]
    expected = predictors[3].probabilities(TEXTS)
    for result, row in zip(answer["results"], expected):
        np.testing.assert_allclose(result["probabilities"], row, atol=2e-6)
        assert result["label"] == answer["labels"][int(np.argmax(row))]
        assert result["probability"] == max(result["probabilities"])


@needs_packages
def test_embed(apps, predictors):
    status, answer = post(apps[0], "/v1/embed", {"texts": TEXTS})
    assert status == 200 and answer["dimensions"] == 16
    np.testing.assert_allclose(answer["vectors"], predictors[0].vectors(TEXTS), atol=2e-6)
    status, answer = post(apps[2], "/v1/embed", {
        "texts": TEXTS, "layers": [-1.0, 0], "pooling": "max", "normalize": True})
    assert status == 200 and answer["dimensions"] == 32
    expected = predictors[2].vectors(TEXTS, (-1, 0), "max")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(answer["vectors"], expected, atol=2e-6)


@needs_packages
def test_fill_mask(apps, predictors):
    texts = ["天[MASK]人", ["[MASK]地[MASK]", "人"]]
    status, answer = post(apps[0], "/v1/fill-mask", {"texts": texts, "top": 3})
    assert status == 200
    for found, expected in zip(answer["results"], predictors[0].masked_words(texts, 3)):
        assert [[word["word"] for word in mask] for mask in found] == [
            [word for word, _ in mask] for mask in expected]
        np.testing.assert_allclose([[word["probability"] for word in mask] for mask in found],
                                   [[number for _, number in mask] for mask in expected], atol=2e-6)
    # More words than the vocabulary has are all of it.
    assert len(post(apps[0], "/v1/fill-mask", {"texts": ["[MASK]"], "top": 50})[1][
        "results"][0][0]) == 50


@needs_packages
def test_predict_is_what_users_of_tensorflow_serving_know(apps, predictors):
    data = {"instances": ["天地", ["人", "大小多少"], {"text_a": "天"},
                          {"text_a": "人", "text_b": "大小多少"}],
            "signature_name": "serving_default"}
    texts = ["天地", ("人", "大小多少"), "天", ("人", "大小多少")]
    status, answer = post(apps[3], "/v1/models/albert_zh:predict", data)
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], predictors[3].probabilities(texts), atol=2e-6)
    status, answer = post(apps[0], "/v1/models/albert_zh:predict", data)
    np.testing.assert_allclose(answer["predictions"], predictors[0].vectors(texts), atol=2e-6)
    # curl -d, as TensorFlow Serving's documentation has it, declares a form
    response = call(apps[3], "POST", "/v1/models/albert_zh:predict", content=json.dumps(data),
                    headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert response.status_code == 200
    assert call(apps[3], "GET", "/v1/models/albert_zh").json() == {"model_version_status": [{
        "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
    for method, path in (("POST", "/v1/models/other:predict"), ("GET", "/v1/models/other")):
        response = call(apps[3], method, path, data if method == "POST" else None)
        assert response.status_code == 404 and "albert_zh" in response.json()["error"]


@needs_packages
def test_predict_takes_ids_as_an_exported_model_does(apps, predictors):
    text = {"input_ids": [2, 5, 6, 3]}
    pair = {"input_ids": [2, 7, 3, 8, 9, 3], "segment_ids": [0, 0, 0, 1, 1, 1]}
    padded = {"input_ids": [2, 5, 6, 3, 0, 0], "input_mask": [1, 1, 1, 1, 0, 0],
              "segment_ids": [0] * 6}
    status, answer = post(apps[3], "/v1/models/albert_zh:predict",
                          {"instances": [text, pair, padded, "天地"]})
    assert status == 200
    expected = predictors[3].probabilities(["天地", ("人", "大小")])
    np.testing.assert_allclose(answer["predictions"], expected[[0, 1, 0, 0]], atol=2e-6)


@needs_packages
def test_the_model_tells_what_it_can_do(apps):
    described = {classes: call(app, "GET", "/v1/model").json() for classes, app in apps.items()}
    assert {classes: about["abilities"] for classes, about in described.items()} == {
        0: ["fill-mask", "embed"], 2: ["compare", "classify", "embed"], 3: ["classify", "embed"]}
    assert described[3]["labels"] == ["天", "地", "人"] and described[0]["labels"] == []
    assert described[2]["max_tokens"] == TOKENS and described[2]["limits"]["items"] == LIMITS.items


@needs_packages
@pytest.mark.parametrize("classes, path, data, fragment", [
    (0, "/v1/classify", {"texts": ["天"]}, "no classifier: it is only pre-trained"),
    (0, "/v1/similarity", {"pairs": PAIRS, "method": "classifier"}, "only pre-trained"),
    (3, "/v1/similarity", {"pairs": PAIRS, "method": "classifier"}, "3 classes apart, not two"),
    (2, "/v1/fill-mask", {"texts": ["[MASK]"]}, "cannot fill masks")])
def test_what_the_model_lacks_is_a_conflict(apps, classes, path, data, fragment):
    status, answer = post(apps[classes], path, data)
    assert status == 409 and fragment in answer["error"]


@needs_packages
def test_answers_that_come_together_are_right_all_the_same(predictors):
    engine = make_engine(predictors[2], batching=BATCHING._replace(max_delay=0.02))
    app = service.make_app(engine)
    generator = random.Random(2)
    asked = [[["".join(generator.choices("天地人大小多少", k=generator.randrange(1, 20)))
               for _ in "ab"] for _ in range(generator.randrange(1, 4))] for _ in range(20)]

    async def everybody():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await asyncio.gather(*[client.post("/v1/similarity", json={"pairs": pairs})
                                          for pairs in asked])

    for pairs, response in zip(asked, asyncio.run(everybody())):
        np.testing.assert_allclose(response.json()["similarities"],
                                   predictors[2].probabilities(pairs)[:, 1], atol=2e-6)
    figures = call(app, "GET", "/metrics").text
    batches = float(re.search(r"albert_zh_batch_items_count (\S+)", figures).group(1))
    assert batches < len(asked)  # some were computed together
    engine.close()


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------

@needs_packages
@pytest.mark.parametrize("path, data, reason", [
    ("/v1/similarity", {}, "pairs: Field required"),
    ("/v1/similarity", {"pairs": []}, "pairs: List should have at least 1 item"),
    ("/v1/similarity", {"pairs": [["天"]]}, "pairs[0]: List should have at least 2 items"),
    ("/v1/similarity", {"pairs": [["天", 1]]}, "pairs[0][1]: Input should be a valid string"),
    ("/v1/similarity", {"pairs": PAIRS, "method": "x"}, "method: Input should be 'classifier'"),
    ("/v1/similarity", {"pairs": PAIRS * 6}, "pairs: List should have at most 16 items"),
    ("/v1/embed", {"texts": ["天", 3]},
     "texts[1]: Input should be a valid string, or Input should be a valid list"),
    ("/v1/embed", {"texts": ["天" * 501]}, "texts[0]: String should have at most 500 characters"),
    ("/v1/embed", {"texts": [["天", "地", "人"]]}, "texts[0]: List should have at most 2 items"),
    ("/v1/embed", {"texts": ["天"], "layers": [3]}, "layers[0]: Input should be less than 3"),
    ("/v1/embed", {"texts": ["天"], "layers": [0] * 5}, "layers: List should have at most 4"),
    ("/v1/embed", {"texts": ["天"], "pooling": "sum"}, "pooling: Input should be 'mean'"),
    ("/v1/embed", {"texts": ["天"], "normalize": 1}, "normalize: Input should be a valid boolean"),
    ("/v1/embed", {"texts": ["天"], "text": "天"}, "text: Extra inputs are not permitted"),
    ("/v1/fill-mask", {"texts": ["天"]}, "texts[0]: 0 [MASK]s; 1 to 3 are expected"),
    ("/v1/fill-mask", {"texts": ["[MASK]" * 4]}, "texts[0]: 4 [MASK]s; 1 to 3"),
    ("/v1/fill-mask", {"texts": ["[MASK]", "天" * 60 + "[MASK]"]},
     "item 1: no [MASK] is among the 32 tokens that are read of it"),
    ("/v1/fill-mask", {"texts": ["[MASK]"], "top": 51}, "top: Input should be less than or equal"),
    ("/v1/fill-mask", {"texts": ["[MASK]"], "top": True}, "top: Input should be a valid integer"),
    ("/v1/models/albert_zh:predict", {"instances": [{"text_b": "天"}]}, "instances[0]"),
    ("/v1/models/albert_zh:predict", {"instances": [{"input_ids": []}]}, "instances[0]"),
    ("/v1/models/albert_zh:predict", {"instances": [{"input_ids": [10 ** 6]}]}, "instances[0]"),
    ("/v1/models/albert_zh:predict", {"instances": [{"input_ids": [2] * 1000}]}, "instances[0]"),
    ("/v1/models/albert_zh:predict", {"instances": [
        {"input_ids": [2, 3], "input_mask": [0, 1]}]}, "input_mask"),
    ("/v1/models/albert_zh:predict", {"instances": [
        {"input_ids": [2, 3], "segment_ids": [0]}]}, "segment_ids has 1 numbers"),
    ("/v1/embed", [], "a JSON object is expected"),
])
def test_wrong_fields_are_named(apps, path, data, reason):
    status, answer = post(apps[0], path, data)
    assert status == 422
    assert reason in answer["error"], answer


@needs_packages
@pytest.mark.parametrize("body, reason", [
    (b"", "not valid JSON"), (b'{"texts": ["\xe5"]}', "not UTF-8 (byte 13)"),
    (b'{"texts": NaN}', "NaN is no number"), (b'{"texts": [1], "texts": [1]}', "a key twice"),
    (b"[" * 9000, "nests too deeply"), (b'{"a": %s}' % (b"9" * 5000), "more than 30 digits"),
    (b'{"a": 1.%s}' % (b"9" * 5000), "more than 30 digits"),
    ('{"texts": ["天"]}'.encode("gb18030"), "not UTF-8"),
    ('{"texts": ["天"]}'.encode("utf-16"), "not UTF-8"), (b"{} {}", "not valid JSON")])
def test_what_is_no_json_is_refused(apps, body, reason):
    response = call(apps[0], "POST", "/v1/embed", content=body,
                    headers={"Content-Type": "application/json; charset=utf-8"})
    assert response.status_code == 400 and reason in response.json()["error"]


@needs_packages
@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800"])
def test_half_a_surrogate_pair_is_refused(apps, text):
    for body in ('{"texts": ["%s"]}', '{"%s": 1}'):
        response = call(apps[0], "POST", "/v1/embed", content=(body % text).encode("ascii"),
                        headers={"Content-Type": "application/json"})
        assert response.status_code == 422 and response.json()["error"]


@needs_packages
@pytest.mark.parametrize("headers, status", [
    ({}, 415), ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    ({"Content-Type": "APPLICATION/JSON ; charset=utf-8"}, 200)])
def test_the_type_of_the_body_counts(apps, headers, status):
    response = call(apps[0], "POST", "/v1/embed", content=b'{"texts": ["x"]}', headers=headers)
    assert response.status_code == status


@needs_packages
def test_a_body_is_not_read_beyond_its_limit(apps):
    read = []

    async def parts():
        for _ in range(10000):
            read.append(1)
            yield b" " * 1000

    json_type = {"Content-Type": "application/json"}
    response = call(apps[0], "POST", "/v1/embed", content=parts(), headers=json_type)
    assert response.status_code == 413 and "20000 bytes" in response.json()["error"]
    response = call(apps[0], "POST", "/v1/embed", content=b" " * 20001, headers=json_type)
    assert response.status_code == 413


@needs_packages
def test_other_methods_and_paths(apps):
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"):
        response = call(apps[0], method, "/v1/embed")
        assert response.status_code == 405 and response.headers["allow"] == "POST"
    assert call(apps[0], "POST", "/healthz", {}).status_code == 405
    assert call(apps[0], "GET", "/v1/models/albert_zh:predict").status_code == 405
    for path in ("/nothing", "/v1/embed/", "/page.css/", "/v1", "/%ff"):
        response = call(apps[0], "GET", path)
        assert response.status_code == 404 and response.json() == {"error": "Not Found"}
    response = call(apps[0], "HEAD", "/healthz")
    assert response.status_code == 200 and not response.content


class Stuck(object):
    """A predictor that computes nothing until it may."""

    def __init__(self, predictor):
        self.model, self.may_go, self.calls = predictor.model, threading.Event(), 0

    def vectors(self, texts, *_):
        self.calls += 1
        assert self.may_go.wait(30)
        return np.ones([len(texts), 2], np.float32)

    def probabilities(self, texts):
        raise ValueError("a secret: %s" % texts)


@pytest.fixture
def stuck(predictors):
    return Stuck(predictors[2])


async def _later(client, delay, data):
    await asyncio.sleep(delay)
    return await client.post("/v1/embed", json=data)


def together(app, requests):
    """Sends (delay, data) to /v1/embed at about the same time; returns the responses."""
    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await asyncio.gather(*[_later(client, *request) for request in requests])
    return asyncio.run(send())


@needs_packages
def test_a_full_queue_is_429(stuck):
    engine = make_engine(stuck, batching=BATCHING._replace(max_queue=4, workers=1, max_batch=1))
    app = service.make_app(engine)
    threading.Timer(0.5, stuck.may_go.set).start()
    responses = together(app, [(0, {"texts": ["天"]}), (0.1, {"texts": ["天"] * 4}),
                               (0.2, {"texts": ["天"]})])
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[2].headers["retry-after"] == "1"
    engine.close()


@needs_packages
def test_too_many_requests_are_429_but_health_is_told(stuck):
    engine = make_engine(stuck, LIMITS._replace(requests=1))
    app = service.make_app(engine)
    threading.Timer(0.4, stuck.may_go.set).start()
    responses = together(app, [(0, {"texts": ["天"]}), (0.1, {"texts": ["天"]})])
    assert [response.status_code for response in responses] == [200, 429]
    assert call(app, "GET", "/healthz").json() == {"status": "ok"}
    engine.close()


@needs_packages
def test_no_answer_in_time_is_504_and_what_waits_is_dropped(stuck):
    engine = make_engine(stuck, LIMITS._replace(seconds=0.1),
                         BATCHING._replace(workers=1, max_batch=1))
    app = service.make_app(engine)
    responses = together(app, [(0, {"texts": ["天"]}), (0.02, {"texts": ["天"]})])
    assert [response.status_code for response in responses] == [504, 504]
    stuck.may_go.set()
    assert call(app, "POST", "/v1/embed", {"texts": ["天"]}).status_code == 200
    assert stuck.calls == 2  # the second request was given up before its turn
    engine.close()


@needs_packages
def test_an_unexpected_error_is_told_without_the_texts(stuck, capsys):
    engine = make_engine(stuck)
    app = service.make_app(engine)
    response = call(app, "POST", "/v1/classify", {"texts": ["天地玄黄"]})
    assert response.status_code == 500
    assert response.json() == {"error": "the service failed; its log names the error"}
    said = capsys.readouterr().err
    assert "ERROR: ValueError while answering /v1/classify" in said
    assert "天地" not in said and "secret" not in said
    engine.close()


# ---------------------------------------------------------------------------------------------
# Token, figures, description, page
# ---------------------------------------------------------------------------------------------

@needs_packages
def test_a_token_opens_the_service(predictors, capsys):
    engine = make_engine(predictors[0])
    app = service.make_app(engine, b"0123456789abcdef")
    for path in ("/v1/model", "/metrics", "/v1/models/albert_zh", "/nothing"):
        response = call(app, "GET", path)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/", "/page.js", "/openapi.json"):
        assert call(app, "GET", path).status_code == 200
    for given in ("Bearer wrong", "Bearer", "0123456789abcdef", "Basic 0123456789abcdef",
                  "Bearer 0123456789abcdefg", "Bearer \u00e9", ""):
        assert call(app, "GET", "/v1/model", headers={
            "Authorization": given.encode("latin-1")}).status_code == 401, given
    for given in ("Bearer 0123456789abcdef", "bearer  0123456789abcdef"):
        assert call(app, "GET", "/v1/model", headers={"Authorization": given}).status_code == 200
    document = call(app, "GET", "/openapi.json").json()
    assert document["paths"]["/v1/embed"]["post"]["security"] == [{"token": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "0123456789abcdef" not in "".join(capsys.readouterr())
    engine.close()


@needs_packages
def test_only_this_machines_names_are_answered_where_nothing_else_protects(predictors):
    engine = make_engine(predictors[0])
    app = service.make_app(engine, hosts=["model.example.com"])
    for host, status in [("localhost", 200), ("LocalHost:8501", 200), ("127.0.0.1:8501", 200),
                         ("127.0.0.2", 200), ("[::1]:8501", 200), ("model.example.com:80", 200),
                         ("Model.Example.com.", 200), ("evil.example.com", 421),
                         ("127.0.0.1.example.com", 421), ("10.0.0.1:8501", 421),
                         ("localhost@example.com", 421), (":8501", 421), ("[", 421)]:
        for path in ("/v1/model", "/", "/healthz"):
            assert call(app, "GET", path, headers={"Host": host}).status_code == status, host
    assert "--allowed_hosts" in call(app, "GET", "/", headers={"Host": "x"}).json()["error"]
    document = call(app, "GET", "/openapi.json", headers={"Host": "localhost"}).json()
    assert "421" in document["paths"]["/v1/embed"]["post"]["responses"]
    engine.close()


@needs_packages
def test_names_of_hosts():
    assert doctest.testmod(service).failed == 0
    assert service.is_called_by("", [])  # HTTP/1.0, which no browser speaks
    values = argparse.Namespace(allowed_hosts=["Model.example.com", "a-b.local."])
    assert serve.hosts_of(values) == ["model.example.com", "a-b.local"]
    for name in ("http://a", "a:80", "", "*"):
        with pytest.raises(UserError, match="--allowed_hosts="):
            serve.hosts_of(argparse.Namespace(allowed_hosts=[name]))


@needs_packages
def test_figures(predictors):
    engine = make_engine(predictors[0])
    app = service.make_app(engine)
    post(app, "/v1/embed", {"texts": TEXTS})
    post(app, "/v1/classify", {"texts": TEXTS})
    for number in range(20):
        call(app, "GET", "/nothing/%d" % number)
        call(app, "POST", "/v1/models/m%d:predict" % number, {})
    figures = call(app, "GET", "/metrics").text
    for line in ('albert_zh_requests_total{endpoint="/v1/embed",status="200"} 1.0',
                 'albert_zh_requests_total{endpoint="/v1/classify",status="409"} 1.0',
                 'albert_zh_requests_total{endpoint="other",status="404"} 20.0',
                 'albert_zh_requests_total{endpoint="/v1/models/{name}:predict",status="404"} 20.0',
                 'albert_zh_items_total{endpoint="/v1/embed"} 3.0', "albert_zh_queue_items 0.0",
                 'albert_zh_request_seconds_count{endpoint="/v1/embed"} 1.0',
                 "albert_zh_requests_under_way 1.0"):  # the one that asks
        assert line in figures, line
    assert "process_resident_memory_bytes" in figures
    engine.close()


@needs_packages
def test_the_description_describes_what_is_taken(apps):
    document = call(apps[0], "GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "get":
                assert call(apps[0], "GET", path).status_code == 200
                continue
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            fields = schemas[name.rpartition("/")[2]]["properties"]
            example = {key: field["examples"][0] for key, field in fields.items()
                       if "examples" in field}
            status, answer = post(apps[0], path, example)
            assert status == (409 if path == "/v1/classify" else 200), (path, answer)
            if status == 200:
                name = operation["responses"]["200"]["content"]["application/json"]["schema"]
                described = schemas[name["$ref"].rpartition("/")[2]]["properties"]
                assert set(answer) == set(described)
    assert schemas["EmbedRequest"]["properties"]["texts"]["maxItems"] == LIMITS.items


@needs_packages
def test_the_page_asks_nobody_else(apps):
    for path in service.PAGES:
        response = call(apps[0], "GET", path)
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|\burl\(|style=|onclick=",
                             response.text), path
        again = call(apps[0], "GET", path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304 and not again.content
    assert call(apps[0], "GET", "/").headers["content-type"] == "text/html; charset=utf-8"
    assert call(apps[0], "GET", "/v1/model").headers["cache-control"] == "no-store"


# ---------------------------------------------------------------------------------------------
# Over real connections
# ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def live(predictors):
    """Address of a service with a model that fills masks."""
    engine = make_engine(predictors[0])
    with running(service.make_app(engine)) as address:
        yield address
    engine.close()


@needs_packages
def test_malformed_requests_are_refused_and_the_service_stays_well(live, capsys):
    statuses, taken = fuzz_service.fuzz(live, 400, seed=20)
    assert not taken, taken[:3]
    assert sum(statuses.values()) == 400
    assert {status for kind, status in statuses if kind == "wrong field"} <= {413, 422}
    kinds = {kind for kind, _ in statuses}
    assert kinds == {"changed bytes", "no HTTP", "no JSON", "wrong chunks", "wrong field",
                     "wrong header", "wrong place"}
    assert "Traceback" not in capsys.readouterr().err


@needs_packages
def test_many_requests_on_one_connection(live):
    with socket.create_connection(live, 30) as connection:
        for turn in range(3):
            connection.sendall(fuzz_service.proper())
            status, body = serve_benchmark._receive(connection)
            assert status == 200 and len(json.loads(body.decode("utf-8"))["vectors"]) == 1, turn
        connection.sendall(fuzz_service.proper() + fuzz_service.proper())  # pipelined
        stream = b""
        while stream.count(b"HTTP/1.1 200 OK") < 2 or not stream.endswith(b"}"):
            stream += connection.recv(65536)


@needs_packages
def test_slow_and_large_headers_end_the_connection(live, monkeypatch):
    monkeypatch.setattr(service_connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(service, "BODY_SECONDS", 0.3)
    answers = []
    for data in (b"", b"GET /healthz HTTP/1.1\r\nHost",
                 b"GET /healthz HTTP/1.1\r\nA: " + b"a" * 40000, fuzz_service.proper()[:-5]):
        with socket.create_connection(live, 30) as connection:
            connection.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while True:
                    part = connection.recv(65536)
                    if not part:
                        break
                    received += part
            answers.append(received[9:12])
    assert answers == [b"", b"408", b"431", b"408"]


@needs_packages
def test_too_many_connections_are_refused(live, monkeypatch):
    monkeypatch.setattr(service_connections, "MOST", 2)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(live, 30)) for _ in range(3)]
        assert connections[2].recv(100).startswith(b"HTTP/1.1 429 Too Many Requests")
        connections[0].sendall(fuzz_service.proper())
        assert connections[0].recv(100).startswith(b"HTTP/1.1 200 OK")


@needs_packages
def test_a_process_answers_what_it_accepted_and_ends(tmp_path):
    """serve.py as users start it: it serves, warns, and SIGTERM lets requests finish."""
    folder = make_folder(tmp_path / "model")
    process = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "serve.py"), "--model_dir=" + folder, "--port=0",
         "--host=0.0.0.0", "--max_delay_ms=1000", "--model_name=pairs"], stderr=subprocess.PIPE)
    try:
        said = []
        while "Serving at" not in "".join(said):
            line = process.stderr.readline().decode("utf-8")
            assert line, said
            said.append(line)
        assert "WARNING: everyone who reaches 0.0.0.0 can use the model" in said[0]
        address = ("127.0.0.1", int(re.search(r":(\d+)/", said[-1]).group(1)))
        idle = socket.create_connection(address, 30)
        body = json.dumps({"pairs": PAIRS}).encode("ascii")
        with socket.create_connection(address, 30) as connection:
            connection.sendall(b"POST /v1/similarity HTTP/1.1\r\nHost: x\r\nContent-Type: "
                               b"application/json\r\nContent-Length: %d\r\n\r\n%s"
                               % (len(body), body))
            time.sleep(0.3)  # accepted, and waiting for company for a second
            process.send_signal(signal.SIGTERM)
            status, answer = serve_benchmark._receive(connection)
        assert status == 200 and len(json.loads(answer.decode("utf-8"))["similarities"]) == 3
        assert idle.recv(10) == b""
        assert process.wait(30) == 0
        rest = process.stderr.read().decode("utf-8")
        assert rest == "Ended; all that was accepted is answered\n"
        with pytest.raises(OSError):
            socket.create_connection(address, 5)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


# ---------------------------------------------------------------------------------------------
# The benchmarks and the container
# ---------------------------------------------------------------------------------------------

@needs_packages
def test_the_benchmark_measures_and_compares(tmp_path, monkeypatch, predictors):
    class Service(serve_benchmark.Service):
        """The service of this process."""

        def __init__(self, _, settings):
            self._process = argparse.Namespace(pid=os.getpid())
            asked.append(settings)

        address = None

        def stop(self):
            return 0

    asked = []
    monkeypatch.setattr(serve_benchmark, "Service", Service)
    write(tmp_path, "pairs.tsv", "天地\t人\t1\n大小\t多少\t0\n天\t地人大\t1\n")
    engine = make_engine(predictors[2])
    with running(service.make_app(engine)) as address:
        Service.address = address
        status, out, err = helpers.run_here(
            serve_benchmark, "--model_dir=x", "--minutes=0.01", "--rounds=1", "--clients=2",
            "--crowd=4", "--round_seconds=0.2", "--norequire", "--warm_up=0.1",
            "--data_file=%s" % (tmp_path / "pairs.tsv"))
    engine.close()
    assert status == 0, err
    assert asked == [[], ["--max_batch=1", "--max_delay_ms=0"]]
    for fragment in ("4 clients: times as many", "p99 ms", "similarity, 8 pairs", "errors: none",
                     "answers that differ: 0", "MB, in each tenth of the time"):
        assert fragment in out, out


def test_a_benchmark_misses_its_targets():
    good = {"pairs_per_s": 400, "p99_ms": 50, "batching": 2.5, "growth": 0.0}
    assert serve_benchmark.judge(good) == []
    missed = serve_benchmark.judge(dict(good, pairs_per_s=299, p99_ms=101))
    assert missed == ["pairs_per_s is 299, the target is at least 300",
                      "p99_ms is 101, the target is at most 100"]


def read_docker_file():
    with io.open(os.path.join(ROOT, "Dockerfile"), encoding="utf-8") as stream:
        return [line.strip() for line in re.sub(r"\\\n", " ", stream.read()).splitlines()
                if line.strip() and not line.startswith("#")]


def test_the_docker_file_copies_what_exists_and_nothing_else():
    lines = read_docker_file()
    assert re.match(r"FROM python:3\.11\.\d+-slim-[a-z]+$", lines[0]), lines[0]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in ("root", "0")
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]
              if not word.startswith("--")]
    assert copied
    for name in copied:
        assert os.path.exists(os.path.join(ROOT, name)), name
    assert any(line.startswith("HEALTHCHECK") and "/healthz" in line for line in lines)
    assert any(line.startswith("VOLUME") for line in lines)
    text = "\n".join(lines)
    assert not re.search(r"(?i)token=|password|secret|ADD http|:latest|pip install(?!.* -c )", text)


def test_the_container_holds_all_that_the_service_imports_and_nothing_of_estimator(tmp_path):
    """The copied files alone, in an empty folder, are enough to start."""
    copied = [word for line in read_docker_file() if line.startswith("COPY ")
              for word in line.split()[1:-1] if not word.startswith("--")]
    for name in copied:
        os.symlink(os.path.join(ROOT, name), str(tmp_path / os.path.basename(name)))
    # Of a script Python would follow the link to the whole project; of a module it does not.
    code = ("import sys; sys.dont_write_bytecode = True; sys.path.insert(0, %r)\n"
            "import serve; print(serve.__file__)\n%s\n"
            "print({'estimators', 'classifier', 'finetuning'} & set(sys.modules))"
            % (str(tmp_path), "serve.load_service()" if HAS_ALL else ""))
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr.decode("utf-8")
    assert done.stdout.decode("utf-8").split("\n")[:2] == [str(tmp_path / "serve.py"), "set()"]
