"""Programs with one fault each, which speak the protocol up to a point: ``python faults.py NAME [COUNT]``.

The first COUNT requests are answered well enough (y is the largest element); the fault comes after them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time

stdin, stdout = sys.stdin.buffer, sys.stdout.buffer


def read():
    prefix = stdin.read(8)
    if len(prefix) < 8:
        sys.exit(0)
    body = stdin.read(struct.unpack("<Q", prefix)[0])
    (size,) = struct.unpack("<Q", body[:8])
    return json.loads(body[8 : 8 + size]), body[8 + size :]


def frame(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<QQ", 8 + len(text) + len(data), len(text)) + text + data


def answer(header, **changes):
    y = {"dtype": "F64", "shape": [1, 1, 1], "data_offsets": [0, 8]} | changes
    number = header["__metadata__"]["request"]
    return frame({"__metadata__": {"request": number}, "y": y}, struct.pack("<d", 1))


def say(data):
    stdout.write(data)
    stdout.flush()


def garbage(header):
    say(b"Traceback: it is " * 1000)


def words(header):
    """Prints where it should answer."""
    say(b"x is fine\n")


def truncated(header):
    say(answer(header)[:-5])
    sys.exit(0)


def ten_gigabytes(header):
    say(struct.pack("<QQ", 10 << 30, 20) + b"{")
    time.sleep(60)


def header_of_ten_gigabytes(header):
    say(struct.pack("<QQ", 100, 10 << 30) + b"{" * 92)


def nested_header(header):
    text = b'{"y":' + b"[" * 200_000
    say(struct.pack("<QQ", 8 + len(text), len(text)) + text)


def no_such_dtype(header):
    say(answer(header, dtype="PICKLE"))


def wrong_size(header):
    say(answer(header, shape=[1, 1, 1000]))


def negative_offsets(header):
    say(answer(header, data_offsets=[-8, 0]))


def bytes_left_over(header):
    say(frame({"__metadata__": {"request": header["__metadata__"]["request"]}}, b"12345678"))


def another_request(header):
    header["__metadata__"]["request"] = "12345"
    say(answer(header))


def two_answers(header):
    say(answer(header) * 2)
    time.sleep(0.2)


def shares_nonsense(header):
    say(frame({"__metadata__": {"request": header["__metadata__"]["request"], "shares": "[[1, 2], 3]"}}))


def exits(header):
    os._exit(7)


def segfaults(header):
    ctypes.string_at(0)


def aborts(header):
    print("cannot go on", file=sys.stderr, flush=True)
    os.abort()


def closes_its_output(header):
    os.close(1)
    time.sleep(60)


def does_not_read(header):
    os.close(0)
    time.sleep(60)


def sleeps(header):
    time.sleep(60)


def ignores_sigterm(header):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


def _child(leaves_the_group):
    if os.fork() == 0:
        if leaves_the_group:
            os.setsid()
        with open(os.environ["PIDS"], "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(60)


def leaves_children(header):
    """The children hold the pipes open, and one of them is in a session of its own."""
    _child(False)
    _child(True)
    time.sleep(0.1)
    os._exit(0)


def sleeps_with_children(header):
    _child(False)
    _child(True)
    time.sleep(60)


def floods_standard_error(header):
    while True:
        os.write(2, b"warning: this is deprecated\n" * 1000)


def allocates_without_bound(header):
    hoard = []
    try:
        while True:
            hoard.append(b"x" * (1 << 24))
    except MemoryError:
        hoard.clear()
        os.write(2, b"out of memory\n")
        os._exit(9)


if __name__ == "__main__":
    fault = globals()[sys.argv[1]]
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        asked, data = read()
        say(answer(asked))
    while True:
        fault(read()[0])
