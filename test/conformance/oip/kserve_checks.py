"""What KServe's InferenceRESTClient and InferenceGRPCClient, unchanged, find at the addresses in SWITCHYARD_URL and SWITCHYARD_GRPC."""

import asyncio
import logging

import grpc
import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.inference_client import InferenceGRPCClient
from kserve.protocol.infer_type import RequestedOutput

from checks import GRPC, URL, WAY, check, equal, run

logging.disable(logging.CRITICAL)
RANDOM = np.random.default_rng(5)
REFUSALS = {"not found": (404, "NOT_FOUND"), "bad": (400, "INVALID_ARGUMENT"), "failed model": (503, "FAILED_PRECONDITION")}


class Rest:
    """The client with its address given, as the other one has it."""

    all_binary = {"parameters": {"binary_data_output": True}}
    """16-bit floats have no form in JSON."""

    def connect(self, retries=0):
        return InferenceRESTClient(RESTConfig(protocol="v2", retries=retries, timeout=30))

    def infer(self, client, request, **more):
        return client.infer(URL, request, request.model_name, **more)

    def ask(self, client, name, *arguments):
        return getattr(client, name)(URL, *arguments)

    def refusal(self, error):
        return error.response.status_code, str(error)


class Grpc:
    all_binary = {}

    def connect(self, **options):
        return InferenceGRPCClient(GRPC, **options)

    def infer(self, client, request, **more):
        return client.infer(request, **more)

    def ask(self, client, name, *arguments):
        return getattr(client, name)(*arguments)

    def refusal(self, error):
        return error.code().name, error.details()


way = {"HTTP": Rest, "gRPC": Grpc}[WAY]()


def call(work, **options):
    async def inside():
        async with way.connect(**options) as client:
            return await work(client)

    return asyncio.run(inside())


def infer(asked, **more):
    return call(lambda client: way.infer(client, asked, **more))


def request(model, array, datatype, name="image", binary=True, **more):
    tensor = InferInput(name=name, shape=list(array.shape), datatype=datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], **more)


def digits(items=1):
    return RANDOM.integers(0, 17, size=(items, 64)).astype(np.float32)


def output(response, name):
    return next(each for each in response.outputs if each.name == name)


def refused(work, status, *words):
    try:
        call(work)
    except (httpx.HTTPStatusError, grpc.RpcError) as error:
        got, told = way.refusal(error)
        assert got in REFUSALS[status], f"{got}: {told}"
        for word in words:
            assert word in told, f"{word!r} is not in {told}"
        return
    raise AssertionError("it was not refused")


@check("server and model are live and ready")
def _():
    for name, model, expected in (
        ("is_server_live", (), True),
        ("is_server_ready", (), True),
        ("is_model_ready", ("digits",), True),
        ("is_model_ready", ("nothing",), False),
        ("is_model_ready", ("broken",), False),
    ):
        assert call(lambda client: way.ask(client, name, *model)) is expected, (name, model)


@check("binary requests and those with values in words give the same answer")
def _():
    image = digits(3)
    answers = []
    for binary in (True, False):
        response = infer(request("digits", image, "FP32", binary=binary, request_id="k1"))
        equal((response.model_name, response.id), ("digits", "k1"))  # the client drops the version that was answered
        answers.append(output(response, "probabilities").as_numpy())
        equal(output(response, "label").as_numpy().dtype, np.dtype(np.int64))
        np.testing.assert_array_equal(output(response, "label").as_numpy(), answers[0].argmax(axis=1))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


@check("a plain dictionary is a request", only="HTTP")
def _():
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
    equal(output(call(lambda client: client.infer(URL, body, "digits")), "probabilities").shape, [1, 10])


@check("outputs come in binary when they are asked for so, one by one or all", only="HTTP")
def _():
    image = digits()
    wishes = ({"request_outputs": [RequestedOutput("probabilities", parameters={"binary_data": True})]}, way.all_binary)
    for more in wishes:
        headers = {}
        response = infer(request("digits", image, "FP32", **more), response_headers=headers)
        assert "inference-header-content-length" in headers, headers
        equal(output(response, "probabilities").as_numpy().shape, (1, 10))


@check("every type of tensor that the client knows comes back as it went")
def _():
    for word in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = (RANDOM.normal(size=(2, 3)) * 50).astype("int8").astype(word)
        kinds = {"b": "BOOL", "u": f"UINT{array.itemsize * 8}", "i": f"INT{array.itemsize * 8}", "f": f"FP{array.itemsize * 8}"}
        response = infer(request(f"identity-{word}", array, kinds[array.dtype.kind], "x", **way.all_binary))
        np.testing.assert_array_equal(output(response, "y").as_numpy(), array)


@check("text tensors pass in both forms")
def _():
    words = np.array([["one", "dreißig", "四十"]], dtype=np.object_)
    for binary in (True, False):
        response = infer(request("identity-text", words, "BYTES", "x", binary, **(way.all_binary if binary else {})))
        got = output(response, "y").as_numpy().ravel()
        equal([element.decode() if isinstance(element, bytes) else element for element in got], list(words.ravel()))


@check("parameters of the caller's own pass")
def _():
    infer(request("digits", digits(), "FP32", parameters={"campaign": "x", "n": 3, "yes": True}))


@check("the client's time limit is honoured", only="gRPC")
def _():
    one = np.ones((1,), dtype=np.float32)
    try:
        call(lambda client: client.infer(request("slow", one, "FP32", "x"), timeout=0.1), retries=0)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE), error
    else:
        raise AssertionError("it was not ended")
    infer(request("slow", one, "FP32", "x"), timeout=30)


@check("the client reads the server's words when it is refused")
def _():
    refused(lambda client: way.infer(client, request("nothing", digits(), "FP32")), "not found", "Request for unknown model")
    refused(lambda client: way.infer(client, request("digits", digits(), "FP32", "picture")), "bad", "picture")
    refused(lambda client: way.infer(client, request("digits", digits()[:, :63], "FP32")), "bad", "image", "[1,63]")
    refused(lambda client: way.infer(client, request("broken", digits(), "FP32", "x")), "failed model", "failed to load")
    if WAY == "HTTP":
        refused(lambda client: client.infer(URL, {"inputs": "none"}, "digits"), "bad", "inputs")


@check("many calls at once get each its own answer")
def _():
    images = [digits() for _ in range(40)]

    async def together(client):
        return await asyncio.gather(*(way.infer(client, request("digits", image, "FP32")) for image in images))

    for image, response in zip(images, call(together)):
        alone = infer(request("digits", image, "FP32"))
        np.testing.assert_allclose(
            output(response, "probabilities").as_numpy(), output(alone, "probabilities").as_numpy(), rtol=1e-4, atol=1e-6
        )


run()
