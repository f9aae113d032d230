"""A list of checks, each a sentence about the server; every result is one JSON line on standard output."""

import json
import os
import sys
import traceback

URL = os.environ["SWITCHYARD_URL"]
ADDRESS = URL.split("://", 1)[1]
GRPC = os.environ["SWITCHYARD_GRPC"]
MODELS = set(os.environ["CHECKED_MODELS"].split(","))
WAY = sys.argv[1]
"""HTTP or gRPC."""

_checks = []


def check(sentence, model=None, only=None):
    """Registers a function. One whose `model` is not served is told as skipped; `only`: the way that it is about."""

    def register(function):
        if only in (None, WAY):
            _checks.append((sentence, model, function))
        return function

    return register


def equal(got, expected):
    assert got == expected, f"expected {expected!r}, got {got!r}"


def run(*arguments):
    for sentence, model, function in _checks:
        result = {"sentence": sentence}
        if model is not None and model not in MODELS:
            result["skipped"] = f"{model} is not served: SWITCHYARD_TEST_MODELS is unset"
        else:
            try:
                function(*arguments)
            except Exception:
                result["failure"] = traceback.format_exc()
        print(json.dumps(result), flush=True)
    sys.exit(0)
