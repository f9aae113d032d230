"""tritonclient's HTTP and gRPC clients under one face, so that checks are written once. The clients themselves are not changed."""

import json

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException

from checks import ADDRESS, GRPC, WAY, equal

RANDOM = np.random.default_rng(5)
WORDS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
STATUSES = {
    "bad": ("400", "INVALID_ARGUMENT"),
    "expired": ("504", "DEADLINE_EXCEEDED"),
    "failed model": ("503", "FAILED_PRECONDITION"),
    "not found": ("404", "NOT_FOUND"),
    "not loaded": ("400", "FAILED_PRECONDITION"),
    "too large": ("413", "RESOURCE_EXHAUSTED"),
    "unavailable": ("503", "UNAVAILABLE"),
    "unsupported": ("501", "UNIMPLEMENTED"),
}
WIDE = {"shape", "dims", "count", "ns", "last_inference", "inference_count", "execution_count", "batch_size", "max_queue_delay_microseconds"}
"""Fields of 64 bits, which protobuf writes as text in JSON."""


def datatype_of(array):
    words = {"b": "BOOL", "f": "FP", "i": "INT", "u": "UINT", "O": "BYTES"}
    kind = array.dtype.kind
    return words[kind] if kind in "bO" else f"{words[kind]}{array.dtype.itemsize * 8}"


def digits(items=1):
    return RANDOM.integers(0, 17, size=(items, 64)).astype(np.float32)


def ones():
    return np.ones((1,), dtype=np.float32)


def numbers(value, key=""):
    if isinstance(value, dict):
        return {name: numbers(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner, key) for inner in value]
    return int(value) if key in WIDE else value


class Http:
    name = "HTTP"
    library, aio, address = http, http_aio, ADDRESS
    forms = ({"binary": True}, {"binary": False})
    """How tensors can be sent and asked for."""

    def connect(self, many=1):
        return http.InferenceServerClient(ADDRESS, concurrency=many)

    def tensor(self, name, array, binary=True):
        made = http.InferInput(name, list(array.shape), datatype_of(array))
        made.set_data_from_numpy(array, binary_data=binary)
        return made

    def wanted(self, name, binary=True, class_count=0):
        return http.InferRequestedOutput(name, binary_data=binary, class_count=class_count)

    def compressed(self, word):
        return {"request_compression_algorithm": word, "response_compression_algorithm": word}

    def plain(self, answer):
        return answer

    def index(self, client):
        return {entry["name"]: entry for entry in client.get_model_repository_index()}

    def config(self, client, *named):
        return client.get_model_config(*named)

    def status(self, word):
        return STATUSES[word][0]


class Grpc:
    name = "gRPC"
    library, aio, address = grpc, grpc_aio, GRPC
    forms = ({},)

    def connect(self, many=1):
        return grpc.InferenceServerClient(GRPC)

    def tensor(self, name, array):
        made = grpc.InferInput(name, list(array.shape), datatype_of(array))
        made.set_data_from_numpy(array)
        return made

    def wanted(self, name, class_count=0):
        return grpc.InferRequestedOutput(name, class_count=class_count)

    def compressed(self, word):
        return {"compression_algorithm": word}

    def plain(self, answer):
        return numbers(MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))

    def index(self, client):
        return {entry["name"]: entry for entry in self.plain(client.get_model_repository_index())["models"]}

    def config(self, client, *named):
        return self.plain(client.get_model_config(*named))["config"]

    def status(self, word):
        return f"StatusCode.{STATUSES[word][1]}"


way = {"HTTP": Http, "gRPC": Grpc}[WAY]()


def statistics(client, *named):
    return way.plain(client.get_inference_statistics(*named))["model_stats"]


def infer(client, model, array, name=None, **more):
    return client.infer(model, [way.tensor(name or ("image" if model == "digits" else "x"), array)], **more)


def text(element):
    return element.decode() if isinstance(element, bytes) else element


def refused(call, *words, status=None):
    """`status`: one of STATUSES, or several."""
    try:
        call()
    except InferenceServerException as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        if status is not None:
            allowed = [way.status(word) for word in ((status,) if isinstance(status, str) else status)]
            assert error.status() in allowed, f"{error.status()} is not one of {allowed}: {error}"
        return error
    raise AssertionError("it was not refused")
