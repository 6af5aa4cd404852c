"""What the service takes and gives: strict JSON, checked by the models that also describe it.

Needs pydantic (requirements/serve.txt) and Python 3.9 or newer.
"""

import collections
import json
from typing import Annotated, List, Literal, Optional, Union

import heads
from pydantic import (
    AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError,
    WithJsonSchema, model_validator)
from pydantic.json_schema import models_json_schema

MOST_DIGITS = 30  # of a number: longer ones take long to read, and none of ours is that long
MOST_LAYERS = 4  # whose vectors may be joined
SHOWN = 300  # characters of a reason
BEARER = {"type": "http", "scheme": "bearer"}

Limits = collections.namedtuple("Limits", [
    "body_bytes", "items", "text_chars", "masks", "words", "requests", "seconds"])
Limits.__doc__ = """What a request may ask for.

body_bytes: of a request; items: texts or pairs in it; text_chars: of one text; masks: [MASK]s in
one text; words: that are told for a mask; requests: under way at the same time; seconds: for the
answer."""
DEFAULTS = Limits(body_bytes=1 << 20, items=256, text_chars=2000, masks=8, words=50, requests=256,
                  seconds=30.0)

Sizes = collections.namedtuple("Sizes", ["layers", "tokens", "words", "segments"])
Sizes.__doc__ = """What a model takes.

layers: it has; tokens: of a text or pair, at most; words: of the vocabulary; segments: types of
segments."""

Endpoint = collections.namedtuple("Endpoint", ["path", "asks", "answers", "summary"])
Endpoint.__doc__ = """A path that takes a JSON object by POST.

asks, answers: pydantic models of request and response; summary: one line."""


class RefusedError(Exception):
    """A request that is not answered.

    status: of HTTP; reason: for the one who asked; headers: dict of further ones.
    """

    def __init__(self, status, reason, headers=None):
        super(RefusedError, self).__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------

def read_json(body):
    """Reads one JSON document as RFC 8259 and 7493 have it.

    Args:
        body: bytes.

    Raises:
        RefusedError: it is not UTF-8 or not JSON, names a key twice, nests too deeply, or has NaN,
            infinity or a number that is too long.
    """
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant,
                          parse_int=_integer, parse_float=_fraction)
    except UnicodeDecodeError as error:
        raise RefusedError(400, "the body is not UTF-8 (byte %d)" % (error.start + 1)) from error
    except RecursionError as error:
        raise RefusedError(400, "the body is not valid JSON: it nests too deeply") from error
    except ValueError as error:
        raise RefusedError(400, "the body is not valid JSON: %s" % str(error)[:SHOWN]) from error


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _constant(name):
    raise ValueError("%s is no number of JSON" % name)


def _integer(text):
    return int(_bounded(text))


def _fraction(text):
    number = float(_bounded(text))
    return int(number) if number.is_integer() else number  # to JSON Schema, 1.0 is an integer


def _bounded(text):
    if len(text) > MOST_DIGITS:
        raise ValueError("a number has more than %d digits" % MOST_DIGITS)
    return text


def read(model, body):
    """Reads and checks a request.

    Args:
        model: pydantic model; body: bytes.

    Returns:
        an instance of the model.

    Raises:
        RefusedError: names the field at fault.
    """
    data = read_json(body)
    if not isinstance(data, dict):
        raise RefusedError(422, "a JSON object is expected")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RefusedError(422, _reason(error)) from error


def _reason(error):
    """Returns the first fault that pydantic found as `texts[3]: why`.

    Of something that may be of several types there is a fault for each; those count that say more
    than that the type is another one.
    """
    faults = error.errors(include_url=False, include_input=False)
    place = faults[0]["loc"][:2]
    here = [fault for fault in faults if fault["loc"][:2] == place]
    telling = [fault for fault in here if not fault["type"].endswith("_type")]
    if telling or len(here) == 1:
        fault = (telling or here)[0]
        return ("%s: %s" % (_shown(fault["loc"]),
                            fault["msg"].replace("Value error, ", "", 1)))[:SHOWN]
    reasons = list(dict.fromkeys(fault["msg"] for fault in here))
    return ("%s: %s" % (_shown(place), ", or ".join(reasons)))[:SHOWN]


def _shown(location):
    """_shown(("texts", 3, "str")) == "texts[3]"; the name of a field itself has no place."""
    path = str(location[0])[:80] if location else "a name"
    return path + "".join("[%d]" % part for part in location[1:] if isinstance(part, int))


# ---------------------------------------------------------------------------------------------
# The models
# ---------------------------------------------------------------------------------------------

class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorAnswer(BaseModel):
    """Why a request was refused."""
    error: str


