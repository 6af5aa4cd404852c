"""Serves a model over HTTP, with a page for people: similarity, classes, vectors, words for masks.

    python serve.py --model_dir=albert_lcqmc_checkpoints
    curl -H 'Content-Type: application/json' http://127.0.0.1:8501/v1/similarity \
         -d '{"pairs": [["我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝"]]}'

The page is at http://127.0.0.1:8501/, all that can be asked at /docs. Requests that come together
are computed together. Ctrl+C or SIGTERM ends it once what was accepted is answered.

Needs Python 3.9 or newer and the packages of requirements/serve.txt.
"""

import ipaddress
import os
import re
import signal
import socket
import sys

import console
import files
import inference
import request_batching
import runtime
from absl import flags
from errors import UserError

FLAGS = flags.FLAGS
TOKEN_VARIABLE = "ALBERT_ZH_TOKEN"
SHORTEST_TOKEN = 16
# How long a thread may keep the interpreter from others: those that compute must not hold up the
# one that talks to clients.
SWITCH_SECONDS = 0.0005


def define_flags():
    flags.DEFINE_string("model_dir", None, "Folder of the model: a fine-tuned or pre-trained "
                        "checkpoint, its configuration and vocabulary.")
    flags.DEFINE_string("ckpt_name", None, "Checkpoint in it; else the best, or the last.")
    flags.DEFINE_bool("do_lower_case", None, "Of a model whose folder does not say it: False if it "
                      "was trained with --do_lower_case=False.")
    flags.DEFINE_string("model_name", "albert_zh", "Name in /v1/models/NAME:predict.")
    flags.DEFINE_integer("max_seq_length", None, "Tokens of a text or pair, at most; longer ones "
                         "are cut. None: as the model was fine-tuned, else 128.")
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0: all of this machine.")
    flags.DEFINE_integer("port", 8501, "Port to listen at; 0: a free one.")
    flags.DEFINE_string("token_file", None, "File with the token that requests must bear "
                        "(Authorization: Bearer ...); or set %s." % TOKEN_VARIABLE)
    flags.DEFINE_list("allowed_hosts", [], "Names in the header Host that are answered beside "
                      "this machine's own, where neither --host nor a token keeps others out: that "
                      "of a reverse proxy.")
    flags.DEFINE_integer("max_batch", 32, "Texts computed together, at most; 1: each by itself.")
    flags.DEFINE_float("max_delay_ms", 2.0, "Milliseconds that a text waits for others to be "
                       "computed with, at most.")
    flags.DEFINE_integer("workers", None, "Batches computed at the same time; none: one a CPU for "
                         "a narrow model, else one.")
    flags.DEFINE_integer("max_queue", 1024, "Texts that may wait; beyond, the answer is 429.")
    flags.DEFINE_integer("max_requests", 256, "Requests under way; beyond, the answer is 429.")
    flags.DEFINE_integer("max_items", 256, "Texts or pairs in one request.")
    flags.DEFINE_integer("max_text_chars", 2000, "Characters of one text.")
    flags.DEFINE_integer("max_body_kb", 1024, "Kilobytes of one request.")
    flags.DEFINE_float("timeout", 30.0, "Seconds for an answer; beyond, it is 504.")
    flags.DEFINE_enum("precision", "float32", inference.PRECISIONS, "Of matrix products; bfloat16 "
                      "is faster on CPUs that have it.")
    flags.DEFINE_float("gpu_memory_fraction", None, "Share of a GPU's memory to take at most.")


# ---------------------------------------------------------------------------------------------
# What is checked before the model is loaded
# ---------------------------------------------------------------------------------------------

def load_service():
    """Returns the modules service, service_api and uvicorn.

    Raises:
        UserError: they, or this Python, are not what is needed.
    """
    if sys.version_info < (3, 9):
        raise UserError("the service needs Python 3.9 or newer, and TensorFlow 2.15, which "
                        "ALBERT_TF=2 gives; this is Python %d.%d" % sys.version_info[:2])
    try:
        import service
        import service_api
        import service_connections
        import uvicorn
    except ImportError as error:
        if error.name and os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                      error.name + ".py")):
            raise
        raise UserError("the service needs the package %s: pip install -r requirements/serve.txt "
                        "-c requirements/constraints-tf2.txt" % error.name) from error
    return service, service_api, service_connections, uvicorn


def read_token(token_file, environ):
    """Returns the token as bytes, or None where none is set.

    Raises:
        UserError: it is too short, or holds what a header cannot.
    """
    source, token = TOKEN_VARIABLE, environ.get(TOKEN_VARIABLE)
    if token_file:
        files.require_file(token_file, "token_file")
        source = "--token_file=" + token_file
        token = "\n".join(line for _, line in files.read_lines(token_file)).strip()
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not all("!" <= char <= "~" for char in token):
        raise UserError("%s: a token has at least %d characters, all of them visible ASCII; for "
                        "example: openssl rand -hex 32" % (source, SHORTEST_TOKEN))
    return token.encode("ascii")


