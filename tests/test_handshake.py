"""The protocol under fire: whatever a process says, a few errors may come out and nothing else, and soon."""

from __future__ import annotations

import copy
import json
import random
import time
from contextlib import suppress

import numpy as np
import pytest

from convform.adapters import Adapter, AdapterError
from convform.adapters.process import frames
from convform.adapters.process.client import Process, ProtocolError, RaisedElsewhere
from convform.adapters.process.description import adapters_of, describe
from convform.adapters.process.errors import printable

GOOD = {
    "convform": 1,
    "adapters": [
        {
            "name": "hw",
            "version": "1",
            "dtypes": ["float64", "float32"],
            "optional_dtypes": ["float16"],
            "input": "n h w c",
            "weight": "kh kw i o",
            "columns": "(n oh ow) (kh kw c)",
            "unavailable": None,
            "operators": {
                "conv2d": {
                    "takes": ["x", "w", "b", "stride", "padding"],
                    "bias_optional": True,
                    "claims": {"padding": "low-high", "stride": "scalar", "arithmetic": "sum"},
                },
                "max_pool2d": {"takes": ["x", "kernel"], "dtypes": ["float64"], "claims": {"indices": True}},
                "conv2d.backward": {"takes": ["x", "w", "dy"], "output": "n o oh ow"},
            },
            "known_limits": [
                {
                    "operators": ["conv2d"],
                    "breaks": ["CONV-5"],
                    "reason": "why",
                    "link": "https://x.y",
                    "dtypes": ["float64"],
                    "ranks": [2],
                    "when": "stride > 1",
                    "shows": "values",
                    "always": True,
                }
            ],
            "switches": [{"name": "speed", "value": "fast", "breaks": "CONV-5"}],
        }
    ],
}