class SimilarityAnswer(BaseModel):
    """Numbers in the order of the pairs.

    classifier: the probability of the class `label`; cosine: of the angle between mean vectors.
    """
    method: Literal["classifier", "cosine"]
    label: Optional[str]
    similarities: List[float]


class Classified(BaseModel):
    """The most probable label, and all probabilities in the order of `labels`."""
    label: str
    probability: float
    probabilities: List[float]


class ClassifyAnswer(BaseModel):
    """Labels in class order, results in the order of the texts."""
    labels: List[str]
    results: List[Classified]


class EmbedAnswer(BaseModel):
    """A vector for each text."""
    dimensions: int
    vectors: List[List[float]]


class Word(BaseModel):
    """A word for a mask."""
    word: str
    probability: float


class FillMaskAnswer(BaseModel):
    """For each text, for each of its masks: words, the most probable first."""
    results: List[List[List[Word]]]


class PredictAnswer(BaseModel):
    """As TensorFlow Serving answers: one row an instance."""
    predictions: List[List[float]]


def endpoints(limits, sizes):
    """Returns {name: Endpoint}, their requests bounded.

    Args:
        limits: Limits; sizes: Sizes of the model.
    """
    layers = sizes.layers
    text = Annotated[str, Field(max_length=limits.text_chars)]
    pair = Annotated[List[text], Field(min_length=2, max_length=2)]
    text_or_pair = Union[text, pair]

    def listed(item):
        return Annotated[List[item], Field(min_length=1, max_length=limits.items)]

    def has_masks(value):
        masks = sum(part.count("[MASK]") for part in ([value] if isinstance(value, str) else value))
        if not 1 <= masks <= limits.masks:
            raise ValueError("%d [MASK]s; 1 to %d are expected" % (masks, limits.masks))
        return value

    with_mask = {"type": "string", "pattern": r"\[MASK\]"}
    any_text = {"type": "string", "maxLength": limits.text_chars}
    masked = Annotated[text_or_pair, AfterValidator(has_masks), WithJsonSchema({"anyOf": [
        dict(any_text, **with_mask),
        {"type": "array", "items": any_text, "minItems": 2, "maxItems": 2,
         "contains": with_mask}]})]
    layer = Annotated[int, Field(ge=-layers, lt=layers)]
    before_last = [max(-2, -layers)]

    class SimilarityRequest(_Asked):
        """Pairs of texts."""
        pairs: listed(pair) = Field(
            examples=[[["我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝"]]])
        method: Optional[Literal["classifier", "cosine"]] = Field(
            None, description="classifier, where the model tells two classes apart, else cosine, "
            "unless said otherwise")

    class ClassifyRequest(_Asked):
        """Texts, or pairs of texts."""
        texts: listed(text_or_pair) = Field(examples=[["股市大涨", ["天气好", "天气不错"]]])

    class EmbedRequest(_Asked):
        """Texts, or pairs of texts."""
        texts: listed(text_or_pair) = Field(examples=[["股市大涨"]])
        layers: Annotated[List[layer], Field(min_length=1, max_length=MOST_LAYERS)] = Field(
            before_last, description="0 the first, -1 the last; the vectors of several are "
            "joined")
        pooling: Literal[heads.POOLINGS] = Field(
            "mean", description="mean or maximum over all tokens, or the first token")
        normalize: bool = Field(False, description="make every vector's length 1")

    class FillMaskRequest(_Asked):
        """Texts, or pairs of texts, each with [MASK] where words are wanted."""
        texts: listed(masked) = Field(examples=[["今天天[MASK]很好"]])
        top: int = Field(5, ge=1, le=limits.words, description="words for a mask")

    return {
        "similarity": Endpoint("/v1/similarity", SimilarityRequest, SimilarityAnswer,
                               "How alike are two texts?"),
        "classify": Endpoint("/v1/classify", ClassifyRequest, ClassifyAnswer,
                             "Which class does a text belong to?"),
        "embed": Endpoint("/v1/embed", EmbedRequest, EmbedAnswer, "Vectors of texts"),
        "fill-mask": Endpoint("/v1/fill-mask", FillMaskRequest, FillMaskAnswer,
                              "Which words may stand where a text says [MASK]?"),
        "predict": Endpoint("/v1/models/{name}:predict",
                            _predict_request(text, pair, listed, sizes), PredictAnswer,
                            "The same as TensorFlow Serving: probabilities, or else vectors"),
    }


def _instance_kind(value):
    """Tells the objects apart that an instance of `:predict` may be."""
    return "ids" if isinstance(value, dict) and "input_ids" in value else "text"


