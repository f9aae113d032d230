"""What tritonclient's HTTP client, unchanged, finds at the address in SWITCHYARD_URL."""

import asyncio
import time
import urllib.request

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from checks import ADDRESS, MODELS, URL, check, equal, run

RANDOM = np.random.default_rng(5)


def tensor(name, array, binary=True, datatype=None):
    words = {"b": "BOOL", "f": "FP", "i": "INT", "u": "UINT", "O": "BYTES"}
    kind = array.dtype.kind
    datatype = datatype or (words[kind] if kind in "bO" else f"{words[kind]}{array.dtype.itemsize * 8}")
    made = http.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
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
            equal(error.status(), str(status))
        return error
    raise AssertionError("it was not refused")


@check("server and model are live and ready")
def _(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nothing")


@check("server metadata names the server and only extensions that it has")
def _(client):
    metadata = client.get_server_metadata()
    equal(metadata["name"], "switchyard")
    expected = {"binary_tensor_data", "classification", "model_configuration", "schedule_policy", "parameters", "statistics", "model_repository"}
    assert expected <= set(metadata["extensions"]), metadata
    assert not {"sequence", "logging", "trace", "system_shared_memory"} & set(metadata["extensions"]), metadata
    if "system_shared_memory" not in metadata["extensions"]:
        refused(client.get_system_shared_memory_status, status=404)


@check("model metadata and configuration agree")
def _(client):
    metadata = client.get_model_metadata("digits")
    equal(metadata["inputs"], [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}])
    equal([output["name"] for output in metadata["outputs"]], ["probabilities", "label"])
    equal(client.get_model_metadata("digits", "1")["versions"], ["1"])
    config = client.get_model_config("digits")
    equal(config["max_batch_size"], 64)
    equal(config["input"], [{"name": "image", "data_type": "TYPE_FP32", "dims": [64]}])
    refused(lambda: client.get_model_metadata("nothing"), "Request for unknown model", status=404)
    refused(lambda: client.get_model_metadata("digits", "9"), status=404)


@check("the repository index lists every model, also the broken one")
def _(client):
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    equal(index["digits"]["state"], "READY")
    equal(index["broken"]["state"], "UNAVAILABLE")
    assert index["broken"]["reason"]


@check("a model is unloaded and loaded, with another batch size too, and a wrong one is refused")
def _(client):
    client.unload_model("digits")
    assert not client.is_model_ready("digits")
    refused(lambda: client.infer("digits", [tensor("image", digits())]), "has no available versions", status=400)
    client.load_model("digits", config='{"max_batch_size": "16"}')
    equal(client.get_model_config("digits")["max_batch_size"], 16)
    client.load_model("digits")
    equal(client.get_model_config("digits")["max_batch_size"], 64)
    assert client.is_model_ready("digits")
    refused(lambda: client.load_model("nothing"), "failed to load 'nothing'", status=400)
    refused(lambda: client.load_model("digits", config="{"), "failed to load 'digits'", status=400)


