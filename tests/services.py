"""A service in this process, over real connections, for tests that need one."""

import contextlib
import threading
import time

import pytest
from test_inference import make_folder

for _package in ("starlette", "uvicorn", "httptools", "pydantic", "prometheus_client"):
    pytest.importorskip(_package, reason="the service needs requirements/serve.txt")

import uvicorn  # noqa: E402 - after the checks

import inference  # noqa: E402
import request_batching  # noqa: E402
import serve  # noqa: E402
import service  # noqa: E402
import service_api  # noqa: E402
import service_connections  # noqa: E402

BATCHING = request_batching.Settings(max_batch=8, max_delay=0.001, max_queue=64, workers=2)
LIMITS = service_api.DEFAULTS._replace(body_bytes=20000, items=16, text_chars=500, masks=3)
TOKENS = 32  # that the small model reads


def make_predictor(folder, classes, labels=None):
    """Returns a small predictor; without classes one that fills masks."""
    told = None if labels is None else {"labels": labels}
    return inference.Predictor(inference.read_folder(make_folder(folder, classes=classes,
                                                                 told=told)))


def make_engine(predictor, limits=LIMITS, batching=BATCHING):
    return service.Engine(predictor, "albert_zh", TOKENS, batching, limits)


@contextlib.contextmanager
def running(app):
    """Serves an application; yields (host, port)."""
    bound = serve.bind("127.0.0.1", 0)
    server = uvicorn.Server(serve.server_config(
        app, 5, uvicorn, service_connections.BoundedConnection))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    waited = time.time() + 30
    while not server.started and time.time() < waited:
        time.sleep(0.01)
    try:
        yield bound.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
