"""Homework that goes wrong in every way there is, without wanting to: each ends in a clear verdict.

What answers right meanwhile may conform: printing, threads and changed settings are no violations.
"""

from __future__ import annotations

from typing import Any

from convform.tests.judged import MARK, Homework

FAULTS: list[Homework] = []

ANY = (0, 1, 2)


def fault(
    kind: str,
    name: str,
    setup: str = "",
    call: str = "return right(x, kernel)",
    says: str = "hw",
    **what: Any,
) -> None:
    """Add a fault to the list."""
    FAULTS.append(Homework(name, kind, setup, call, says=says, **{"codes": (2,), **what}))


def file(name: str, text: str | bytes, says: str = "hw", **what: Any) -> None:
    """Add a file that is at fault as a whole."""
    FAULTS.append(Homework(name, "file", text=text, says=says, **{"codes": (2,), **what}))


# ------------------------------------------------------------------------------------------------- die

fault("die", "segfault_at_import", "import ctypes\nctypes.string_at(0)", says="crashed")
fault("die", "segfault_in_call", "import ctypes", "ctypes.string_at(0)", "SIGSEGV", codes=(1,))
fault("die", "abort_in_call", "import os", "os.abort()", "SIGABRT", codes=(1,))
fault("die", "abort_at_import", "import os\nos.abort()", says="SIGABRT")
fault(
    "die",
    "on_one_kind_of_input",
    "import os",
    "if x.shape[0] == 3:\n    os._exit(3)\nreturn right(x, kernel)",
    "crashed",
    codes=(1,),
)
fault(
    "die",
    "stack_overflow",
    call="import sys\nsys.setrecursionlimit(10**8)\nf = lambda n: f(n + 1) + repr([n])[0:0]\nreturn f(0)",
    codes=(1, 2),
)
fault("die", "recursion", call="f = lambda n: f(n + 1)\nreturn f(0)", says="RecursionError")
fault("die", "recursion_at_import", "def f(): return f()\nf()", says="RecursionError")
fault("die", "out_of_memory_every_time", call="raise MemoryError", says="MemoryError")
fault(
    "die",
    "a_processor_limit_of_its_own",
    "import resource",
    "resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True:\n    pass",
    codes=(1,),
    options=("--budget", "6"),
)
fault(
    "die",
    "a_thread_that_raises",
    "import threading",
    "threading.Thread(target=lambda: 1 / 0).start()\nreturn right(x, kernel)",
    codes=(0,),
)

# ------------------------------------------------------------------------------------------------ hang

SHORTLY = ("--deadline", "1", "--budget", "6")
fault("hang", "in_every_call", "import time", "time.sleep(600)", "timed out", codes=(1,), options=SHORTLY)
fault(
    "hang",
    "on_some_inputs",
    "import time",
    "if x.shape[0] > 1:\n    time.sleep(600)\nreturn right(x, kernel)",
    "timed out",
    codes=(1,),
    options=SHORTLY,
)
fault("hang", "at_import", "while True:\n    pass", says="timed out", options=("--deadline", "0.1"))
fault(
    "hang",
    "deaf_to_signals",
    "import signal, time\nfor number in (1, 2, 3, 6, 13, 15):\n    signal.signal(number, signal.SIG_IGN)",
    "time.sleep(600)",
    "timed out",
    codes=(1,),
    options=SHORTLY,
)
fault(
    "hang",
    "in_a_destructor",
    "import time\nclass Slow:\n    def __del__(self):\n        time.sleep(600)",
    "Slow()\nreturn right(x, kernel)",
    "timed out",
    codes=(1,),
    options=SHORTLY,
)
fault(
    "hang",
    "at_exit",
    "import atexit, time\natexit.register(time.sleep, 600)",
    codes=(0,),
)
fault("hang", "waits_for_input", call="input('x? ')\nreturn right(x, kernel)", says="EOFError")
fault(
    "hang", "waits_for_input_at_import", "import sys\nsys.stdin.read()\nsys.stdin.buffer.read()", codes=(0,)
)
fault(
    "hang",
    "slow_in_every_call",
    "import time",
    "time.sleep(0.3)\nreturn right(x, kernel)",
    "incomplete",
    codes=(4,),
    options=("--budget", "3"),
)
fault(
    "hang",
    "a_lock_that_nobody_opens",
    "import threading\nlock = threading.Lock()",
    "lock.acquire()\nreturn right(x, kernel)",
    "timed out",
    codes=(1,),
    options=SHORTLY,
)

