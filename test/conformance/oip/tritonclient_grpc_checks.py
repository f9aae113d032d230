"""What tritonclient's gRPC clients, unchanged, find at the address in SWITCHYARD_GRPC."""

import asyncio
import queue
import time

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as aio
import tritonclient.http as http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException
from grpc import RpcError, StatusCode, insecure_channel

from checks import ADDRESS, GRPC, check, equal, run

RANDOM = np.random.default_rng(5)
WORDS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def datatype_of(array):
    words = {"b": "BOOL", "f": "FP", "i": "INT", "u": "UINT", "O": "BYTES"}
    kind = array.dtype.kind
    return words[kind] if kind in "bO" else f"{words[kind]}{array.dtype.itemsize * 8}"


def tensor(name, array, client=grpc):
    made = client.InferInput(name, list(array.shape), datatype_of(array))
    made.set_data_from_numpy(array)
    return made


def digits(items=1):
    return RANDOM.integers(0, 17, size=(items, 64)).astype(np.float32)


def refused(call, *words, status=None):
    try:
        call()
    except InferenceServerException as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        if status is not None:
            equal(error.status(), f"StatusCode.{status}")
        return error
    raise AssertionError("it was not refused")


@check("server and model are live and ready")
def _(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("broken")


@check("server metadata names the server and only extensions that it has")
def _(client):
    metadata = client.get_server_metadata()
    equal(metadata.name, "switchyard")
    assert {"classification", "model_configuration"} <= set(metadata.extensions), metadata
    if "statistics" not in metadata.extensions:
        refused(lambda: client.get_inference_statistics("digits"), "not supported", status="UNIMPLEMENTED")
    if "model_repository" not in metadata.extensions:
        refused(lambda: client.load_model("digits"), "not supported", status="UNIMPLEMENTED")
        refused(lambda: client.unload_model("digits"), "not supported", status="UNIMPLEMENTED")
    refused(client.get_system_shared_memory_status, status="UNIMPLEMENTED")
    refused(client.get_trace_settings, status="UNIMPLEMENTED")


@check("model metadata and configuration agree")
def _(client):
    metadata = client.get_model_metadata("digits", as_json=True)
    equal(metadata["inputs"], [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}])
    equal([output["name"] for output in metadata["outputs"]], ["probabilities", "label"])
    equal(list(client.get_model_metadata("digits", "1").versions), ["1"])
    config = client.get_model_config("digits").config
    equal((config.name, config.backend, config.max_batch_size), ("digits", "onnxruntime", 64))
    equal([(each.name, each.data_type, list(each.dims)) for each in config.input], [("image", 11, [64])])
    equal(config.output[0].label_filename != "", True)
    assert config.HasField("dynamic_batching")
    refused(lambda: client.get_model_metadata("nothing"), "Request for unknown model", status="NOT_FOUND")
    refused(lambda: client.get_model_metadata("digits", "9"), status="NOT_FOUND")


@check("the repository index lists every model, also the broken one")
def _(client):
    index = {entry.name: entry for entry in client.get_model_repository_index().models}
    equal(index["digits"].state, "READY")
    equal(index["broken"].state, "UNAVAILABLE")
    assert index["broken"].reason


@check("an inference answers what HTTP answers in binary")
def _(client):
    with http.InferenceServerClient(ADDRESS) as other:
        for items in (1, 3):
            image = digits(items)
            result = client.infer("digits", [tensor("image", image)], request_id="a1")
            equal(result.get_response().id, "a1")
            equal(result.get_response().model_version, "1")
            expected = other.infer("digits", [tensor("image", image, http)])
            np.testing.assert_allclose(result.as_numpy("probabilities"), expected.as_numpy("probabilities"), rtol=1e-5)
            np.testing.assert_array_equal(result.as_numpy("label"), expected.as_numpy("label"))
            equal(result.as_numpy("label").dtype, np.dtype(np.int64))


@check("without a list of outputs all come, and one that is asked for comes alone")
def _(client):
    everything = client.infer("digits", [tensor("image", digits())], model_version="1").get_response()
    equal([output.name for output in everything.outputs], ["probabilities", "label"])
    one = client.infer("digits", [tensor("image", digits())], outputs=[grpc.InferRequestedOutput("label")]).get_response()
    equal([output.name for output in one.outputs], ["label"])


@check("every type of tensor comes back as it went")
def _(client):
    bits = RANDOM.integers(0, 256, size=(2, 3, 8), dtype=np.uint8)
    for word in WORDS:
        array = bits[:, :, 0] > 127 if word == "bool" else np.ascontiguousarray(bits).view(word)[:, :, 0].copy()
        if word.startswith("float"):
            array = RANDOM.normal(size=(2, 3)).astype(word)
            array[0, 0], array[0, 1] = np.nan, np.inf
        result = client.infer(f"identity-{word}", [tensor("x", array)]).as_numpy("y")
        equal(result.dtype, array.dtype)
        equal(result.tobytes(), array.tobytes())


