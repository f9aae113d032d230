"""What KServe's InferenceRESTClient, unchanged, finds at the address in SWITCHYARD_URL."""

import asyncio

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from checks import URL, check, equal, run

RANDOM = np.random.default_rng(5)


def call(work):
    async def inside():
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30)) as client:
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


def refused(work, status, *words):
    try:
        call(work)
    except httpx.HTTPStatusError as error:
        equal(error.response.status_code, status)
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return
    raise AssertionError("it was not refused")


@check("server and model are live and ready")
def _():
    assert call(lambda client: client.is_server_live(URL)) is True
    assert call(lambda client: client.is_server_ready(URL)) is True
    assert call(lambda client: client.is_model_ready(URL, "digits")) is True
    assert call(lambda client: client.is_model_ready(URL, "nothing")) is False
    assert call(lambda client: client.is_model_ready(URL, "broken")) is False


@check("JSON and binary requests give the same answer")
def _():
    image = digits(3)
    answers = []
    for binary in (True, False):
        response = call(lambda client: client.infer(URL, request("digits", image, "FP32", binary=binary, request_id="k1"), "digits"))
        equal((response.model_name, response.id), ("digits", "k1"))  # the client drops the version that was answered
        answers.append(output(response, "probabilities").as_numpy())
        equal(output(response, "label").as_numpy().dtype, np.dtype(np.int64))
        np.testing.assert_array_equal(output(response, "label").as_numpy(), answers[0].argmax(axis=1))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


@check("a plain dictionary is a request")
def _():
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
    response = call(lambda client: client.infer(URL, body, "digits"))
    equal(output(response, "probabilities").shape, [1, 10])


@check("outputs come in binary when they are asked for so, one by one or all")
def _():
    image = digits()
    wishes = (
        {"request_outputs": [RequestedOutput("probabilities", parameters={"binary_data": True})]},
        {"parameters": {"binary_data_output": True}},
    )
    for more in wishes:
        headers = {}
        response = call(
            lambda client: client.infer(URL, request("digits", image, "FP32", **more), "digits", response_headers=headers)
        )
        assert "inference-header-content-length" in headers, headers
        equal(output(response, "probabilities").as_numpy().shape, (1, 10))


@check("every type of tensor that the client knows comes back as it went")
def _():
    for word in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = (RANDOM.normal(size=(2, 3)) * 50).astype("int8").astype(word)
        kinds = {"b": "BOOL", "u": f"UINT{array.itemsize * 8}", "i": f"INT{array.itemsize * 8}", "f": f"FP{array.itemsize * 8}"}
        asked = request(f"identity-{word}", array, kinds[array.dtype.kind], "x", parameters={"binary_data_output": True})
        response = call(lambda client: client.infer(URL, asked, f"identity-{word}"))
        np.testing.assert_array_equal(output(response, "y").as_numpy(), array)


@check("text tensors pass in both forms")
def _():
    words = np.array([["one", "dreißig", "四十"]], dtype=np.object_)
    for binary in (True, False):
        asked = request("identity-text", words, "BYTES", "x", binary, parameters={"binary_data_output": binary})
        response = call(lambda client: client.infer(URL, asked, "identity-text"))
        got = output(response, "y").as_numpy().ravel()
        equal([element.decode() if isinstance(element, bytes) else element for element in got], list(words.ravel()))


@check("the client reads the server's words when it is refused")
def _():
    refused(lambda client: client.infer(URL, request("nothing", digits(), "FP32"), "nothing"), 404, "Request for unknown model")
    refused(lambda client: client.infer(URL, request("digits", digits(), "FP32", "picture"), "digits"), 400, "picture")
    refused(lambda client: client.infer(URL, request("digits", digits()[:, :63], "FP32"), "digits"), 400, "image", "[1,63]")
    refused(lambda client: client.infer(URL, request("broken", digits(), "FP32", "x"), "broken"), 503, "failed to load")
    refused(lambda client: client.infer(URL, {"inputs": "none"}, "digits"), 400, "inputs")


@check("many calls at once get each its own answer")
def _():
    images = [digits() for _ in range(40)]

    async def together(client):
        return await asyncio.gather(*(client.infer(URL, request("digits", image, "FP32"), "digits") for image in images))

    for image, response in zip(images, call(together)):
        alone = call(lambda client: client.infer(URL, request("digits", image, "FP32"), "digits"))
        np.testing.assert_allclose(
            output(response, "probabilities").as_numpy(), output(alone, "probabilities").as_numpy(), rtol=1e-4, atol=1e-6
        )


run()