# ----------------------------------------------------------------------------------------------- flood

fault("flood", "standard_output", call="print('x' * 100_000)\nreturn right(x, kernel)", codes=(0,))
fault("flood", "lines_at_import", "print('x\\n' * 1_000_000)", codes=(0,))
fault(
    "flood",
    "standard_error",
    "import os",
    "os.write(2, b'x' * 1_000_000)\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "flood",
    "a_thread_that_never_stops_printing",
    "import os, threading\ndef flood():\n    while True:\n"
    "        os.write(2, b'x' * 4096)\n"
    "threading.Thread(target=flood, daemon=True).start()",
    codes=(0, 4),
)
fault(
    "flood",
    "warnings",
    "import warnings",
    "for n in range(200):\n    warnings.warn(f'number {n}')\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "flood", "logging", "import logging", "logging.error('x' * 10_000)\nreturn right(x, kernel)", codes=(0,)
)

# ----------------------------------------------------------------------------------------------- raise

BROKEN = """
class Broken(Exception):
    def __str__(self):
        raise Broken()
    __repr__ = __str__
"""
fault("raise", "what_cannot_be_printed", BROKEN, "raise Broken()", "Broken")
fault("raise", "what_cannot_be_printed_at_import", BROKEN + "raise Broken()")
fault("raise", "a_base_exception_at_import", "raise BaseException('no')", says="BaseException")
fault("raise", "a_base_exception", call="raise BaseException('no')", says="BaseException")
fault("raise", "generator_exit_at_import", "raise GeneratorExit", says="GeneratorExit")
fault("raise", "keyboard_interrupt_at_import", "raise KeyboardInterrupt", says="KeyboardInterrupt")
fault("raise", "system_exit_with_an_object", "import sys\nsys.exit(object())", says="SystemExit")
fault(
    "raise",
    "what_kills_whoever_prints_it",
    "import os\nclass Deadly(Exception):\n    def __str__(self):\n        os._exit(0)",
    "raise Deadly()",
    "crashed",
    codes=(1,),
)
fault(
    "raise",
    "a_name_that_cannot_be_read",
    "class Meta(type):\n    @property\n    def __name__(cls):\n"
    "        raise RuntimeError\nclass Odd(Exception, metaclass=Meta): pass",
    "raise Odd()",
    codes=(1, 2),
)
fault("raise", "ten_megabytes", call="raise ValueError('x' * 10_000_000)", says="ValueError")
fault("raise", "ten_megabytes_at_import", "raise ValueError('x' * 10_000_000)", says="ValueError")
fault("raise", "a_million_lines", call="raise ValueError('x\\n' * 1_000_000)", says="ValueError")
fault(
    "raise",
    "control_characters",
    call="raise ValueError('\\x1b[2J\\r\\x07\\x9b\\u202e\\0')",
    says="ValueError",
)
fault("raise", "lone_surrogates", call="raise ValueError('\\ud800 \\udfff')", says="ValueError")
fault("raise", "lone_surrogates_at_import", "raise ValueError('\\ud800')", says="ValueError")
fault("raise", "lone_surrogates_printed", call="print('\\ud800')\nreturn right(x, kernel)", codes=(0,))
fault(
    "raise",
    "a_message_that_is_no_text",
    call="raise ValueError(b'\\xff', object(), np.zeros(3))",
    says="ValueError",
)
fault(
    "raise",
    "a_group",
    call="raise ExceptionGroup('many', [ValueError(n) for n in range(100)])",
    says="ExceptionGroup",
)
fault(
    "raise",
    "causes_in_a_circle",
    call="a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a",
    says="ValueError",
)
fault("raise", "what_is_no_exception", call="raise 3", says="TypeError")
fault(
    "raise",
    "a_long_traceback",
    "def f(n):\n    return f(n - 1) if n else 1 / 0",
    "return f(900)",
    "ZeroDivisionError",
)

