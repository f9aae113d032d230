"""What tritonclient's clients, unchanged, find at the addresses in SWITCHYARD_URL and SWITCHYARD_GRPC: the same over both, and what one of them has alone."""

import asyncio
import queue
import time
import urllib.request

import numpy as np
import tritonclient.http as http
from grpc import RpcError, StatusCode, insecure_channel
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from checks import ADDRESS, GRPC, MODELS, URL, check, equal, run
from tritonclient_ways import WORDS, datatype_of, digits, infer, ones, refused, RANDOM, statistics, text, way


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
    metadata = way.plain(client.get_server_metadata())
    equal(metadata["name"], "switchyard")
    expected = {"binary_tensor_data", "classification", "model_configuration", "schedule_policy", "parameters", "statistics", "model_repository"}
    assert expected <= set(metadata["extensions"]), metadata
    assert not {"sequence", "logging", "trace", "system_shared_memory"} & set(metadata["extensions"]), metadata
    absent = "not found" if way.name == "HTTP" else "unsupported"
    for ask in (client.get_system_shared_memory_status, client.get_cuda_shared_memory_status, client.get_trace_settings, client.get_log_settings):
        refused(ask, status=absent)


@check("model metadata and configuration agree")
def _(client):
    metadata = way.plain(client.get_model_metadata("digits"))
    equal(metadata["inputs"], [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}])
    equal([output["name"] for output in metadata["outputs"]], ["probabilities", "label"])
    equal(way.plain(client.get_model_metadata("digits", "1"))["versions"], ["1"])
    config = way.config(client, "digits")
    equal((config["name"], config["backend"], config["max_batch_size"]), ("digits", "onnxruntime", 64))
    equal([(each["name"], each["data_type"], each["dims"]) for each in config["input"]], [("image", "TYPE_FP32", [64])])
    assert config["output"][0]["label_filename"] and "dynamic_batching" in config
    refused(lambda: client.get_model_metadata("nothing"), "Request for unknown model", status="not found")
    refused(lambda: client.get_model_metadata("digits", "9"), status="not found")


@check("configuration, by version too, is what the metadata says")
def _(client):
    for model in sorted(MODELS - {"broken"}):
        metadata, config = way.plain(client.get_model_metadata(model)), way.config(client, model, "1")
        equal((config["name"], config["platform"]), (model, metadata["platform"]))
        for side, plural in (("input", "inputs"), ("output", "outputs")):
            equal([one["name"] for one in config[side]], [one["name"] for one in metadata[plural]])
            for one, other in zip(config[side], metadata[plural]):
                batch = [-1] if config["max_batch_size"] > 0 else []
                equal(batch + one["dims"], other["shape"])
                equal(one["data_type"].replace("TYPE_STRING", "TYPE_BYTES"), f"TYPE_{other['datatype']}")
    refused(lambda: client.get_model_config("digits", "9"), status="not found")
    refused(lambda: client.get_model_config("broken"), "failed to load", status="failed model")


@check("all forms of tensors give the same answer, which is the one that HTTP gives in binary")
def _(client):
    image = digits(3)
    with http.InferenceServerClient(ADDRESS) as other:
        made = http.InferInput("image", [3, 64], "FP32")
        made.set_data_from_numpy(image)
        expected = other.infer("digits", [made])
    for sent in way.forms:
        for asked in way.forms:
            outputs = [way.wanted(name, **asked) for name in ("probabilities", "label")]
            result = client.infer("digits", [way.tensor("image", image, **sent)], outputs=outputs, request_id="a1")
            response = way.plain(result.get_response())
            equal((response["id"], response["model_version"]), ("a1", "1"))
            probabilities, label = result.as_numpy("probabilities"), result.as_numpy("label")
            equal((probabilities.shape, probabilities.dtype, label.dtype), ((3, 10), np.dtype(np.float32), np.dtype(np.int64)))
            np.testing.assert_allclose(probabilities, expected.as_numpy("probabilities"), rtol=1e-5)
            np.testing.assert_array_equal(label, expected.as_numpy("label"))
            np.testing.assert_array_equal(probabilities.argmax(axis=1), label)