@check("typed contents are understood, 64 bits exactly, and answered raw")
def _(client):
    fields = {"b": "bool_contents", "i": "int_contents", "u": "uint_contents"}
    wide = {"int64": "int64_contents", "uint64": "uint64_contents", "float32": "fp32_contents", "float64": "fp64_contents"}
    with insecure_channel(GRPC) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for word in WORDS:
            if word == "float16":
                continue
            kind = np.dtype(word).kind
            low, high = (0, 1) if kind == "b" else (-1.5, 1.5) if kind == "f" else (np.iinfo(word).min, np.iinfo(word).max)
            array = np.array([[low, high]], dtype=word)
            request = service_pb2.ModelInferRequest(model_name=f"identity-{word}")
            made = request.inputs.add(name="x", datatype=datatype_of(array), shape=array.shape)
            getattr(made.contents, wide.get(word) or fields[kind]).extend(array.ravel().tolist())
            answer = stub.ModelInfer(request)
            equal(answer.raw_output_contents[0], array.tobytes())
            request.raw_input_contents.append(array.tobytes())
            try:
                stub.ModelInfer(request)
            except RpcError as error:
                equal(error.code(), StatusCode.INVALID_ARGUMENT)
                assert f"contents field must not be specified when using raw_input_contents for 'x' for model 'identity-{word}'" in error.details()
            else:
                raise AssertionError("both forms were not refused")


@check("empty tensors pass")
def _(client):
    array = np.zeros((0, 3), dtype=np.float32)
    equal(client.infer("identity-float32", [tensor("x", array)]).as_numpy("y").shape, (0, 3))


@check("text tensors pass, with any Unicode and empty elements; what is not UTF-8 is refused with tensor and index")
def _(client):
    words = np.array([["one", "", "dreißig", "四十", "a" * 70_000]], dtype=np.object_)
    result = client.infer("identity-text", [tensor("x", words)]).as_numpy("y")
    equal([element.decode() for element in result.ravel()], list(words.ravel()))
    broken = np.array([[b"fine", b"\xff\xfe"]], dtype=np.object_)
    refused(lambda: client.infer("identity-text", [tensor("x", broken)]), "'x'", "1", status="INVALID_ARGUMENT")


@check("classification answers value, index and label, the best first")
def _(client):
    image = digits(2)
    probabilities = client.infer("digits", [tensor("image", image)]).as_numpy("probabilities")
    wanted = [grpc.InferRequestedOutput("probabilities", class_count=3)]
    classes = client.infer("digits", [tensor("image", image)], outputs=wanted).as_numpy("probabilities")
    equal(classes.shape, (2, 3))
    for row, expected in zip(classes, probabilities):
        order = np.argsort(-expected, kind="stable")[:3]
        for element, index in zip(row, order):
            value, got, label = element.decode().split(":")
            equal((int(got), label), (int(index), str(index)))
            np.testing.assert_allclose(float(value), expected[index], rtol=1e-4, atol=1e-6)


@check("requests may be compressed")
def _(client):
    image = digits(4)
    plain = client.infer("digits", [tensor("image", image)]).as_numpy("probabilities")
    for word in ("gzip", "deflate"):
        result = client.infer("digits", [tensor("image", image)], compression_algorithm=word)
        np.testing.assert_allclose(result.as_numpy("probabilities"), plain, rtol=1e-5)


@check("priority, timeout and parameters of the caller's own are accepted")
def _(client):
    for arguments in (
        {"priority": 1},
        {"priority": 7},
        {"timeout": 20_000_000},
        {"timeout": 0},
        {"parameters": {"campaign": "x", "n": 3, "share": 0.5, "yes": True}},
    ):
        client.infer("digits", [tensor("image", digits())], **arguments)
    for sequence in (7, "seven"):
        refused(
            lambda: client.infer("digits", [tensor("image", digits())], sequence_id=sequence, sequence_start=True),
            "equence",
            status="UNIMPLEMENTED",
        )


@check("infer(..., timeout=500000) ends within half a second where the run takes longer, and not where it is short")
def _(client):
    client.infer("digits", [tensor("image", digits())], timeout=500_000)
    one = np.ones((1,), dtype=np.float32)
    # two runs that wait for one another take longer than that
    others = [client.async_infer("slow", [tensor("x", one)], callback=lambda result, error: None) for _ in range(4)]
    start = time.monotonic()
    error = refused(lambda: client.infer("slow", [tensor("x", one)], timeout=500_000))
    took = time.monotonic() - start
    assert error.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE"), error
    assert took < 1.5, f"it took {took} s"
    for other in others:
        other.get_result() if hasattr(other, "get_result") else None


@check("a time limit of the client ends the call, and the server works on")
def _(client):
    one = np.ones((1,), dtype=np.float32)
    start = time.monotonic()
    refused(lambda: client.infer("slow", [tensor("x", one)], client_timeout=0.2), status=None)
    assert time.monotonic() - start < 2
    equal(client.infer("slow", [tensor("x", one)], client_timeout=30).as_numpy("y").shape, (1,))


