"""Calls the `Probe` service with grpcio (gRPC's C core).

`python client.py ADDRESS` runs every check against the server behind ADDRESS
and ends with a non-zero code if one fails. Nothing is generated: the messages
are built from what the server says through reflection.
"""

import itertools
import queue
import sys
import traceback
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "notnets.probe.Probe"
# Ends a run that hangs; no check depends on it.
PATIENCE = 60

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Probe:
    """A stub of the service, made from its descriptors."""

    def __init__(self, channel):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        for method in self.pool.FindServiceByName(SERVICE).methods:
            kind = (
                ("stream" if method.client_streaming else "unary")
                + "_"
                + ("stream" if method.server_streaming else "unary")
            )
            stub = getattr(channel, kind)(
                f"/{SERVICE}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, stub)

    def message(self, name, **fields):
        descriptor = self.pool.FindMessageTypeByName(f"notnets.probe.{name}")
        return message_factory.GetMessageClass(descriptor)(**fields)

    def chunk(self, size=0):
        return self.message("Chunk", data=b"x" * size)

    def handler(self, key):
        return self.message("Handler", key=key)

    def started(self, key):
        self.Await(self.message("AwaitRequest", key=key, state="STARTED"), timeout=PATIENCE)

    def dropped(self, key):
        self.Await(self.message("AwaitRequest", key=key, state="DROPPED"), timeout=PATIENCE)


class Requests:
    """An iterator of requests that ends when it is told to."""

    END = object()

    def __init__(self):
        self.queue = queue.Queue()

    def send(self, message):
        self.queue.put(message)

    def end(self):
        self.queue.put(self.END)

    def __iter__(self):
        return iter(self.queue.get, self.END)


def new_key():
    return uuid.uuid4().hex


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


def status_of(call):
    """The error that a call ends with."""
    try:
        for _ in call() if callable(call) else call:
            pass
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call ended well")


@check
def reflection_lists_the_services(probe):
    services = set(ProtoReflectionDescriptorDatabase(probe.channel).get_services())
    assert {SERVICE, "grpc.health.v1.Health"} <= services, services


@check
def unary(probe):
    payload = bytes(range(256)) * 4096
    request = probe.message(
        "EchoRequest", payload=payload, text="hé", number=-(2**53) - 1, colours=[1, 2], counts={"a": 1}
    )
    equal(probe.Echo(request, timeout=PATIENCE).request, request)
    empty = probe.message("EchoRequest")
    equal(probe.Echo(empty, timeout=PATIENCE).request, empty)


@check
def metadata_both_ways(probe):
    sent = [
        ("tenant", "a"),
        ("tenant", "b"),
        ("id-bin", b"\x00\xff\x01"),
        ("x-grpc-test-echo-initial", "first"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\x00\xff"),
    ]
    reply, call = probe.Echo.with_call(probe.message("EchoRequest"), metadata=sent, timeout=PATIENCE)
    equal(reply.metadata["tenant"], "a, b")
    assert reply.metadata["id-bin"].rstrip("=") == "AP8B", reply.metadata["id-bin"]
    assert reply.metadata["user-agent"].startswith("grpc-python/"), reply.metadata["user-agent"]
    assert "grpc-timeout" in reply.metadata, "the deadline has not reached the handler"
    equal(dict(call.initial_metadata())["x-grpc-test-echo-initial"], "first")
    equal(dict(call.trailing_metadata())["x-grpc-test-echo-trailing-bin"], b"\xab\x00\xff")


@check
def server_streaming(probe):
    request = probe.message("SplitRequest", count=50, size=100_000)
    equal([len(chunk.data) for chunk in probe.Split(request, timeout=PATIENCE)], [100_000] * 50)
    equal(list(probe.Split(probe.message("SplitRequest"), timeout=PATIENCE)), [])


@check
def client_streaming(probe):
    total = probe.Collect((probe.chunk(100_000) for _ in range(50)), timeout=PATIENCE)
    equal((total.chunks, total.bytes), (50, 5_000_000))
    equal(probe.Collect(iter(()), timeout=PATIENCE).chunks, 0)


@check
def bidirectional_streaming(probe):
    requests = Requests()
    replies = probe.Chat(iter(requests), timeout=PATIENCE)
    for size in (0, 1, 70_000, 1_000_000):
        requests.send(probe.chunk(size))
        equal(len(next(replies).data), size)
    requests.end()
    equal(list(replies), [])
    equal(replies.code(), grpc.StatusCode.OK)


@check
def status_alone(probe):
    fail = probe.message("FailRequest", code=9, message="käse %\n", details=b"\x00\x01\xff")
    error = status_of(lambda: probe.Fail(fail, timeout=PATIENCE))
    equal((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "käse %\n"))
    equal(dict(error.trailing_metadata())["grpc-status-details-bin"], b"\x00\x01\xff")


@check
def status_after_messages(probe):
    fail = probe.message("FailRequest", code=5, message="the rest", details=b"\x02")
    call = probe.Split(probe.message("SplitRequest", count=2, size=3, fail=fail), timeout=PATIENCE)
    equal([len(chunk.data) for chunk in itertools.islice(call, 2)], [3, 3])
    error = status_of(call)
    equal((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "the rest"))
    equal(dict(error.trailing_metadata())["grpc-status-details-bin"], b"\x02")


@check
def unimplemented(probe):
    for path in (f"/{SERVICE}/None", "/shop.Cart/Add"):
        call = probe.channel.unary_unary(path)
        error = status_of(lambda: call(b"", timeout=PATIENCE))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@check
def deadline_of_a_unary_call(probe):
    key = new_key()
    error = status_of(lambda: probe.Wait(probe.handler(key), timeout=1))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    probe.dropped(key)


@check
def deadline_of_a_stream(probe):
    key = new_key()
    call = probe.WaitStream(probe.handler(key), timeout=1)
    next(call)
    equal(status_of(call).code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    probe.dropped(key)


@check
def cancel_a_unary_call(probe):
    key = new_key()
    call = probe.Wait.future(probe.handler(key), timeout=PATIENCE)
    probe.started(key)
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    probe.dropped(key)


@check
def cancel_a_stream_of_replies(probe):
    key = new_key()
    call = probe.WaitStream(probe.handler(key), timeout=PATIENCE)
    next(call)
    call.cancel()
    equal(status_of(call).code(), grpc.StatusCode.CANCELLED)
    probe.dropped(key)


@check
def cancel_a_call_that_streams_both_ways(probe):
    key = new_key()
    requests = Requests()
    call = probe.Chat(iter(requests), metadata=[("key", key)], timeout=PATIENCE)
    requests.send(probe.chunk(1))
    next(call)
    call.cancel()
    equal(status_of(call).code(), grpc.StatusCode.CANCELLED)
    probe.dropped(key)
    requests.end()


@check
def many_calls_at_once(probe):
    keys = [new_key() for _ in range(300)]
    calls = [probe.Wait.future(probe.handler(key), timeout=PATIENCE) for key in keys]
    for key in keys:
        probe.started(key)
    request = probe.message("EchoRequest", text="in between")
    equal(probe.Echo(request, timeout=PATIENCE).request, request)
    for call in calls:
        call.cancel()
    for key in keys:
        probe.dropped(key)


@check
def health(probe):
    stub = health_pb2_grpc.HealthStub(probe.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    equal(stub.Check(request, timeout=PATIENCE).status, serving)
    watch = stub.Watch(request, timeout=PATIENCE)
    equal(next(watch).status, serving)
    watch.cancel()
    unknown = health_pb2.HealthCheckRequest(service="shop.Cart")
    error = status_of(lambda: stub.Check(unknown, timeout=PATIENCE))
    equal(error.code(), grpc.StatusCode.NOT_FOUND)


def main(address):
    options = [("grpc.max_receive_message_length", 16 << 20)]
    failed = 0
    with grpc.insecure_channel(address, options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        probe = Probe(channel)
        for function in CHECKS:
            try:
                function(probe)
                print(f"grpcio {function.__name__} ... ok")
            except Exception:
                failed += 1
                print(f"grpcio {function.__name__} ... FAILED")
                traceback.print_exc(file=sys.stdout)
    print(f"grpcio: {len(CHECKS) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