@check("JSON and binary tensors give the same answer, in all four combinations")
def _(client):
    image = digits(3)
    answers = []
    for binary_in in (True, False):
        for binary_out in (True, False):
            wanted = [http.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label")]
            result = client.infer("digits", [tensor("image", image, binary_in)], outputs=wanted, request_id="a1")
            equal(result.get_response()["id"], "a1")
            equal(result.get_response()["model_version"], "1")
            probabilities = result.as_numpy("probabilities")
            equal((probabilities.shape, probabilities.dtype), ((3, 10), np.dtype(np.float32)))
            equal(result.as_numpy("label").dtype, np.dtype(np.int64))
            answers.append((probabilities, result.as_numpy("label")))
    for probabilities, label in answers[1:]:
        np.testing.assert_allclose(probabilities, answers[0][0], rtol=1e-5)
        np.testing.assert_array_equal(label, answers[0][1])
    np.testing.assert_array_equal(answers[0][0].argmax(axis=1), answers[0][1])


@check("without a list of outputs all come, and one that is asked for comes alone")
def _(client):
    everything = client.infer("digits", [tensor("image", digits())], model_version="1").get_response()
    equal([output["name"] for output in everything["outputs"]], ["probabilities", "label"])
    one = client.infer("digits", [tensor("image", digits())], outputs=[http.InferRequestedOutput("label")]).get_response()
    equal([output["name"] for output in one["outputs"]], ["label"])


@check("every type of tensor comes back as it went, in binary")
def _(client):
    bits = RANDOM.integers(0, 256, size=(2, 3, 8), dtype=np.uint8)
    for word in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = bits[:, :, 0] > 127 if word == "bool" else np.ascontiguousarray(bits).view(word)[:, :, 0].copy()
        if word.startswith("float"):
            array = RANDOM.normal(size=(2, 3)).astype(word)
            array[0, 0], array[0, 1] = np.nan, np.inf
        result = client.infer(f"identity-{word}", [tensor("x", array)]).as_numpy("y")
        equal(result.dtype, array.dtype)
        equal(result.tobytes(), array.tobytes())


@check("64-bit integers and doubles are exact in JSON")
def _(client):
    for word, values in (("int64", [2**63 - 1, -(2**63)]), ("uint64", [2**64 - 1, 0]), ("float64", [0.1, -1e300]), ("bool", [True, False])):
        array = np.array([values], dtype=word)
        wanted = [http.InferRequestedOutput("y", binary_data=False)]
        result = client.infer(f"identity-{word}", [tensor("x", array, binary=False)], outputs=wanted)
        np.testing.assert_array_equal(result.as_numpy("y"), array)


@check("empty tensors pass")
def _(client):
    array = np.zeros((0, 3), dtype=np.float32)
    equal(client.infer("identity-float32", [tensor("x", array)]).as_numpy("y").shape, (0, 3))


@check("text tensors pass in both forms, with any Unicode and empty elements")
def _(client):
    words = np.array([["one", "", "dreißig", "四十", "a" * 70_000]], dtype=np.object_)
    for binary in (True, False):
        wanted = [http.InferRequestedOutput("y", binary_data=binary)]
        result = client.infer("identity-text", [tensor("x", words, binary)], outputs=wanted).as_numpy("y")
        got = [element.decode() if isinstance(element, bytes) else element for element in result.ravel()]
        equal(got, list(words.ravel()))


@check("text that is not UTF-8 is refused with tensor and index")
def _(client):
    words = np.array([[b"fine", b"\xff\xfe"]], dtype=np.object_)
    refused(lambda: client.infer("identity-text", [tensor("x", words)]), "'x'", "1", status=400)


@check("classification answers value, index and label, the best first")
def _(client):
    image = digits(2)
    probabilities = client.infer("digits", [tensor("image", image)]).as_numpy("probabilities")
    for binary in (True, False):
        wanted = [http.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        classes = client.infer("digits", [tensor("image", image)], outputs=wanted).as_numpy("probabilities")
        equal(classes.shape, (2, 3))
        for row, expected in zip(classes, probabilities):
            order = np.argsort(-expected, kind="stable")[:3]
            for element, index in zip(row, order):
                text = element.decode() if isinstance(element, bytes) else element
                value, got, label = text.split(":")
                equal((int(got), label), (int(index), str(index)))
                np.testing.assert_allclose(float(value), expected[index], rtol=1e-4, atol=1e-6)


@check("requests and answers may be compressed")
def _(client):
    image = digits(4)
    plain = client.infer("digits", [tensor("image", image)]).as_numpy("probabilities")
    for word in ("gzip", "deflate"):
        result = client.infer(
            "digits", [tensor("image", image)], request_compression_algorithm=word, response_compression_algorithm=word
        )
        np.testing.assert_allclose(result.as_numpy("probabilities"), plain, rtol=1e-5)


@check("a compressed answer is told as such, and no client gets one that it did not ask for")
def _(client):
    image = digits(64)
    for word in ("gzip", "deflate", None):
        for binary in (True, False):
            wanted = [http.InferRequestedOutput("probabilities", binary_data=binary)]
            result = client.infer("digits", [tensor("image", image)], outputs=wanted, response_compression_algorithm=word)
            equal(result.as_numpy("probabilities").shape, (64, 10))
            told = dict(raw_headers(client, image, word, binary)).get("content-encoding")
            equal(told, word)


def raw_headers(client, image, word, binary):
    """Of an answer to what the client would send."""
    wanted = [http.InferRequestedOutput("probabilities", binary_data=binary)]
    body, length = http.InferenceServerClient.generate_request_body([tensor("image", image)], outputs=wanted)
    headers = {"Inference-Header-Content-Length": str(length)}
    if word:
        headers["Accept-Encoding"] = word
    request = urllib.request.Request(f"{URL}/v2/models/digits/infer", data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return [(name.lower(), value) for name, value in answer.getheaders()]


@check("statistics have every entry, count what was answered, and grow by it")
def _(client):
    entries = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
    before = client.get_inference_statistics("digits", "1")["model_stats"]
    equal(len(before), 1)
    for _ in range(7):
        client.infer("digits", [tensor("image", digits(3))])
    after = client.get_inference_statistics("digits")["model_stats"]
    equal(len(after), 1)
    before, after = before[0], after[0]
    equal((after["name"], after["version"]), ("digits", "1"))
    equal(set(after["inference_stats"]), entries)
    for entry in after["inference_stats"].values():
        assert set(entry) == {"count", "ns"} and min(entry.values()) >= 0 and all(isinstance(n, int) for n in entry.values()), entry
    grown = {name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] for name in entries}
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        equal((name, grown[name]), (name, 7))
    equal((grown["fail"], grown["cache_hit"], grown["cache_miss"]), (0, 0, 0))
    equal(after["inference_count"] - before["inference_count"], 21)
    equal(after["execution_count"] - before["execution_count"], 7)
    equal(sum(batch["compute_infer"]["count"] for batch in after["batch_stats"]), after["execution_count"])
    assert abs(after["last_inference"] / 1000 - time.time()) < 60, after["last_inference"]
    every = {entry["name"] for entry in client.get_inference_statistics()["model_stats"]}
    assert {"digits", "slow", "identity-text"} <= every and "broken" not in every, every
    refused(lambda: client.get_inference_statistics("nothing"), "Request for unknown model", status=404)
    refused(lambda: client.get_inference_statistics("digits", "9"), status=404)


@check("what expired is counted as failed")
def _(client):
    def failed():
        return client.get_inference_statistics("slow")["model_stats"][0]["inference_stats"]["fail"]["count"]

    before = failed()
    refused(lambda: client.infer("slow", [tensor("x", np.ones((1,), dtype=np.float32))], timeout=100_000))
    assert failed() - before <= 1  # one that is refused when it comes was never begun


@check("configuration, by version too, is what the metadata says")
def _(client):
    for model in sorted(MODELS - {"broken"}):
        metadata, config = client.get_model_metadata(model), client.get_model_config(model, "1")
        equal((config["name"], config["platform"]), (model, metadata["platform"]))
        for side, plural in (("input", "inputs"), ("output", "outputs")):
            equal([one["name"] for one in config[side]], [one["name"] for one in metadata[plural]])
            for one, other in zip(config[side], metadata[plural]):
                batch = [-1] if config["max_batch_size"] > 0 else []
                equal(batch + one["dims"], other["shape"])
                equal(one["data_type"].replace("TYPE_STRING", "TYPE_BYTES"), f"TYPE_{other['datatype']}")
    refused(lambda: client.get_model_config("digits", "9"), status=404)
    refused(lambda: client.get_model_config("broken"), "failed to load", status=503)


@check("bodies made and answers read without the client's connection work")
def _(client):
    body, header_length = http.InferenceServerClient.generate_request_body([tensor("image", digits())])
    equal(http.InferenceServerClient.generate_request_body([tensor("image", digits(), binary=False)])[1], None)
    assert header_length is not None and len(body) == header_length + 256


@check("priority, timeout and parameters of the caller's own are accepted")
def _(client):
    for arguments in ({"priority": 1}, {"priority": 7}, {"timeout": 20_000_000}, {"timeout": 0}, {"parameters": {"campaign": "x", "n": 3}}):
        client.infer("digits", [tensor("image", digits())], **arguments)


@check("a sequence is refused, whether its id is a number or text; without one a request is just a request")
def _(client):
    for sequence in (7, "robot"):
        refused(lambda: client.infer("digits", [tensor("image", digits())], sequence_id=sequence, sequence_start=True), "not supported", status=501)
    client.infer("digits", [tensor("image", digits())], sequence_id=0)


@check("a timeout that cannot be kept ends the call as expired, not later than promised")
def _(client):
    start = time.monotonic()
    refused(lambda: client.infer("slow", [tensor("x", np.ones((1,), dtype=np.float32))], timeout=30_000), status=504)
    assert time.monotonic() - start < 5


@check("timeout=500000 is half a second: what is done within it is answered, what is not ends then")
def _(client):
    client.infer("digits", [tensor("image", digits())], timeout=500_000)
    for limit in (500_000, "500000"):
        with http.InferenceServerClient(ADDRESS, concurrency=6) as many:
            start = time.monotonic()
            calls = [many.async_infer("slow", [tensor("x", np.ones((1,), dtype=np.float32))], timeout=limit) for _ in range(6)]
            ends = []
            for call in calls:
                try:
                    call.get_result()
                    ends.append("200")
                except InferenceServerException as error:
                    ends.append(error.status())
            took = time.monotonic() - start
        assert set(ends) <= {"200", "503", "504"} and ends.count("200") < 6, ends  # six runs of 0.4 s do not fit
        assert took < 1.5, f"{took} s, {ends}"


@check("many calls at once through async_infer get each its own answer")
def _(client):
    images = [digits() for _ in range(60)]
    expected = [client.infer("digits", [tensor("image", image)]).as_numpy("probabilities") for image in images]
    with http.InferenceServerClient(ADDRESS, concurrency=8) as many:
        calls = [many.async_infer("digits", [tensor("image", image)]) for image in images]
        for call, probabilities in zip(calls, expected):
            np.testing.assert_allclose(call.get_result().as_numpy("probabilities"), probabilities, rtol=1e-4, atol=1e-6)


@check("the asyncio client works as the other")
def _(client):
    async def calls():
        async with aio.InferenceServerClient(ADDRESS) as other:
            assert await other.is_server_ready() and await other.is_server_live() and await other.is_model_ready("digits", "1")
            assert "statistics" in (await other.get_server_metadata())["extensions"]
            equal((await other.get_model_config("digits"))["max_batch_size"], 64)
            assert "digits" in {entry["name"] for entry in await other.get_model_repository_index()}
            equal(len((await other.get_inference_statistics("digits"))["model_stats"]), 1)
            wanted = [aio.InferRequestedOutput("probabilities", binary_data=True, class_count=1)]
            best = (await other.infer("digits", [tensor("image", digits())], outputs=wanted)).as_numpy("probabilities")
            equal(best.shape, (1, 1))
            for word in ("gzip", "deflate"):
                packed = await other.infer(
                    "digits", [tensor("image", digits(64))], request_compression_algorithm=word, response_compression_algorithm=word
                )
                equal(packed.as_numpy("label").shape, (64,))
            equal((await other.get_model_metadata("digits"))["name"], "digits")
            images = [digits() for _ in range(16)]
            results = await asyncio.gather(*(other.infer("digits", [tensor("image", image)]) for image in images))
            equal({result.as_numpy("label").shape for result in results}, {(1,)})
            try:
                await other.infer("nothing", [tensor("image", digits())])
            except InferenceServerException as error:
                assert "Request for unknown model" in str(error), error
            else:
                raise AssertionError("an unknown model was not refused")

    asyncio.run(calls())


@check("what does not fit the model is refused by name")
def _(client):
    refused(lambda: client.infer("nothing", [tensor("image", digits())]), "Request for unknown model", status=404)
    refused(lambda: client.infer("digits", [tensor("image", digits())], model_version="9"), status=404)
    refused(lambda: client.infer("digits", [tensor("picture", digits())]), "picture", status=400)
    refused(lambda: client.infer("digits", [tensor("image", digits()[:, :63])]), "image", "[1,63]", status=400)
    refused(lambda: client.infer("digits", [tensor("image", digits().astype(np.float64))]), "image", "FP64", status=400)
    refused(lambda: client.infer("digits", [tensor("image", digits()), tensor("image", digits())]), "image", status=400)
    refused(lambda: client.infer("digits", []), status=400)
    refused(lambda: client.infer("digits", [tensor("image", digits())], outputs=[http.InferRequestedOutput("nothing")]), "nothing", status=400)
    refused(lambda: client.infer("digits", [tensor("image", digits(65))]), "64", status=400)
    refused(lambda: client.infer("broken", [tensor("x", digits())]), "failed to load", status=503)


@check("16-bit floats in JSON are refused with the way out", "identity-float16")
def _(client):
    half = np.ones((1, 2), dtype=np.float16)
    wanted = [http.InferRequestedOutput("y", binary_data=False)]
    refused(lambda: client.infer("identity-float16", [tensor("x", half)], outputs=wanted), "binary", status=400)


@check("the example model 'simple' adds and subtracts", "simple")
def _(client):
    left, right = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), dtype=np.int32)
    for binary in (True, False):
        result = client.infer("simple", [tensor("INPUT0", left, binary), tensor("INPUT1", right, not binary)])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


@check("the example model 'simple_int8' adds and subtracts", "simple_int8")
def _(client):
    left, right = np.arange(16, dtype=np.int8).reshape(1, 16), np.ones((1, 16), dtype=np.int8)
    result = client.infer("simple_int8", [tensor("INPUT0", left), tensor("INPUT1", right)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


@check("the example model 'simple_string' adds numbers written as text", "simple_string")
def _(client):
    left = np.array([[str(n) for n in range(16)]], dtype=np.object_)
    right = np.array([["1"] * 16], dtype=np.object_)
    for binary in (True, False):
        result = client.infer("simple_string", [tensor("INPUT0", left, binary), tensor("INPUT1", right, binary)])
        equal([int(text) for text in result.as_numpy("OUTPUT0").ravel()], [n + 1 for n in range(16)])
        equal([int(text) for text in result.as_numpy("OUTPUT1").ravel()], [n - 1 for n in range(16)])


with http.InferenceServerClient(ADDRESS) as shared_client:
    run(shared_client)