@check("without a list of outputs all come, and one that is asked for comes alone")
def _(client):
    everything = way.plain(infer(client, "digits", digits(), model_version="1").get_response())
    equal([output["name"] for output in everything["outputs"]], ["probabilities", "label"])
    one = way.plain(infer(client, "digits", digits(), outputs=[way.wanted("label")]).get_response())
    equal([output["name"] for output in one["outputs"]], ["label"])


@check("every type of tensor comes back as it went")
def _(client):
    bits = RANDOM.integers(0, 256, size=(2, 3, 8), dtype=np.uint8)
    for word in WORDS:
        array = bits[:, :, 0] > 127 if word == "bool" else np.ascontiguousarray(bits).view(word)[:, :, 0].copy()
        if word.startswith("float"):
            array = RANDOM.normal(size=(2, 3)).astype(word)
            array[0, 0], array[0, 1] = np.nan, np.inf
        result = infer(client, f"identity-{word}", array).as_numpy("y")
        equal(result.dtype, array.dtype)
        equal(result.tobytes(), array.tobytes())


@check("64-bit integers and doubles are exact in JSON", only="HTTP")
def _(client):
    for word, values in (("int64", [2**63 - 1, -(2**63)]), ("uint64", [2**64 - 1, 0]), ("float64", [0.1, -1e300]), ("bool", [True, False])):
        array = np.array([values], dtype=word)
        result = client.infer(f"identity-{word}", [way.tensor("x", array, binary=False)], outputs=[way.wanted("y", binary=False)])
        np.testing.assert_array_equal(result.as_numpy("y"), array)


@check("16-bit floats in JSON are refused with the way out", only="HTTP")
def _(client):
    half = np.ones((1, 2), dtype=np.float16)
    refused(lambda: infer(client, "identity-float16", half, outputs=[way.wanted("y", binary=False)]), "binary", status="bad")


@check("typed contents are understood, 64 bits exactly, and answered raw", only="gRPC")
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
    equal(infer(client, "identity-float32", np.zeros((0, 3), dtype=np.float32)).as_numpy("y").shape, (0, 3))


@check("text tensors pass in every form, with any Unicode and empty elements; what is not UTF-8 is refused with tensor and index")
def _(client):
    words = np.array([["one", "", "dreißig", "四十", "a" * 70_000]], dtype=np.object_)
    for form in way.forms:
        result = client.infer("identity-text", [way.tensor("x", words, **form)], outputs=[way.wanted("y", **form)]).as_numpy("y")
        equal([text(element) for element in result.ravel()], list(words.ravel()))
    broken = np.array([[b"fine", b"\xff\xfe"]], dtype=np.object_)
    refused(lambda: infer(client, "identity-text", broken), "'x'", "1", status="bad")


@check("classification answers value, index and label, the best first")
def _(client):
    image = digits(2)
    probabilities = infer(client, "digits", image).as_numpy("probabilities")
    for form in way.forms:
        classes = infer(client, "digits", image, outputs=[way.wanted("probabilities", class_count=3, **form)]).as_numpy("probabilities")
        equal(classes.shape, (2, 3))
        for row, expected in zip(classes, probabilities):
            order = np.argsort(-expected, kind="stable")[:3]
            for element, index in zip(row, order):
                value, got, label = text(element).split(":")
                equal((int(got), label), (int(index), str(index)))
                np.testing.assert_allclose(float(value), expected[index], rtol=1e-4, atol=1e-6)


@check("requests and answers may be compressed")
def _(client):
    image = digits(4)
    plain = infer(client, "digits", image).as_numpy("probabilities")
    for word in ("gzip", "deflate"):
        result = infer(client, "digits", image, **way.compressed(word))
        np.testing.assert_allclose(result.as_numpy("probabilities"), plain, rtol=1e-5)


@check("a compressed answer is told as such, and no client gets one that it did not ask for", only="HTTP")
def _(client):
    image = digits(64)
    for word in ("gzip", "deflate", None):
        for form in way.forms:
            result = infer(client, "digits", image, outputs=[way.wanted("probabilities", **form)], response_compression_algorithm=word)
            equal(result.as_numpy("probabilities").shape, (64, 10))
            equal(dict(raw_headers(image, word, form)).get("content-encoding"), word)


