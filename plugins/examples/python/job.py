"""A job in Python: three items that end in three ways."""

import json
import time

import mistakes
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import events, logging, outgoing_handler
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_http_types as http
from wit_world.imports import wasi_keyvalue_store as keyvalue
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.tidemill_job_types import (
    Error,
    Failure_Permanent,
    Failure_Transient,
    Found,
    Item,
    Outcome,
    Outcome_Resolved,
    Page,
    PageRequest,
)

DESCRIPTION = {
    "name": "example-python",
    "version": "0.1.0",
    "summary": "Three items that end in three ways, in Python.",
    "config": {
        "type": "object",
        "properties": {
            "service": {"type": "string"},
            "fail_times": {"type": "integer", "minimum": 0},
            "also": {"type": "string"},
            "discover_mistake": {"type": "string"},
        },
        "required": ["service"],
        "additionalProperties": False,
    },
    "topics": ["ExampleDone"],
    "capabilities": ["keyvalue"],
}


class Job(exports.Job):
    def describe(self) -> str:
        return json.dumps(DESCRIPTION)

    def discover(self, request: PageRequest) -> Page:
        mistake = config.get("discover_mistake")
        if mistake:
            mistakes.make(mistake)
        also = [key for key in (config.get("also") or "").split(",") if key]
        return Page([Found(key, "") for key in ["good", "flaky", "bad", *also]], None)

    def process(self, item: Item) -> Outcome:
        logging.log(logging.Level.INFO, "example", f"{item.key}, attempt {item.attempt}")
        if item.key == "good":
            return good(item)
        if item.key == "flaky":
            # An `Err` with a failure of the contract is an answer. Any other exception is a crash, and the host
            # reports its text.
            if item.attempt <= int(config.get("fail_times") or 2):
                raise Err(Failure_Transient(Error("too-early", f"attempt {item.attempt} is too early")))
            return Outcome_Resolved(f"at attempt {item.attempt}")
        if item.key == "bad":
            raise Err(Failure_Permanent(Error("never", "this item never works")))
        if item.key == "clock":
            return clock()
        return mistakes.make(item.key)


def good(item: Item) -> Outcome:
    """Calls a service, counts in the key-value store, and publishes an event."""
    status, text = get(config.get("service"))
    bucket = keyvalue.open("default")
    count = int(bucket.get("count") or b"0") + 1
    bucket.set("count", str(count).encode())
    events.publish("ExampleDone", item.key, json.dumps({"count": count}))
    return Outcome_Resolved(f"the service answered {status} {text}")


def clock() -> Outcome:
    before = time.monotonic_ns()
    seconds = time.time()
    if not 0 < before <= time.monotonic_ns():
        raise Err(Failure_Permanent(Error("clock", "the monotonic clock is zero or goes backwards")))
    return Outcome_Resolved(f"at {round(seconds * 1000)}")


def get(url: str) -> tuple[int, str]:
    scheme, rest = url.split("://", 1)
    authority, _, path = rest.partition("/")
    request = http.OutgoingRequest(http.Fields.from_list([]))
    request.set_scheme(http.Scheme_Http() if scheme == "http" else http.Scheme_Https())
    request.set_authority(authority)
    request.set_path_with_query("/" + path)
    future = outgoing_handler.handle(request, None)
    future.subscribe().block()
    answer = future.get()
    if not isinstance(answer, Ok) or not isinstance(answer.value, Ok):
        raise Err(Failure_Transient(Error("http", repr(answer))))
    response = answer.value.value
    # Each of these needs a name: Python drops unreferenced objects, and a body must not be dropped before its stream.
    body = response.consume()
    stream = body.stream()
    content = b""
    while True:
        try:
            content += stream.blocking_read(65536)
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                return response.status(), content.decode()
            raise