def _predict_request(text, pair, listed, sizes):
    """Returns the model of what TensorFlow Serving is asked.

    Args:
        text, pair: types; listed: function of a type to that of a list of it; sizes: Sizes.
    """
    def numbers(most):
        return Annotated[List[Annotated[int, Field(ge=0, lt=most)]],
                         Field(min_length=1, max_length=sizes.tokens)]

    class TextInstance(_Asked):
        """A text or a pair of texts by name."""
        text_a: text
        text_b: Optional[text] = None

    class TokenInstance(_Asked):
        """A text as ids, as an exported model takes it: [CLS] and [SEP] included.

        What input_mask has 0 for, at the end, is padding. segment_ids are 0 if there are none.
        """
        input_ids: numbers(sizes.words)
        input_mask: Optional[numbers(2)] = None
        segment_ids: Optional[numbers(sizes.segments)] = None

        @model_validator(mode="after")
        def _fit(self):
            for name in ("input_mask", "segment_ids"):
                given = getattr(self, name)
                if given is not None and len(given) != len(self.input_ids):
                    raise ValueError("%s has %d numbers, input_ids %d"
                                     % (name, len(given), len(self.input_ids)))
            mask = self.input_mask or [1]
            if mask != sorted(mask, reverse=True) or not mask[0]:
                raise ValueError("input_mask: 1 for each token and then 0 for padding is expected")
            return self

    class PredictRequest(_Asked):
        """As TensorFlow Serving asks; texts may stand in place of tensors."""
        instances: listed(Union[text, pair, Annotated[Union[
            Annotated[TextInstance, Tag("text")], Annotated[TokenInstance, Tag("ids")]],
            Discriminator(_instance_kind)]]) = Field(
                examples=[["股市大涨", {"text_a": "天气好", "text_b": "天气不错"},
                           {"input_ids": [2, 5, 6, 3]}]])
        signature_name: Optional[Literal["serving_default", "texts", "pairs"]] = None

    return PredictRequest


# ---------------------------------------------------------------------------------------------
# OpenAPI
# ---------------------------------------------------------------------------------------------

_REFUSALS = {
    400: "The body is not JSON", 401: "The token is missing or wrong", 404: "No such model",
    408: "The body came too slowly", 409: "The model cannot do this",
    413: "The body is too large", 415: "The body is not declared as JSON",
    421: "The Host is no name of this machine",
    422: "A field is wrong", 429: "Too many requests; ask again after Retry-After seconds",
    504: "No answer in time"}


def openapi(found, model_name, with_token, with_hosts=False):
    """Returns the OpenAPI document as a dict.

    Args:
        found: what `endpoints` returns; model_name: as in /v1/models/; with_token: whether one is
            asked for; with_hosts: whether only some names may stand in the header Host.
    """
    models = [(endpoint.asks, "validation") for endpoint in found.values()]
    models += [(endpoint.answers, "serialization") for endpoint in found.values()]
    names, schemas = models_json_schema(models + [(ErrorAnswer, "serialization")],
                                        ref_template="#/components/schemas/{model}")

    def content(model, mode):
        return {"application/json": {"schema": names[model, mode]}}

    def get(summary, kind="application/json", is_open=False):
        operation = {"summary": summary, "responses": {"200": {
            "description": "OK", "content": {kind: {"schema": {}}}}}}
        if with_token:
            operation["security"] = [] if is_open else [{"token": []}]
        return {"get": operation}

    refusals = {str(status): {"description": reason, "content": content(
        ErrorAnswer, "serialization")} for status, reason in _REFUSALS.items()
        if (with_token or status != 401) and (with_hosts or status != 421)}
    paths = {}
    for name, endpoint in found.items():
        operation = {
            "operationId": name, "summary": endpoint.summary,
            "requestBody": {"required": True, "content": content(endpoint.asks, "validation")},
            "responses": dict({"200": {"description": "OK", "content": content(
                endpoint.answers, "serialization")}}, **refusals)}
        if with_token:
            operation["security"] = [{"token": []}]
        paths[endpoint.path.replace("{name}", model_name)] = {"post": operation}
    paths["/v1/model"] = get("What the model is and can do")
    paths["/v1/models/" + model_name] = get("Its state, as TensorFlow Serving tells it")
    paths["/metrics"] = get("Figures for Prometheus", "text/plain")
    paths["/healthz"] = get("Whether the service is well", is_open=True)
    components = {"schemas": schemas["$defs"]}
    if with_token:
        components["securitySchemes"] = {"token": BEARER}
    return {"openapi": "3.1.0", "paths": paths, "components": components,
            "info": {"title": "albert_zh", "version": "1",
                     "description": "A Chinese ALBERT model as a service"}}