# ------------------------------------------------------------------------------------------ its process

fault(
    "process",
    "closes_descriptors",
    "import os",
    "os.closerange(0, 256)\nreturn right(x, kernel)",
    "crashed",
    codes=(1,),
)
fault("process", "closes_descriptors_at_import", "import os\nos.closerange(0, 256)")
fault(
    "process",
    "closes_its_streams",
    call="import sys\nsys.stdout.close()\nsys.stderr.close()\nsys.stdin.close()\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "process",
    "closes_its_streams_at_import",
    "import sys\nsys.stdout.close()\nsys.stderr.close()",
    codes=(0,),
)
fault(
    "process",
    "streams_that_are_none",
    "import sys\nsys.stdout = sys.stderr = sys.stdin = None",
    "import sys\nsys.stdout = None\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "process",
    "forks_and_returns_twice",
    "import os",
    "os.fork()\nreturn right(x, kernel)",
    codes=(0,),  # the child serves nobody, and goes
    says="started a process",
)
fault(
    "process",
    "deletes_its_folder",
    "import os, tempfile\nos.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())",
    "import tempfile\nos.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "process",
    "deletes_its_temporary_folder",
    "import shutil, tempfile\nshutil.rmtree(tempfile.gettempdir(), ignore_errors=True)",
    codes=(0,),
)
fault(
    "process",
    "leaks_memory",
    "kept = []",
    "kept.append(np.ones(1 << 18))\nreturn right(x, kernel)",
    codes=(0,),
)
fault("process", "leaks_descriptors", "import os", "os.dup(0)\nreturn right(x, kernel)", codes=(0,))
fault(
    "process",
    "leaks_threads",
    "import threading, time",
    "threading.Thread(target=time.sleep, args=(600,)).start()\nreturn right(x, kernel)",
    codes=(0, 1),  # once there is no room for another one
)
fault(
    "process",
    "a_pool_of_processes",
    "from multiprocessing import Pool",
    "with Pool(2) as pool:\n    pool.map(abs, [1])\nreturn right(x, kernel)",
    codes=(0, 1, 2, 4),
    options=("--budget", "6"),
)
fault(
    "process",
    "changes_numpy_and_warnings",
    "import warnings\nwarnings.simplefilter('error')\nnp.seterr(all='raise')\n"
    "np.set_printoptions(precision=1)",
    "np.seterr(all='raise')\nwarnings.simplefilter('error')\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "process",
    "another_locale",
    "import locale, os\nos.environ['LC_ALL'] = 'xx_YY'\n"
    "os.environ['PYTHONIOENCODING'] = 'ascii'\ntry:\n"
    "    locale.setlocale(locale.LC_ALL, 'C')\nexcept locale.Error:\n    pass",
    codes=(0,),
)
fault(
    "process",
    "empties_its_environment",
    "import os\nos.environ.clear()",
    "os.environ.clear()\nreturn right(x, kernel)",
    codes=(0,),
)
fault(
    "process",
    "traces_itself",
    "import sys\nsys.settrace(lambda *given: None)\nsys.setprofile(lambda *given: None)",
    codes=(0,),
)
fault(
    "process",
    "deletes_modules",
    "import sys",
    "for name in list(sys.modules):\n"
    "    if name.startswith(('convform', 'json', 'traceback')):\n"
    "        del sys.modules[name]\nreturn right(x, kernel)",
    codes=ANY,
)
fault("process", "collects_no_garbage", "import gc\ngc.disable()\ngc.freeze()", codes=(0,))
fault("process", "a_recursion_limit", "import sys\nsys.setrecursionlimit(60)", codes=ANY)
fault(
    "process",
    "an_event_loop",
    "import asyncio\nasync def later(x, kernel):\n    return right(x, kernel)",
    "return asyncio.run(later(x, kernel))",
    codes=(0,),
)

