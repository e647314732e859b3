"""Clients on grpcio (gRPC's C core) that misbehave, beside one that means well.

`python strangers.py ADDRESS` lets ten clients, each with a connection of its own, misbehave in one way after
the other, and ends with a non-zero code if a call of the one beside them fails.
"""

import itertools
import sys
import threading
import time

import grpc

from client import PATIENCE, Probe, Requests, new_key

STRANGERS = 10
# What each has open at once: the C core needs a thread for each stream of requests.
CALLS = 10
# How long the good client calls beside those of one kind, in seconds.
LONG_ENOUGH = 0.3


def connect(address):
    # Else all channels of a process share a connection.
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    return channel


def unread(probe, _):
    """Opens streams and reads none of them."""
    flood = probe.message("SplitRequest", count=1000, size=256 << 10)
    return [probe.Split(flood) for _ in range(CALLS)]


def unfinished(probe, stopped):
    """Begins requests and does not end them."""
    requests = [Requests() for _ in range(CALLS)]
    stopped.append(lambda: [one.end() for one in requests])
    return [probe.Collect.future(iter(one)) for one in requests]


def ignored(probe, _):
    """Sends to handlers that do not read."""
    return [probe.Ignore(itertools.repeat(probe.chunk(64 << 10))) for _ in range(CALLS)]


def waiting(probe, _):
    """Waits for answers that never come."""
    return [probe.Wait.future(probe.handler(new_key())) for _ in range(CALLS)]


def cancelled(probe, stopped):
    """Gives up on calls as soon as they are made."""
    stop = threading.Event()

    def give_up():
        while not stop.is_set():
            for call in waiting(probe, stopped):
                call.cancel()

    thread = threading.Thread(target=give_up)
    thread.start()
    stopped.append(lambda: (stop.set(), thread.join()))
    return []


def calls_well(probe, beside):
    request = probe.message("EchoRequest", payload=b"x" * 5000)
    begin, count, worst = time.monotonic(), 0, 0
    while time.monotonic() < begin + LONG_ENOUGH:
        called = time.monotonic()
        probe.Echo(request, timeout=PATIENCE)
        worst = max(worst, time.monotonic() - called)
        count += 1
    print(f"grpcio beside {STRANGERS} {beside}: {count} calls, at most {worst * 1000:.0f} ms")


def main(address):
    good = Probe(connect(address))
    for misbehave in (unread, unfinished, ignored, waiting, cancelled):
        channels = [connect(address) for _ in range(STRANGERS)]
        stopped = []
        calls = [call for channel in channels for call in misbehave(Probe(channel), stopped)]
        calls_well(good, misbehave.__name__)
        for stop in stopped:
            stop()
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()
        calls_well(good, f"that were {misbehave.__name__}")
    good.channel.close()


if __name__ == "__main__":
    main(sys.argv[1])
