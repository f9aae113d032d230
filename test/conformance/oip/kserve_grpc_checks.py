"""What KServe's InferenceGRPCClient, unchanged, finds at the address in SWITCHYARD_GRPC."""

import asyncio
import logging

import grpc
import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient

from checks import GRPC, check, equal, run

logging.disable(logging.CRITICAL)
RANDOM = np.random.default_rng(5)


def call(work, **options):
    async def inside():
        async with InferenceGRPCClient(GRPC, **options) as client:
            return await work(client)

    return asyncio.run(inside())


def request(model, array, datatype, name="image", binary=True, **more):
    tensor = InferInput(name=name, shape=list(array.shape), datatype=datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], **more)


def digits(items=1):
    return RANDOM.integers(0, 17, size=(items, 64)).astype(np.float32)


def output(response, name):
    return next(each for each in response.outputs if each.name == name)


def refused(work, code, *words):
    try:
        call(work)
    except grpc.RpcError as error:
        equal(error.code(), code)
        for word in words:
            assert word in error.details(), f"{word!r} is not in {error.details()}"
        return
    raise AssertionError("it was not refused")


@check("server and model are live and ready")
def _():
    assert call(lambda client: client.is_server_live()) is True
    assert call(lambda client: client.is_server_ready()) is True
    assert call(lambda client: client.is_model_ready("digits")) is True
    assert call(lambda client: client.is_model_ready("nothing")) is False
    assert call(lambda client: client.is_model_ready("broken")) is False


@check("raw and typed requests give the same answer")
def _():
    image = digits(3)
    answers = []
    for binary in (True, False):
        response = call(lambda client: client.infer(request("digits", image, "FP32", binary=binary, request_id="k1")))
        equal((response.model_name, response.id), ("digits", "k1"))
        answers.append(output(response, "probabilities").as_numpy())
        equal(output(response, "label").as_numpy().dtype, np.dtype(np.int64))
        np.testing.assert_array_equal(output(response, "label").as_numpy(), answers[0].argmax(axis=1))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


@check("every type of tensor that the client knows comes back as it went")
def _():
    for word in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = (RANDOM.normal(size=(2, 3)) * 50).astype("int8").astype(word)
        kinds = {"b": "BOOL", "u": f"UINT{array.itemsize * 8}", "i": f"INT{array.itemsize * 8}", "f": f"FP{array.itemsize * 8}"}
        response = call(lambda client: client.infer(request(f"identity-{word}", array, kinds[array.dtype.kind], "x")))
        np.testing.assert_array_equal(output(response, "y").as_numpy(), array)


@check("text tensors pass, raw and typed")
def _():
    words = np.array([["one", "dreißig", "四十"]], dtype=np.object_)
    for binary in (True, False):
        response = call(lambda client: client.infer(request("identity-text", words, "BYTES", "x", binary)))
        got = output(response, "y").as_numpy().ravel()
        equal([element.decode() if isinstance(element, bytes) else element for element in got], list(words.ravel()))


@check("parameters pass, and the client's time limit is honoured")
def _():
    more = {"parameters": {"campaign": "x", "n": 3, "yes": True}}
    call(lambda client: client.infer(request("digits", digits(), "FP32", **more)))
    one = np.ones((1,), dtype=np.float32)
    try:
        call(lambda client: client.infer(request("slow", one, "FP32", "x"), timeout=0.1), retries=0)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE), error
    else:
        raise AssertionError("it was not ended")
    call(lambda client: client.infer(request("slow", one, "FP32", "x"), timeout=30))


@check("the client reads the server's words when it is refused")
def _():
    bad = grpc.StatusCode.INVALID_ARGUMENT
    refused(lambda client: client.infer(request("nothing", digits(), "FP32")), grpc.StatusCode.NOT_FOUND, "Request for unknown model")
    refused(lambda client: client.infer(request("digits", digits(), "FP32", "picture")), bad, "picture")
    refused(lambda client: client.infer(request("digits", digits()[:, :63], "FP32")), bad, "image", "[1,63]")
    refused(lambda client: client.infer(request("broken", digits(), "FP32", "x")), grpc.StatusCode.FAILED_PRECONDITION, "failed to load")


@check("many calls at once get each its own answer")
def _():
    images = [digits() for _ in range(40)]

    async def together(client):
        return await asyncio.gather(*(client.infer(request("digits", image, "FP32")) for image in images))

    for image, response in zip(images, call(together)):
        alone = call(lambda client: client.infer(request("digits", image, "FP32")))
        np.testing.assert_allclose(
            output(response, "probabilities").as_numpy(), output(alone, "probabilities").as_numpy(), rtol=1e-4, atol=1e-6
        )


run()