@check("many calls at once through async_infer get each its own answer, and one can be cancelled")
def _(client):
    images = [digits() for _ in range(60)]
    expected = [client.infer("digits", [tensor("image", image)]).as_numpy("probabilities") for image in images]
    answers = queue.Queue()
    for at, image in enumerate(images):
        client.async_infer("digits", [tensor("image", image)], callback=lambda result, error, at=at: answers.put((at, result, error)))
    for _ in images:
        at, result, error = answers.get(timeout=30)
        assert error is None, error
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected[at], rtol=1e-4, atol=1e-6)
    one = np.ones((1,), dtype=np.float32)
    call = client.async_infer("slow", [tensor("x", one)], callback=lambda result, error: answers.put((0, result, error)))
    call.cancel()
    _, _, error = answers.get(timeout=30)
    equal(error.status(), "StatusCode.CANCELLED")


@check("a stream answers every message in order, also the one that fails")
def _(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    images = [digits() for _ in range(40)]
    for at, image in enumerate(images):
        client.async_stream_infer("nothing" if at == 7 else "digits", [tensor("image", image)], request_id=str(at))
    for at, image in enumerate(images):
        result, error = answers.get(timeout=30)
        if at == 7:
            assert "Request for unknown model" in str(error), error
            continue
        assert error is None, error
        equal(result.get_response().id, str(at))
        expected = client.infer("digits", [tensor("image", image)]).as_numpy("probabilities")
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-4, atol=1e-6)
    client.async_stream_infer("digits", [tensor("image", digits())], enable_empty_final_response=True)
    result, error = answers.get(timeout=30)
    assert error is None and result.get_response().parameters["triton_final_response"].bool_param is True
    client.stop_stream()


@check("the asyncio client works as the other, streams too")
def _(client):
    async def calls():
        async with aio.InferenceServerClient(GRPC) as other:
            assert await other.is_server_ready()
            equal((await other.get_model_metadata("digits")).name, "digits")
            images = [digits() for _ in range(16)]
            results = await asyncio.gather(*(other.infer("digits", [tensor("image", image)]) for image in images))
            equal({result.as_numpy("label").shape for result in results}, {(1,)})
            try:
                await other.infer("nothing", [tensor("image", digits())])
            except InferenceServerException as error:
                assert "Request for unknown model" in str(error), error
            else:
                raise AssertionError("an unknown model was not refused")

            async def messages():
                for at, image in enumerate(images):
                    yield {"model_name": "digits", "inputs": [tensor("image", image)], "request_id": str(at)}

            seen = []
            async for result, error in other.stream_infer(messages()):
                assert error is None, error
                seen.append(result.get_response().id)
            equal(seen, [str(at) for at in range(len(images))])

    asyncio.run(calls())


@check("what does not fit the model is refused by name")
def _(client):
    bad = "INVALID_ARGUMENT"
    refused(lambda: client.infer("nothing", [tensor("image", digits())]), "Request for unknown model", status="NOT_FOUND")
    refused(lambda: client.infer("digits", [tensor("image", digits())], model_version="9"), status="NOT_FOUND")
    refused(lambda: client.infer("digits", [tensor("picture", digits())]), "picture", status=bad)
    refused(lambda: client.infer("digits", [tensor("image", digits()[:, :63])]), "image", "[1,63]", status=bad)
    refused(lambda: client.infer("digits", [tensor("image", digits().astype(np.float64))]), "image", "FP64", status=bad)
    refused(lambda: client.infer("digits", [tensor("image", digits()), tensor("image", digits())]), "image", status=bad)
    refused(lambda: client.infer("digits", []), status=bad)
    wanted = [grpc.InferRequestedOutput("nothing")]
    refused(lambda: client.infer("digits", [tensor("image", digits())], outputs=wanted), "nothing", status=bad)
    refused(lambda: client.infer("digits", [tensor("image", digits(65))]), "64", status=bad)
    refused(lambda: client.infer("broken", [tensor("x", digits())]), "failed to load", status="FAILED_PRECONDITION")


@check("the example model 'simple' adds and subtracts", "simple")
def _(client):
    left, right = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), dtype=np.int32)
    result = client.infer("simple", [tensor("INPUT0", left), tensor("INPUT1", right)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


@check("the example model 'simple_string' adds numbers written as text", "simple_string")
def _(client):
    left = np.array([[str(n) for n in range(16)]], dtype=np.object_)
    right = np.array([["1"] * 16], dtype=np.object_)
    result = client.infer("simple_string", [tensor("INPUT0", left), tensor("INPUT1", right)])
    equal([int(text) for text in result.as_numpy("OUTPUT0").ravel()], [n + 1 for n in range(16)])


with grpc.InferenceServerClient(GRPC) as shared_client:
    run(shared_client)
