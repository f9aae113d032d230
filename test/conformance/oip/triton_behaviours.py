"""
What Triton's own quality tests and documents say a server does, asked in words of our own through tritonclient: texts and statuses of refusals,
classification, parameters, time limits in microseconds, sequences, counters, states of the repository, loading with settings and files, unloading.
Where Switchyard chose otherwise, the check says so.
"""

import base64
import json
import struct
import time
import urllib.error
import urllib.request

import numpy as np

from checks import MODELS, URL, check, equal, run
from tritonclient_ways import digits, infer, ones, refused, statistics, text, way

ENTRIES = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
IMAGE = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}


def post(path, body, headers=None):
    """Status, Content-Type and parsed body of one HTTP request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers={"Content-Type": "application/json", **(headers or {})}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def error_of(path, body, headers=None, status=400):
    got, kind, answer = post(path, body, headers)
    equal((got, kind), (status, "application/json"))
    parsed = json.loads(answer)
    equal(list(parsed), ["error"])
    return parsed["error"]


def until(what, look, seconds=15):
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


# ---- texts and statuses of refusals


@check("an unknown model and an unknown version are refused in the words that clients look for")
def _(client):
    for call in (
        lambda: infer(client, "nothing", digits()),
        lambda: client.get_model_metadata("nothing"),
        lambda: client.get_model_config("nothing"),
        lambda: client.get_inference_statistics("nothing"),
        lambda: infer(client, "digits", digits(), model_version="9"),
        lambda: client.get_model_metadata("digits", "9"),
    ):
        refused(call, "Request for unknown model", status="not found")
    refused(lambda: infer(client, "digits", digits(), model_version="not-a-number"), status="not found")


@check("errors are exactly an object with one text, as exactly application/json", only="HTTP")
def _(client):
    infer_path = "/v2/models/digits/infer"
    assert "image" in error_of(infer_path, {"inputs": []})
    error_of(infer_path, b"{")
    error_of(infer_path, b"[]")
    error_of(infer_path, {"inputs": [{**IMAGE, "data": [0.5] * 63}]})
    error_of(infer_path, {"inputs": [{**IMAGE, "shape": [1, -64]}]})  # Triton answers 500 to a negative dimension
    error_of(infer_path, {"inputs": [{**IMAGE, "datatype": "FLOAT"}]})
    error_of("/v2/models/nothing/infer", {"inputs": [IMAGE]}, status=404)
    error_of("/v2/no/such/path", {}, status=404)
    assert "already exists in request" in error_of(infer_path, {"inputs": [IMAGE, IMAGE]})
    assert "already exists in request" in error_of(infer_path, {"inputs": [IMAGE], "outputs": [{"name": "label"}] * 2})
    assert "byte size overflow for input" in error_of(infer_path, {"inputs": [{**IMAGE, "shape": [2**30, 2**30]}]})


@check("JSON is nested 100 deep at most", only="HTTP")
def _(client):
    nested = lambda depth: b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}"
    assert "JSON nesting depth exceeds maximum allowed limit (100)" in error_of("/v2/models/digits/infer", nested(120))
    assert "JSON nesting depth" not in error_of("/v2/models/digits/infer", nested(50))


@check("a body beyond the limit is refused with its size, before it is read", only="HTTP")
def _(client):
    with_length = {"Content-Length": str(10**10)}
    assert "exceed maximum size" in error_of("/v2/models/digits/infer", b"", with_length, status=413)


@check("a binary tensor has exactly the bytes of its shape, and nothing lies behind the last one", only="HTTP")
def _(client):
    def body(extra=b"", size=256):
        head = json.dumps({"inputs": [{**{key: IMAGE[key] for key in ("name", "shape", "datatype")}, "parameters": {"binary_data_size": size}}]})
        return head.encode() + np.zeros(64, dtype=np.float32).tobytes() + extra, {"Inference-Header-Content-Length": str(len(head))}

    equal(post("/v2/models/digits/infer", *body())[0], 200)
    assert "unexpected additional input data" in error_of("/v2/models/digits/infer", *body(extra=b"1234"))
    error_of("/v2/models/digits/infer", *body(size=252))
    error_of("/v2/models/digits/infer", *body(size=260))
    error_of("/v2/models/digits/infer", body()[0], {"Inference-Header-Content-Length": "1000000"})
    error_of("/v2/models/digits/infer", body()[0], {"Inference-Header-Content-Length": "-1"})


@check("a raw request is the only input of the model, and every output comes back in binary", only="HTTP")
def _(client):
    raw = {"Inference-Header-Content-Length": "0"}
    request = urllib.request.Request(f"{URL}/v2/models/slow/infer", data=struct.pack("<f", 1), headers=raw)
    with urllib.request.urlopen(request) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        head, tail = (lambda whole: (json.loads(whole[:length]), whole[length:]))(answer.read())
    assert all("binary_data_size" in output["parameters"] for output in head["outputs"]), head
    equal(sum(output["parameters"]["binary_data_size"] for output in head["outputs"]), len(tail))
    error_of("/v2/models/slow/infer", b"12345", raw)


@check("a raw request to a model of two inputs is refused in words", "simple", only="HTTP")
def _(client):
    assert "Raw request must only have 1 input" in error_of("/v2/models/simple/infer", b"1234", {"Inference-Header-Content-Length": "0"})


@check("more tensors than inputs are refused in words", only="gRPC")
def _(client):
    from grpc import RpcError, insecure_channel
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    with insecure_channel(way.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="digits")
        request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
        request.raw_input_contents.extend([np.zeros(64, dtype=np.float32).tobytes(), b"1234"])
        try:
            stub.ModelInfer(request)
        except RpcError as error:
            assert "unexpected additional input data for model" in error.details(), error
        else:
            raise AssertionError("it was not refused")


# ---- classification


@check("classification: k above the number of classes gives all of them, equal values by index, without labels value and index alone")
def _(client):
    for form in way.forms:
        every = infer(client, "digits", digits(2), outputs=[way.wanted("probabilities", class_count=99, **form)]).as_numpy("probabilities")
        equal(every.shape, (2, 10))
        for row in every:
            equal(sorted(int(text(element).split(":")[1]) for element in row), list(range(10)))
            values = [float(text(element).split(":")[0]) for element in row]
            equal(values, sorted(values, reverse=True))
        equals = np.zeros((1, 4), dtype=np.float32)
        ranked = infer(client, "identity-float32", equals, outputs=[way.wanted("y", class_count=3, **form)]).as_numpy("y")
        equal([text(element).split(":")[1:] for element in ranked.ravel()], [["0"], ["1"], ["2"]])
    mixed = infer(client, "digits", digits(), outputs=[way.wanted("probabilities", class_count=1), way.wanted("label")])
    equal((mixed.as_numpy("probabilities").dtype.kind, mixed.as_numpy("label").dtype), ("O", np.dtype(np.int64)))


# ---- parameters


@check("parameters of the caller's own pass; reserved ones, and what the protocol has no type for, are refused by name")
def _(client):
    infer(client, "digits", digits(), parameters={"text": "x", "whole": 2**40, "yes": False, "part": 0.25})
    refused(lambda: infer(client, "digits", digits(), parameters={"triton_anything": 1}))  # by the client itself
    if way.name == "HTTP":
        assert "triton_anything" in error_of("/v2/models/digits/infer", {"inputs": [IMAGE], "parameters": {"triton_anything": 1}})
        for wrong in ({"deep": {"a": 1}}, {"list": [1]}, {"nothing": None}, []):
            error_of("/v2/models/digits/infer", {"inputs": [IMAGE], "parameters": wrong})


@check("priority is a whole number of at least 0")
def _(client):
    for priority in (0, 1, 2, 3, 1000):
        infer(client, "digits", digits(), priority=priority)
    if way.name == "HTTP":
        assert "priority" in error_of("/v2/models/digits/infer", {"inputs": [IMAGE], "parameters": {"priority": -1}})


# ---- time limits


@check("timeout counts microseconds, as number or text; 0 means the default; what cannot be a time is refused")
def _(client):
    infer(client, "digits", digits(), timeout=0)
    infer(client, "digits", digits(), timeout=5_000_000)
    if way.name == "HTTP":
        path = "/v2/models/slow/infer"
        slow = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
        equal(post(path, {"inputs": [slow], "parameters": {"timeout": "20000000"}})[0], 200)
        for short in (50_000, "50000"):
            got, _, answer = post(path, {"inputs": [slow], "parameters": {"timeout": short}})
            assert got in (503, 504), (got, answer)
        for wrong in (-1, 1.5, "soon", True):
            assert "timeout" in error_of(path, {"inputs": [slow], "parameters": {"timeout": wrong}})


@check("what waits in the queue beyond its timeout is not run; Triton answers UNAVAILABLE, this server that the deadline passed")
def _(client):
    before = statistics(client, "slow")[0]["execution_count"]
    start = time.monotonic()
    ends = [refused(lambda: infer(client, "slow", ones(), timeout=100_000), status=("expired", "unavailable")) for _ in range(3)]
    assert time.monotonic() - start < 3, ends
    runs = statistics(client, "slow")[0]["execution_count"] - before
    assert runs <= 1, f"{runs} runs of what could not be in time"


# ---- sequences


@check("a sequence is refused, whether its id is a number or text; without one a request is just a request")
def _(client):
    for sequence in (7, "robot"):
        refused(lambda: infer(client, "digits", digits(), sequence_id=sequence, sequence_start=True), "not supported", status="unsupported")
        refused(lambda: infer(client, "digits", digits(), sequence_id=sequence, sequence_end=True), "not supported", status="unsupported")
    infer(client, "digits", digits(), sequence_id=0)
    infer(client, "digits", digits(), sequence_id="")


# ---- counters


def grown(client, model, act):
    before = statistics(client, model, "1")
    equal(len(before), 1)
    act()
    after = statistics(client, model)
    equal(len(after), 1)
    counts = {name: after[0]["inference_stats"][name]["count"] - before[0]["inference_stats"][name]["count"] for name in ENTRIES}
    return before[0], after[0], counts


@check("statistics have every entry, count what was answered, and grow by it")
def _(client):
    before, after, counts = grown(client, "digits", lambda: [infer(client, "digits", digits(3)) for _ in range(7)])
    equal((after["name"], after["version"]), ("digits", "1"))
    equal(set(after["inference_stats"]), ENTRIES)
    for entry in after["inference_stats"].values():
        assert set(entry) == {"count", "ns"} and min(entry.values()) >= 0 and all(isinstance(n, int) for n in entry.values()), entry
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        equal((name, counts[name]), (name, 7))
    equal((counts["fail"], counts["cache_hit"], counts["cache_miss"]), (0, 0, 0))
    equal(after["inference_count"] - before["inference_count"], 21)
    equal(after["execution_count"] - before["execution_count"], 7)
    equal(sum(batch["compute_infer"]["count"] for batch in after["batch_stats"]), after["execution_count"])
    assert abs(after["last_inference"] / 1000 - time.time()) < 60, after["last_inference"]
    for name in ("success", "compute_infer"):
        assert after["inference_stats"][name]["ns"] > before["inference_stats"][name]["ns"], name
    every = {entry["name"] for entry in statistics(client)}
    assert {"digits", "slow", "identity-text"} <= every and "broken" not in every, every
    refused(lambda: client.get_inference_statistics("digits", "9"), status="not found")


@check("a refused request is counted nowhere, one that expired as failed at most once")
def _(client):
    _, _, counts = grown(client, "digits", lambda: refused(lambda: infer(client, "digits", digits(), "picture")))
    equal(set(counts.values()), {0})
    _, _, counts = grown(client, "slow", lambda: refused(lambda: infer(client, "slow", ones(), timeout=100_000)))
    assert counts["fail"] <= 1 and counts["success"] == 0, counts  # one that is refused when it comes was never begun


# ---- the repository


@check("the repository index has every model with its state, and only the ready ones when asked for them")
def _(client):
    index = way.index(client)
    assert MODELS <= set(index), set(index)
    equal((index["digits"]["state"], index["digits"]["version"]), ("READY", "1"))
    equal(index["broken"]["state"], "UNAVAILABLE")
    assert index["broken"]["reason"]
    if way.name == "HTTP":
        ready = json.loads(post("/v2/repository/index", {"ready": True})[2])
        equal({entry["state"] for entry in ready}, {"READY"})
        equal(json.loads(post("/v2/repository/any-name/index", b"")[2]), json.loads(post("/v2/repository/index", b"")[2]))
        assert "Invalid value for 'ready'" in error_of("/v2/repository/index", {"ready": "yes"})


@check("a model that is unloaded is told as such everywhere until it is loaded again")
def _(client):
    client.unload_model("digits")
    try:
        assert not client.is_model_ready("digits")
        refused(lambda: infer(client, "digits", digits()), "Request for unknown model", "has no available versions", status="not loaded")
        refused(lambda: client.get_model_metadata("digits"), "has no available versions", status="not loaded")
        refused(lambda: client.get_model_config("digits"), "has no available versions", status="not loaded")
        until("the last host to let it go", lambda: way.index(client)["digits"]["state"] == "UNAVAILABLE")
        assert "unload" in way.index(client)["digits"]["reason"], way.index(client)["digits"]
        client.unload_model("digits")  # twice is once
    finally:
        client.load_model("digits")
    assert client.is_model_ready("digits")
    equal(way.index(client)["digits"]["state"], "READY")
    infer(client, "digits", digits())


@check("unload_dependents is accepted, and a model that nobody knows cannot be unloaded")
def _(client):
    client.unload_model("identity-int8", unload_dependents=True)
    client.load_model("identity-int8")
    refused(lambda: client.unload_model("nothing"), "Request for unknown model", status="not found")


@check("a load may bring settings, which last until the next one, and wrong ones change nothing")
def _(client):
    client.load_model("digits", config='{"max_batch_size": "16"}')
    equal(way.config(client, "digits")["max_batch_size"], 16)
    refused(lambda: infer(client, "digits", digits(17)), "16", status="bad")
    infer(client, "digits", digits(16))
    for wrong in ("{", "[]", '{"max_batch_size": -1}', '{"no_such_field": 1}', '{"name": "another"}'):
        refused(lambda: client.load_model("digits", config=wrong), "failed to load 'digits'", status="not loaded")
        equal(way.config(client, "digits")["max_batch_size"], 16)
    client.load_model("digits")
    equal(way.config(client, "digits")["max_batch_size"], 64)
    for unknown in ("nothing", "broken"):
        refused(lambda: client.load_model(unknown), f"failed to load '{unknown}'", status="not loaded")


@check("a load may bring a model's file, which is a version of its own, and files want settings beside them")
def _(client):
    graph = identity_graph()
    refused(lambda: client.load_model("brought", files={"file:1/model.onnx": graph}), "failed to load 'brought'")
    name = f"brought-{way.name.lower()}"
    client.load_model(name, config='{"max_batch_size": 0}', files={"file:1/model.onnx": graph})
    assert client.is_model_ready(name, "1")
    np.testing.assert_array_equal(infer(client, name, np.float32([[1, 2]])).as_numpy("y"), np.float32([[1, 2]]))
    refused(lambda: client.load_model(name, config="{}", files={"file:2/model.onnx": b"no graph"}), f"failed to load '{name}'", status="not loaded")
    infer(client, name, np.float32([[1, 2]]))
    client.unload_model(name)


def identity_graph():
    """y = x as ONNX, written by hand: the same on every machine, and no library for it is needed."""

    def field(number, payload):
        data = payload.encode() if isinstance(payload, str) else payload
        return bytes([number << 3 | 2, len(data)]) + data

    def value(name):
        dimensions = b"".join(field(1, field(2, axis)) for axis in ("rows", "columns"))
        return field(1, name) + field(2, field(1, bytes([1 << 3, 1]) + field(2, dimensions)))

    node = field(1, "x") + field(2, "y") + field(4, "Identity")
    graph = field(1, node) + field(2, "graph") + field(11, value("x")) + field(12, value("y"))
    return bytes([1 << 3, 8]) + field(7, graph) + field(8, bytes([2 << 3, 14]))


@check("files travel as base64 over HTTP, and what is none is refused", only="HTTP")
def _(client):
    path = "/v2/repository/models/brought-raw/load"
    good = base64.b64encode(identity_graph()).decode()
    equal(post(path, {"parameters": {"config": "{}", "file:1/model.onnx": good}})[0], 200)
    assert "file:2/model.onnx" in error_of(path, {"parameters": {"config": "{}", "file:2/model.onnx": "not base64!"}})
    error_of(path, {"parameters": {"config": "{}", "file:../escape": good}})
    error_of(path, {"parameters": {"unknown": 1}})
    equal(post("/v2/repository/models/brought-raw/unload", b"")[0], 200)


with way.connect() as shared_client:
    run(shared_client)