STRANGE = [
    None,
    True,
    False,
    0,
    -1,
    1 << 70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\x1b[2J\0\u202e\ud800",
    "conv2d",
    "self",
    "operator",
    "n",
    "n n n",
    "(n (h) w",
    "stride > ",
    "__import__('os')",
    "((((" * 500,
    "not " * 3000,
    "*" * 100,
    "[" * 100,
    "float64",
    "object",
    [],
    [[]],
    ["x"] * 300,
    [None],
    {},
    {"": ""},
    {"name": {}},
    {"self": 1},
    {"x" * 3000: "y"},
    [["x", "y"]] * 50,
]


def function_of(name, operator):
    def function(**arguments):
        raise AssertionError

    return function


def served(text):
    """Make adapters of a text, or say which of the two errors there was; nothing else may come out."""
    started = time.process_time()
    adapters, said = None, ""
    try:
        adapters = adapters_of(text, function_of)
    except (ProtocolError, AdapterError) as error:
        said = str(error)
    assert time.process_time() - started < 5
    assert said == printable(said, 100_000), "a message with control characters"
    assert len(said) < 10_000
    return adapters


def places(thing, path=()):
    """Every place in a description, as the keys that lead there."""
    yield path
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


PLACES = [path for path in places(GOOD) if path]


def mutated(draw, times):
    """A description with a few places exchanged, taken away, renamed or doubled."""
    said = copy.deepcopy(GOOD)
    for _ in range(times):
        path = draw.choice(PLACES)
        thing = said
        try:
            for key in path[:-1]:
                thing = thing[key]
            thing[path[-1]]
        except (LookupError, TypeError):
            continue  # it went with another change
        if not isinstance(thing, dict | list):
            continue
        how = draw.randrange(4)
        if how == 0 and isinstance(thing, dict):
            del thing[path[-1]]
        elif how == 1 and isinstance(thing, dict):
            new = draw.choice([one for one in STRANGE if isinstance(one, str)])
            thing[new] = thing.pop(path[-1])
        elif how == 2 and isinstance(thing, list):
            thing += thing * draw.choice([1, 40])
        else:
            thing[path[-1]] = copy.deepcopy(draw.choice(STRANGE))
    return said


def test_the_description_that_is_mutated_is_a_good_one():
    (adapter,) = served(json.dumps(GOOD))
    assert set(adapter.implementations) == {"conv2d", "max_pool2d", "conv2d.backward"}
    assert len(adapter.known_limits) == 1
    assert adapter.switches is not None


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_every_place_with_everything_strange(path):
    for strange in STRANGE:
        said = copy.deepcopy(GOOD)
        thing = said
        for key in path[:-1]:
            thing = thing[key]
        thing[path[-1]] = strange
        served(json.dumps(said))
        if isinstance(thing, dict) and isinstance(strange, str):
            thing[strange] = thing.pop(path[-1])
            served(json.dumps(said))


def test_several_changes_at_once():
    draw = random.Random(12)
    for _ in range(3000):
        adapters = served(json.dumps(mutated(draw, draw.randint(2, 5))))
        if adapters is not None:
            json.loads(describe(adapters))


def test_bytes_exchanged_in_the_text():
    draw = random.Random(13)
    text = json.dumps(GOOD)
    for _ in range(3000):
        at, length = draw.randrange(len(text)), draw.choice([0, 1, 1, 2, 20])
        new = "".join(draw.choice('{}[]",:0e-n\\\x00\ud800x') for _ in range(draw.randrange(3)))
        served(text[:at] + new + text[at + length :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"adapters": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 100_000,
        '{"adapters": [' + ",".join(["{}"] * 1000) + "]}",
        json.dumps({"adapters": [{"name": ["x"] * 1_000_000, "operators": {}}]}),
        json.dumps(
            {"adapters": [{"name": "x", "operators": {f"conv{n}d": {"takes": []} for n in range(10_000)}}]}
        ),
        json.dumps({"adapters": [{"name": "x", "operators": {"conv2d": {"takes": ["x"] * 150}}}]}),
    ],
    ids=range(12),
)
def test_texts_that_are_no_description(text):
    assert served(text) is None


def test_what_is_read_is_clean_wherever_it_is_kept():
    said = copy.deepcopy(GOOD)
    evil = "a\x1b[2J\x07\x9b\u202e\nb"
    said["adapters"][0] |= {"name": evil, "version": evil, "install": evil}
    said["adapters"][0]["known_limits"][0] |= {"reason": evil, "link": "https://x.y/\x1b"}
    said["adapters"][0]["switches"][0] |= {"name": evil, "value": evil}
    (adapter,) = served(json.dumps(said))
    assert isinstance(adapter, Adapter)
    kept = [adapter.name, adapter.version or "", adapter.install or ""]
    kept += [limit.reason for limit in adapter.known_limits] + [limit.link for limit in adapter.known_limits]
    kept += [str(value) for switch in adapter.switches() for value in vars(switch).values()]
    assert [text for text in kept if text != printable(text, 10_000)] == []


# ------------------------------------------------------------------------------------------- answers

KEYS = (
    "shares",
    "dtypes",
    "remarks",
    "breaches",
    "aloud",
    "raised",
    "message",
    "where",
    "traceback",
    "wrong",
)
WORDS = ("y", "x", "argument", "result", "earlier", "earlier 1 y", "object", "complex128", "longdouble", "ab")
RAW = ("", "[", "9" * 5000, "nan", "Infinity", "[NaN]", "1e999", "-5", "[" * 3000, "\x1b[2J")
ARRAYS = (
    np.zeros((2, 2)),
    np.zeros((2, 2, 16), np.uint8),
    np.zeros(()),
    np.zeros(0),
    np.zeros(3, bool),
    np.zeros((1, 1, 1, 8), np.uint8),
)


class StillRunning:
    """As much of a process that runs as is asked when an answer has come."""

    in_flight, heard = 0, 5


def nested(draw, depth):
    """Anything that JSON can say, of words that mean something."""
    if depth == 0 or draw.random() < 0.4:
        return draw.choice([*WORDS, None, True, 0, -1, 1.5])
    if draw.random() < 0.6:
        return [nested(draw, depth - 1) for _ in range(draw.randrange(4))]
    return {draw.choice(WORDS): nested(draw, depth - 1) for _ in range(draw.randrange(3))}


@pytest.mark.parametrize("seed", range(3))
def test_answers_at_random_are_read_or_refused(seed):
    draw = random.Random(seed)
    for _ in range(4000):
        process = Process(["nothing"])
        metadata = {"request": "1"}
        for key in draw.sample(KEYS, draw.randint(1, 3)):
            metadata[key] = json.dumps(nested(draw, 3)) if draw.random() < 0.9 else draw.choice(RAW)
        names = draw.sample(["y", "dx", "after x", "after w", "earlier 1 y", "", "\x1b"], draw.randint(0, 3))
        arrays = {name: draw.choice(ARRAYS).copy() for name in names}
        arguments = {"x": np.zeros((2, 2)), "w": np.zeros((2, 2)), "stride": 1}
        with suppress(ProtocolError):
            process._note_conduct(metadata, StillRunning())
        with suppress(ProtocolError, RaisedElsewhere):
            process._read(1, metadata, arrays, arguments)
        said = [text for pair in process._remarks for text in pair] + list(process.breaches)
        assert [text for text in said if text != printable(text)] == []


@pytest.mark.parametrize(
    "breaches", ["{}", '{"a": 1}', "[[1]]", "[null]", "[[[]]]", "3", '"text"', "null", "[1e999]"]
)
def test_breaches_that_are_no_texts_are_refused_or_read(breaches):
    process = Process(["nothing"])
    with suppress(ProtocolError):
        process._note_conduct({"breaches": breaches}, StillRunning())


# -------------------------------------------------------------------------------------------- frames


def test_frames_with_strange_headers_are_refused_or_read():
    draw = random.Random(14)
    for _ in range(4000):
        header = {"__metadata__": {"request": "1"}}
        for name in draw.sample(["y", "x", "", "\x1b[2J", "__metadata__"], draw.randint(1, 3)):
            begin, size = draw.choice([0, 0, 8, 1 << 40, -8]), draw.choice([0, 8, 16, 1 << 62, 7])
            header[name] = {
                "dtype": draw.choice([*frames.DTYPES, "BF16", "F128", None, 3, ["F64"]]),
                "shape": draw.choice(
                    [[1], [2], [], [0], [-1], [1 << 31, 1 << 31], [1.0], "1", [[1]], [True], None]
                ),
                "data_offsets": draw.choice([[begin, begin + size], [begin], None, [0.0, 8.0], ["0", "8"]]),
            }
            if draw.random() < 0.1:
                header[name] = copy.deepcopy(draw.choice(STRANGE))
        text = json.dumps(header).encode()
        length = draw.choice([len(text)] * 9 + [0, 1 << 63, len(text) - 1])
        body = frames.PREFIX.pack(length) + text + bytes(draw.choice([0, 8, 16, 7]))
        with suppress(frames.FrameError):
            _, arrays = frames.decode(body)
            assert sum(array.nbytes for array in arrays.values()) <= 16