# ---------------------------------------------------------------------------------------------- garbage

GARBAGE = {
    "none": "None",
    "text": "'forty-two'",
    "an_object": "object()",
    "a_generator": "(n for n in range(3))",
    "a_coroutine": "(lambda: (yield))()",
    "a_function": "right",
    "a_class": "dict",
    "an_exception": "ValueError('x')",
    "a_deep_list": "__import__('functools').reduce(lambda a, _: [a], range(3000), 1.0)",
    "a_circle": "(lambda a: a.append(a) or a)([])",
    "a_ragged_list": "[[1.0], [1.0, 2.0]]",
    "a_dictionary_of_nonsense": "{1: 2, None: object(), 'cols': 'x', '\\x1b': 3}",
    "a_huge_dictionary": "{f'name {n}': right(x, kernel) for n in range(5000)}",
    "odd_names": "{'request': right(x, kernel), '__metadata__': right(x, kernel), 'cols': right(x, kernel)}",
    "strings": "np.array([['a', 'b']])",
    "dates": "np.zeros((1, 1, 1), 'datetime64[s]')",
    "void": "np.zeros((1, 1, 1), 'V8')",
    "seventeen_axes": "np.zeros((1,) * 17)",
    "a_scalar": "np.float64(3)",
    "nan": "float('nan')",
    "a_number_too_large": "10 ** 400",
    "big_endian": "right(x, kernel).astype(x.dtype.newbyteorder('>'))[..., :0]",
    "a_large_array": "np.zeros((1 << 8, 1 << 9))",
}
for name, expression in GARBAGE.items():
    fault("garbage", name, call=f"return {expression}", says="im2col1d", codes=(1, 2))

HOSTILE = """
class Hostile:
    def __float__(self):
        raise SystemExit(0)
    __int__ = __index__ = __complex__ = __bool__ = __len__ = __str__ = __repr__ = __eq__ = __float__
    __hash__ = None
class Shape:
    shape = (-1, 10**30, float("nan"))
    dtype = "float64"
    ndim = 10**9
    def __array__(self, dtype=None, copy=None):
        raise KeyboardInterrupt
    __array_interface__ = {"shape": (-1, 1 << 62), "typestr": "<f8", "version": 3, "data": (1, False)}
"""
fault(
    "garbage",
    "hostile_cells",
    HOSTILE,
    "y = np.empty((1, 1, 1), object)\ny[...] = [[[Hostile()]]]\nreturn y",
    "im2col1d",
    codes=(1, 2),
)
fault("garbage", "a_hostile_object", HOSTILE, "return Hostile()", "im2col1d", codes=(1, 2))
fault("garbage", "a_hostile_shape", HOSTILE, "return Shape()", "im2col1d", codes=(1, 2))
fault(
    "garbage",
    "an_array_interface_of_nowhere",
    "class Wild:\n"
    "    __array_interface__ = "
    "{'shape': (1 << 20,), 'typestr': '<f8', 'version': 3, 'data': (8, False)}",
    "return Wild()",
    "im2col1d",
    codes=(1, 2),
)
fault(
    "garbage",
    "changes_the_shape_of_its_input",
    call="x.shape = (x.size,)\nreturn x",
    says="im2col1d",
    codes=(1, 2),
)

# ------------------------------------------------------------------------------------------------ files