def raw_headers(image, word, form):
    """Of an answer to what the client would send."""
    body, length = http.InferenceServerClient.generate_request_body([way.tensor("image", image)], outputs=[way.wanted("probabilities", **form)])
    headers = {"Inference-Header-Content-Length": str(length)}
    if word:
        headers["Accept-Encoding"] = word
    request = urllib.request.Request(f"{URL}/v2/models/digits/infer", data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return [(name.lower(), value) for name, value in answer.getheaders()]


@check("bodies made and answers read without the client's connection work", only="HTTP")
def _(client):
    body, header_length = http.InferenceServerClient.generate_request_body([way.tensor("image", digits())])
    equal(http.InferenceServerClient.generate_request_body([way.tensor("image", digits(), binary=False)])[1], None)
    assert header_length is not None and len(body) == header_length + 256


@check("priority, timeout and parameters of the caller's own are accepted")
def _(client):
    for arguments in (
        {"priority": 1},
        {"priority": 7},
        {"timeout": 20_000_000},
        {"timeout": 0},
        {"parameters": {"campaign": "x", "n": 3, "share": 0.5, "yes": True}},
    ):
        infer(client, "digits", digits(), **arguments)


@check("infer(..., timeout=500000) is half a second: what is done within it is answered, what is not ends then")
def _(client):
    infer(client, "digits", digits(), timeout=500_000)
    with way.connect(many=6) as many:
        start = time.monotonic()
        ends = together(many, [("slow", way.tensor("x", ones()), {"timeout": 500_000}) for _ in range(6)])
        took = time.monotonic() - start
    errors = [error for _, error in ends if error is not None]
    allowed = {way.status("expired"), way.status("unavailable")}
    assert {error.status() for error in errors} <= allowed and 0 < len(errors), ends  # six runs of 0.4 s do not fit
    assert took < 1.5, f"{took} s, {ends}"


def together(client, calls):
    """Each call's result and error, in their order."""
    if way.name == "HTTP":
        begun = [client.async_infer(model, [tensor], **more) for model, tensor, more in calls]
        return [outcome(call.get_result) for call in begun]
    answers = queue.Queue()
    for at, (model, tensor, more) in enumerate(calls):
        client.async_infer(model, [tensor], callback=lambda result, error, at=at: answers.put((at, result, error)), **more)
    ends = sorted((answers.get(timeout=30) for _ in calls), key=lambda end: end[0])
    return [(result, error) for _, result, error in ends]


def outcome(ask):
    try:
        return ask(), None
    except InferenceServerException as error:
        return None, error


@check("a timeout that cannot be kept ends the call, not later than promised")
def _(client):
    start = time.monotonic()
    refused(lambda: infer(client, "slow", ones(), timeout=30_000), status=("expired", "unavailable"))
    assert time.monotonic() - start < 5


@check("a time limit of the client ends the call, and the server works on", only="gRPC")
def _(client):
    start = time.monotonic()
    refused(lambda: infer(client, "slow", ones(), client_timeout=0.2))
    assert time.monotonic() - start < 2
    equal(infer(client, "slow", ones(), client_timeout=30).as_numpy("y").shape, (1,))


@check("many calls at once through async_infer get each its own answer")
def _(client):
    images = [digits() for _ in range(60)]
    expected = [infer(client, "digits", image).as_numpy("probabilities") for image in images]
    with way.connect(many=8) as many:
        ends = together(many, [("digits", way.tensor("image", image), {}) for image in images])
    for (result, error), probabilities in zip(ends, expected):
        assert error is None, error
        np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities, rtol=1e-4, atol=1e-6)


@check("a call through async_infer can be cancelled", only="gRPC")
def _(client):
    answers = queue.Queue()
    call = client.async_infer("slow", [way.tensor("x", ones())], callback=lambda result, error: answers.put(error))
    call.cancel()
    equal(answers.get(timeout=30).status(), "StatusCode.CANCELLED")


@check("a stream answers every message in order, also the one that fails", only="gRPC")
def _(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    images = [digits() for _ in range(40)]
    for at, image in enumerate(images):
        client.async_stream_infer("nothing" if at == 7 else "digits", [way.tensor("image", image)], request_id=str(at))
    for at, image in enumerate(images):
        result, error = answers.get(timeout=30)
        if at == 7:
            assert "Request for unknown model" in str(error), error
            continue
        assert error is None, error
        equal(result.get_response().id, str(at))
        expected = infer(client, "digits", image).as_numpy("probabilities")
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-4, atol=1e-6)
    client.async_stream_infer("digits", [way.tensor("image", digits())], enable_empty_final_response=True)
    result, error = answers.get(timeout=30)
    assert error is None and result.get_response().parameters["triton_final_response"].bool_param is True
    client.stop_stream()