def hosts_of(values):
    """Returns the names of --allowed_hosts, without ports, as the header Host is compared."""
    names = [name.strip().lower().rstrip(".") for name in values.allowed_hosts]
    for name in names:
        if not re.fullmatch("[a-z0-9._-]+", name):
            raise UserError("--allowed_hosts=%s: names such as model.example.com, without http:// "
                            "and port, are expected" % ",".join(values.allowed_hosts))
    return names


def bind(host, port):
    """Returns a socket bound to an address, not yet listening.

    Raises:
        UserError: the address is unknown, not this machine's, or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UserError("--host=%s is no address: %s" % (host, error)) from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UserError("cannot listen at --host=%s --port=%d: %s; name another port, or end what "
                        "uses it" % (host, port, error.strerror)) from error
    return bound


def _require_in_range(values):
    for name, least, most in (
            ("port", 0, 65535), ("max_batch", 1, 4096), ("max_delay_ms", 0, 1000),
            ("workers", 1, 256), ("max_queue", 1, 1 << 20), ("max_requests", 1, 1 << 16),
            ("max_items", 1, 1 << 16), ("max_text_chars", 1, 1 << 20), ("max_body_kb", 1, 1 << 20),
            ("timeout", 0.1, 3600)):
        value = getattr(values, name)
        if value is not None and not least <= value <= most:
            raise UserError("--%s=%g is out of range: %g to %g" % (name, value, least, most))
    # An embedding of a pair takes two places.
    if values.max_queue < 2 * values.max_items:
        raise UserError("--max_queue=%d does not hold one request of --max_items=%d pairs: at "
                        "least %d" % (values.max_queue, values.max_items, 2 * values.max_items))
    if not values.model_name or any(char in "/:?#%{}" or not "!" <= char <= "~"
                                    for char in values.model_name):
        raise UserError("--model_name=%s does not fit into an address: use letters, digits, - and "
                        "_" % values.model_name)


# ---------------------------------------------------------------------------------------------
# Serving
# ---------------------------------------------------------------------------------------------

def _load(values):
    """Returns (Predictor, ready; tokens of a text, at most)."""
    inference.require_precision(values.precision)  # before it reads large files
    model = inference.read_folder(values.model_dir, ckpt_name=values.ckpt_name,
                                  do_lower_case=values.do_lower_case)
    length = (values.max_seq_length or model.max_seq_length
              or min(128, model.config.max_position_embeddings))
    predictor = inference.Predictor(model, max_seq_length=length,
                                    gpu_memory_fraction=values.gpu_memory_fraction,
                                    precision=values.precision)
    predictor.warm_up()
    return predictor, length


def _workers(values, model):
    if values.workers:
        return values.workers
    return (os.cpu_count() or 1) if inference.threads_for(model.config) == 1 else 1


def _stop(*_):
    """What a signal does before and after uvicorn takes care of it."""
    raise SystemExit(0)


def server_config(app, seconds, uvicorn, connection_class):
    """Returns the uvicorn.Config of the service.

    Args:
        app: ASGI application; seconds: for an answer, at most; uvicorn: the module;
        connection_class: protocol of a connection.
    """
    return uvicorn.Config(
        app, http=connection_class, ws="none", lifespan="off", loop="asyncio",
        access_log=False, log_config=None, log_level="critical", server_header=False,
        proxy_headers=False, timeout_keep_alive=75, backlog=512,
        timeout_graceful_shutdown=int(seconds) + 15)


def main(_):
    service, service_api, service_connections, uvicorn = load_service()
    _require_in_range(FLAGS)
    token = read_token(FLAGS.token_file, os.environ)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, _stop)
    bound = bind(FLAGS.host, FLAGS.port)
    predictor, length = _load(FLAGS)
    sys.setswitchinterval(SWITCH_SECONDS)
    limits = service_api.DEFAULTS._replace(
        body_bytes=FLAGS.max_body_kb << 10, items=FLAGS.max_items,
        text_chars=FLAGS.max_text_chars, requests=FLAGS.max_requests, seconds=FLAGS.timeout)
    batching = request_batching.Settings(FLAGS.max_batch, FLAGS.max_delay_ms / 1e3,
                                         FLAGS.max_queue, _workers(FLAGS, predictor.model))
    engine = service.Engine(predictor, FLAGS.model_name, length, batching, limits)
    host, port = bound.getsockname()[:2]
    is_local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    app = service.make_app(engine, token, hosts_of(FLAGS) if is_local and token is None else None)
    if token is None and not is_local:
        console.say("WARNING: everyone who reaches %s can use the model: no token is asked for; "
                    "set one with --token_file, or listen at 127.0.0.1" % host)
    console.say("Model: %s (%s)" % (predictor.model.checkpoint,
                                    ", ".join(engine.describe()["abilities"])))
    bound.listen()  # who comes from here on is answered once uvicorn has started
    console.say("Serving at http://%s:%d/ (Ctrl+C ends it)"
                % ("[%s]" % host if ":" in host else host, port))
    try:
        # uvicorn takes signals from here on: it answers what was accepted, then returns.
        uvicorn.Server(server_config(app, FLAGS.timeout, uvicorn,
                                     service_connections.BoundedConnection)).run(sockets=[bound])
    finally:
        engine.close()
        predictor.close()
        console.say("Ended; all that was accepted is answered")


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