ADAPTER = """
from convform.adapters import Adapter
from convform.tests.plain import im2col as right
hw = Adapter("hw")


@hw.implements("im2col1d")
def im2col1d(x, kernel):
    return right(x, kernel)
"""
file("a_syntax_error", "def f(:\n    pass", "syntax error")
file("tabs_and_blanks", "if 1:\n\tx = 1\n        y = 2\n", "syntax error")
file("null_bytes", b"x = 1\0\0\n", "hw.py")
file("binary", bytes(range(256)) * 40, "hw.py")
file(
    "latin_1_unsaid",
    ADAPTER.encode() + "# Größe\n".encode("latin-1"),
    codes=(0, 2),  # some releases of Python read comments so
)
file(
    "latin_1_said",
    b"# -*- coding: latin-1 -*-\n" + ADAPTER.encode() + "# Größe\n".encode("latin-1"),
    codes=(0,),
)
file("an_unknown_encoding", b"# -*- coding: no-such-thing -*-\n" + ADAPTER.encode(), "hw.py")
file("a_byte_order_mark", b"\xef\xbb\xbf" + ADAPTER.encode(), codes=(0,))
file("utf_16", ADAPTER.encode("utf-16"), "hw.py")
file("carriage_returns", ADAPTER.replace("\n", "\r\n").encode(), codes=(0,))
file("old_carriage_returns", ADAPTER.replace("\n", "\r").encode(), codes=(0, 2))
file("a_large_file", ADAPTER.encode() + b"# " + b"x" * 10_000_000 + b"\n", codes=(0,))
file("deep_nesting", "x = " + "(" * 5000 + ")" * 5000, "hw.py")
file("a_deep_expression", "x = " + "-" * 100_000 + "1", "hw.py")
file("a_missing_module", "import no_such_module_of_ours", "no_such_module_of_ours", codes=(3,))
file("a_missing_name", "from os import no_such_name", "no_such_name")
file("imports_itself", "import hw\nhw.nothing", "hw.py")
file("a_relative_import", "from . import layers", "hw.py")
file("a_bare_object", "hw = object()", "hw.py")
file(
    "two_adapters_of_one_name",
    ADAPTER + "\nother = Adapter('hw')\nother.implements('conv1d')(lambda x, w: x)\n",
    "called 'hw'",
)
file("an_unknown_operator", ADAPTER + "\n@hw.implements('conv9d')\ndef f(x, w):\n    return x\n", "conv9d")
file("a_nonsense_layout", ADAPTER.replace('"hw")', '"hw", input="n n \\x1b q")'), "hw.py")
file("a_name_that_is_no_text", ADAPTER.replace('"hw")', "object())"), "hw.py")
file("a_name_of_a_megabyte", ADAPTER.replace('"hw")', '"x" * 1_000_000)'), "to describe", codes=ANY)
file("a_version_that_raises", ADAPTER + "\nhw.version = object()\n", codes=ANY)
file("switches_that_raise", ADAPTER + "\nhw.switches = lambda: 1 / 0\n", "hw")
file("availability_that_raises", ADAPTER + "\nhw.available = lambda: 1 / 0\n", "hw")
file(
    "ten_thousand_known_limits",
    ADAPTER + "\nfor n in range(10_000):\n"
    "    hw.known_limit('im2col1d', 'IM2COL-1', reason='x', link='https://x.y')\n",
    "characters to describe",
)
file(
    "a_hundred_adapters",
    "from convform.adapters import Adapter\nfor n in range(100):\n"
    "    globals()[f'a{n}'] = Adapter(f'a{n}')\n",
    "100 adapters",
)
file("an_odd_name", ADAPTER, "conforms", codes=(0,), file="häus aufgabe; [x] $(id) 'q'.py")
file("a_name_with_a_new_line", ADAPTER, "conforms", codes=(0,), file="a\nb.py")
file("the_name_of_a_library", ADAPTER, "conforms", codes=(0,), file="numpy.py")
file("the_name_of_a_standard_module", ADAPTER, "conforms", codes=(0,), file="json.py")
file("a_notebook_that_is_no_json", "not JSON", "hw.ipynb", file="hw.ipynb", codes=(2, 3))
file("a_notebook_of_nothing", "{}", "hw.ipynb", file="hw.ipynb", codes=(2, 3))
file("a_notebook_of_lists", "[" * 5000, "hw.ipynb", file="hw.ipynb", codes=(2, 3))
file(
    "a_notebook_of_numbers",
    '{"cells": [1, null, {"cell_type": 3, "source": {}}], "nbformat": 4}',
    "hw.ipynb",
    file="hw.ipynb",
    codes=(2, 3),
)
file("leaves_a_mark", f"{ADAPTER}\nname = '{MARK}'\n", "conforms", codes=(0,))