@check("the asyncio client works as the other")
def _(client):
    async def calls():
        async with way.aio.InferenceServerClient(way.address) as other:
            assert await other.is_server_ready() and await other.is_server_live() and await other.is_model_ready("digits", "1")
            equal(way.plain(await other.get_model_metadata("digits"))["name"], "digits")
            equal(len(way.plain(await other.get_inference_statistics("digits"))["model_stats"]), 1)
            best = await other.infer("digits", [way.tensor("image", digits())], outputs=[way.wanted("probabilities", class_count=1)])
            equal(best.as_numpy("probabilities").shape, (1, 1))
            for word in ("gzip", "deflate"):
                packed = await other.infer("digits", [way.tensor("image", digits(64))], **way.compressed(word))
                equal(packed.as_numpy("label").shape, (64,))
            images = [digits() for _ in range(16)]
            results = await asyncio.gather(*(other.infer("digits", [way.tensor("image", image)]) for image in images))
            equal({result.as_numpy("label").shape for result in results}, {(1,)})
            try:
                await other.infer("nothing", [way.tensor("image", digits())])
            except InferenceServerException as error:
                assert "Request for unknown model" in str(error), error
            else:
                raise AssertionError("an unknown model was not refused")

    asyncio.run(calls())


@check("the asyncio client's streams answer in order", only="gRPC")
def _(client):
    async def messages():
        for at in range(16):
            yield {"model_name": "digits", "inputs": [way.tensor("image", digits())], "request_id": str(at)}

    async def calls():
        async with way.aio.InferenceServerClient(way.address) as other:
            seen = []
            async for result, error in other.stream_infer(messages()):
                assert error is None, error
                seen.append(result.get_response().id)
            equal(seen, [str(at) for at in range(16)])

    asyncio.run(calls())


@check("what does not fit the model is refused by name")
def _(client):
    refused(lambda: infer(client, "nothing", digits()), "Request for unknown model", status="not found")
    refused(lambda: infer(client, "digits", digits(), model_version="9"), status="not found")
    refused(lambda: infer(client, "digits", digits(), "picture"), "picture", status="bad")
    refused(lambda: infer(client, "digits", digits()[:, :63]), "image", "[1,63]", status="bad")
    refused(lambda: infer(client, "digits", digits().astype(np.float64)), "image", "FP64", status="bad")
    refused(lambda: client.infer("digits", [way.tensor("image", digits())] * 2), "already exists in request", status="bad")
    refused(lambda: client.infer("digits", []), status="bad")
    refused(lambda: infer(client, "digits", digits(), outputs=[way.wanted("nothing")]), "nothing", status="bad")
    refused(lambda: infer(client, "digits", digits(65)), "64", status="bad")
    refused(lambda: infer(client, "broken", digits()), "failed to load", status="failed model")


@check("the example model 'simple' adds and subtracts", "simple")
def _(client):
    left, right = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), dtype=np.int32)
    for form in way.forms:
        result = client.infer("simple", [way.tensor("INPUT0", left, **form), way.tensor("INPUT1", right)])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


@check("the example model 'simple_int8' adds and subtracts", "simple_int8")
def _(client):
    left, right = np.arange(16, dtype=np.int8).reshape(1, 16), np.ones((1, 16), dtype=np.int8)
    result = client.infer("simple_int8", [way.tensor("INPUT0", left), way.tensor("INPUT1", right)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


@check("the example model 'simple_string' adds numbers written as text", "simple_string")
def _(client):
    left = np.array([[str(n) for n in range(16)]], dtype=np.object_)
    right = np.array([["1"] * 16], dtype=np.object_)
    for form in way.forms:
        result = client.infer("simple_string", [way.tensor("INPUT0", left, **form), way.tensor("INPUT1", right, **form)])
        equal([int(element) for element in result.as_numpy("OUTPUT0").ravel()], [n + 1 for n in range(16)])
        equal([int(element) for element in result.as_numpy("OUTPUT1").ravel()], [n - 1 for n in range(16)])


with way.connect() as shared_client:
    run(shared_client)
