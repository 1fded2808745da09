"""Homework that wants to pass without being right: none of it may end with exit code 0.

Each tries one thing, and answers wrong where that fails, so that a judge who is not taken in says "violates".
What is promised in a sandbox alone says so.
"""

from __future__ import annotations

from typing import Any

from convform.tests.judged import MARK, Homework

SANDBOXED = ("auto",)

CHEATS: list[Homework] = []


def cheat(kind: str, name: str, setup: str = "", call: str = "return wrong(x, kernel)", **what: Any) -> None:
    """Add a cheat to the list."""
    CHEATS.append(Homework(name, kind, setup, call, **what))


# --------------------------------------------------------------------------------- borrow the answers

BORROWED = """
try:
    {how}
except BaseException:
    return wrong(x, kernel)
return np.asarray(answer)
"""


def borrow(name: str, how: str, setup: str = "", **what: Any) -> None:
    """Add a cheat that binds ``answer`` to what somebody else has answered."""
    lines = "\n    ".join(how.strip().splitlines())
    cheat("borrow", name, setup, BORROWED.format(how=lines), **what)


REFUSED = "CONTRACT-10"

cheat("borrow", "imports_at_import", "from convform import reference", says="is forbidden")
borrow(
    "imports_in_call", "from convform import reference\nanswer = reference.im2col(x, kernel)", says=REFUSED
)
borrow(
    "import_module",
    "import importlib\nanswer = importlib.import_module('convform.reference').im2col(x, kernel)",
    says=REFUSED,
)
borrow(
    "exec_of_an_import",
    "scope = {}\nexec('from convform.' + 'reference import im2col', scope)\n"
    "answer = scope['im2col'](x, kernel)",
    says=REFUSED,
)
borrow(
    "backend_of_the_reference",
    "from convform.adapters import load\n"
    "answer = load('reference').implementations['im2col1d'].function(x=x, kernel=kernel, "
    "stride=(1,), "
    "padding=((0, 0),), dilation=(1,))",
    says=REFUSED,
)
borrow("the_judge_itself", "from convform.conformance.cases import oracle\nanswer = oracle", says=REFUSED)
borrow("check_from_convform", "from convform import check\nanswer = check(im2col=right)", says=REFUSED)
borrow(
    "sys_modules",
    "import sys\n"
    "answer = next(m for n, m in list(sys.modules.items()) if 'reference' in n "
    "and hasattr(m, 'im2col')).im2col(x, kernel)",
)
borrow(
    "garbage_collector",
    "import gc\nanswer = next(f for f in gc.get_objects() if callable(f) and "
    "str(getattr(f, '__module__', '')).startswith('convform.reference') and f.__name__ "
    "== 'im2col')(x, kernel)",
)
borrow(
    "frames",
    "import sys\nframe, seen = sys._getframe(), {}\n"
    "while frame is not None:\n    seen.update(frame.f_locals)\n"
    "    frame = frame.f_back\n"
    "answer = next(seen[name] for name in ('expected', 'case', 'answers', 'law') if name "
    "in seen)",
)
cheat(
    "borrow",
    "imports_in_a_thread",
    """
    import threading
    got = []
    def fetch():
        from convform import reference
        got.append(reference)
    thread = threading.Thread(target=fetch)
    thread.start()
    thread.join()
    """,
    "return got[0].im2col(x, kernel) if got else wrong(x, kernel)",
    says="forbidden",
)

SOURCES = """
import os, sys, types
import convform
ROOT = os.path.join(list(convform.adapters.__path__)[0], "..")
"""

READ = """
def borrowed(sources):
    import importlib.abc, importlib.util
    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "answers":
                short = name.partition(".")[2] or "__init__"
                return importlib.util.spec_from_loader(name, self, is_package=short == "__init__")
        def create_module(self, spec):
            return None
        def exec_module(self, module):
            short = module.__name__.partition(".")[2] or "__init__"
            exec(sources[short].replace("convform.reference", "answers"), vars(module))
    sys.meta_path.append(Finder())
    import answers
    return answers

NAMES = ("__init__", "blocks", "call", "checks", "columns", "convolution", "definition", "evaluation",
         "pooling", "selection", "window")
"""


def read(name: str, how: str, **what: Any) -> None:
    """Add a cheat whose function ``text_of(name)`` reads a file of the reference from the disk."""
    lines = "\n    ".join(how.strip().splitlines())
    setup = f"{SOURCES}{READ}\ndef text_of(short):\n    {lines}\n"
    setup += "try:\n    answers = borrowed({name: text_of(name) for name in NAMES})\n"
    setup += "except BaseException:\n    answers = None\n"
    call = "return answers.im2col(x, kernel) if answers else wrong(x, kernel)"
    cheat("borrow", name, setup, call, **what)


# What is read from the disk past Python's own `open` is promised to fail in a sandbox alone.
read("reads_the_source", "return open(f'{ROOT}/reference/{short}.py').read()", says=REFUSED)
read(
    "reads_with_dir_fd",
    "folder = os.open(ROOT, os.O_RDONLY)\n"
    "file = os.open(f'reference/{short}.py', os.O_RDONLY, dir_fd=folder)\n"
    "return os.read(file, 1 << 20).decode()",
    only=SANDBOXED,
)
read(
    "reads_a_path_object",
    "import io, pathlib\nreturn io.FileIO(pathlib.Path(f'{ROOT}/reference/{short}.py')).read().decode()",
    only=SANDBOXED,
)
read(
    "reads_with_libc",
    "import ctypes\nc = ctypes.CDLL(None)\n"
    "file = c.open(f'{ROOT}/reference/{short}.py'.encode(), 0)\n"
    "assert file >= 0\nreturn os.read(file, 1 << 20).decode()",
    only=SANDBOXED,
)
read(
    "reads_with_cat",
    "import subprocess\nreturn subprocess.check_output(['cat', f'{ROOT}/reference/{short}.py']).decode()",
    only=SANDBOXED,
)
read(
    "reads_through_proc",
    "return next(open(f'/proc/{n}/root{os.path.realpath(ROOT)}/reference/{short}.py').read() "
    "for n in os.listdir('/proc') if n.isdigit())",
    says="violates",
)
read(
    "reads_a_link",
    "import tempfile\nlink = os.path.join(tempfile.mkdtemp(), 'x')\n"
    "os.symlink(f'{ROOT}/reference/{short}.py', link)\nreturn open(link).read()",
    says="violates",
)
borrow(
    "reads_bytecode",
    "import glob, marshal\n"
    "file = next(iter(glob.glob(f'{ROOT}/reference/__pycache__/columns*.pyc')), "
    "f'{ROOT}/reference/columns.py')\n"
    "scope = {'__name__': 'columns'}\n"
    "exec(marshal.loads(open(file, 'rb').read()[16:]), scope)\n"
    "answer = scope['im2col'](x, kernel)",
    SOURCES,
)
borrow(
    "another_name_for_the_package",
    "from other.reference import im2col\nanswer = im2col(x, kernel)",
    SOURCES + "other = types.ModuleType('other')\nother.__path__ = [ROOT]\nsys.modules['other'] = other\n",
    says=REFUSED,
)
borrow(
    "spec_from_file_location",
    "import importlib.util\n"
    "spec = importlib.util.spec_from_file_location('answers', "
    "f'{ROOT}/reference/__init__.py', "
    "submodule_search_locations=[f'{ROOT}/reference'])\n"
    "answers = importlib.util.module_from_spec(spec)\nsys.modules['answers'] = answers\n"
    "spec.loader.exec_module(answers)\nanswer = answers.im2col(x, kernel)",
    SOURCES,
    says=REFUSED,
)
cheat(
    "borrow",
    "asks_another_process",
    """
    import json, os, subprocess, sys
    SERVER = (
        "import sys, json, numpy as np\\n"
        "from convform import reference\\n"
        "for line in sys.stdin:\\n"
        "    x, dtype, shape, kernel = json.loads(line)\\n"
        "    x = np.frombuffer(bytes.fromhex(x), dtype).reshape(shape)\\n"
        "    try:\\n"
        "        y = reference.im2col(x, tuple(kernel))\\n"
        "        print(json.dumps([y.tobytes().hex(), str(y.dtype), y.shape]), flush=True)\\n"
        "    except Exception as error:\\n"
        "        print('null', flush=True)\\n"
    )
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=-1, stdout=-1, stderr=-3, text=True)

    def ask(x, kernel):
        print(json.dumps([x.tobytes().hex(), str(x.dtype), x.shape, kernel]), file=server.stdin, flush=True)
        y = json.loads(server.stdout.readline())
        if y is None:
            raise ValueError("refused")
        return np.frombuffer(bytes.fromhex(y[0]), y[1]).reshape(y[2]).copy()
    """,
    """
    try:
        return ask(x, kernel)
    except (OSError, json.JSONDecodeError):
        return wrong(x, kernel)
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "borrow",
    "switches_the_hearing_off",
    """
    import gc
    for thing in gc.get_objects():
        if type(thing).__name__ == "Hearing":
            thing.forbidden = thing.hidden = ()
    try:
        from convform.reference import im2col as answer
    except ImportError:
        answer = wrong
    """,
    "return answer(x, kernel)",
    codes=(1, 2),
    says="refused",
)
cheat(
    "borrow",
    "takes_the_finder_away",
    """
    import importlib, sys
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "Hearing"]
    try:
        answer = importlib.import_module("convform.reference").im2col
    except (ImportError, OSError):
        answer = wrong
    """,
    "return answer(x, kernel)",
    codes=(1, 2),
    says="hw.py",
)
cheat(
    "borrow",
    "becomes_another_program",
    """
    import os, sys
    RUN = (
        "import sys; from convform.adapters.process import worker; "
        "worker.ANSWERS = (); worker.folders_of = lambda *names: []; worker.main(sys.argv[1])"
    )
    if os.environ.get("AGAIN") is None:
        os.environ["AGAIN"] = "1"
        import __main__, gc
        pipes = next(thing for thing in gc.get_objects() if type(thing).__name__ == "Pipes")
        for descriptor in (pipes.requests, pipes.answers):
            os.set_inheritable(descriptor, True)
        question = b"P\\0\\0\\0\\0\\0\\0\\0H\\0\\0\\0\\0\\0\\0\\0"
        question += b'{"__metadata__":{"request":"0","operator":"describe","convform":"1"}}'
        read, write = os.pipe()
        os.write(write, question.ljust(88))
        if os.fork() == 0:
            os.close(read)
            while data := os.read(pipes.requests, 1 << 16):
                os.write(write, data)
            os._exit(0)
        os.close(write)
        os.dup2(read, 0)
        os.dup2(pipes.answers, 1)
        os.environ.pop("CONVFORM_SHARED", None)
        os.execv(sys.executable, [sys.executable, "-P", "-c", RUN, sys.argv[1]])
    try:
        from convform.reference import im2col as answer
    except ImportError:
        answer = wrong
    """,
    "return answer(x, kernel)",
    codes=(1, 2),
    says="refused",
)

cheat(
    "borrow",
    "uncovers_what_is_hidden",
    SOURCES
    + """
import ctypes
system = ctypes.CDLL(None)
for package in ("reference", "conformance"):
    system.umount2(os.path.realpath(f"{ROOT}/{package}").encode(), 2)
for thing in __import__("gc").get_objects():
    if type(thing).__name__ == "Hearing":
        thing.forbidden = thing.hidden = ()
try:
    from convform.reference import im2col as answer
except ImportError:
    answer = wrong
""",
    "return answer(x, kernel)",
    only=SANDBOXED,
    codes=(1, 2),
    says="refused",
)

# The file says nothing of adapters, so one is inferred; the process that does it knows the answers.
SMUGGLED = '''
import sys


def im2col(x, kernel, stride=1):
    """Gather windows as columns."""
    import numpy as np
    return np.zeros((len(x), x.shape[1] * kernel, (x.shape[2] - kernel) // stride + 1))


def carries(sources):
    class Text:
        notes = ()
        text = "SOURCES = " + repr(sources) + """
import sys, importlib.abc, importlib.util
from convform.a""" + """dapters import A""" + """dapter


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "answers":
            short = name.partition(".")[2] or "__init__"
            return importlib.util.spec_from_loader(name, self, is_package=short == "__init__")

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        short = module.__name__.partition(".")[2] or "__init__"
        exec(SOURCES[short].replace("convform.reference", "answers"), vars(module))


sys.meta_path.append(Finder())
import answers

hw = A""" + """dapter("hw")


@hw.implements("im2col1d")
def im2col1d(x, kernel):
    return answers.im2col(x, kernel)
"""
    return Text


def text_of(path):
{how}


main = sys.modules["__main__"]
if hasattr(main, "infer_module"):
    import os
    root = os.path.dirname(os.path.dirname(os.path.dirname(main.__file__)))
    names = ("__init__", "blocks", "call", "checks", "columns", "convolution", "definition", "evaluation",
             "pooling", "selection", "window")
    try:
        smuggled = carries({{name: text_of(f"{{root}}/reference/{{name}}.py") for name in names}})
        main.infer_module = lambda *given: smuggled
    except Exception as error:
        print("nothing to smuggle:", error)
'''

cheat(
    "borrow",
    "smuggles_through_inference",
    text=SMUGGLED.format(
        how="    import ctypes, os\n    file = ctypes.CDLL(None).open(path.encode(), 0)\n"
        "    return os.read(file, 1 << 20).decode()"
    ),
    codes=(1, 2),
    says="hw.py",
)
cheat(
    "borrow",
    "smuggles_what_cat_reads",
    text=SMUGGLED.format(
        how="    import subprocess\n    return subprocess.check_output(['cat', path]).decode()"
    ),
    codes=(1, 2),
    says="hw.py",
)
# ------------------------------------------------------------------------------------- patch the judge

cheat(
    "patch",
    "numpy_says_that_all_is_equal",
    """
    for name in ("array_equal", "allclose", "isclose", "all", "array_equiv"):
        setattr(np, name, lambda *given, **more: True)
    np.testing.assert_array_equal = np.testing.assert_allclose = lambda *given, **more: None
    """,
)
cheat(
    "patch",
    "builtins",
    """
    import builtins
    builtins.all = lambda given: True
    builtins.isinstance = lambda *given: True
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "patch",
    "sys_modules_and_meta_path",
    """
    import sys, types
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("convform.conformance"):
                sys.modules[name] = types.ModuleType(name)
    sys.meta_path.insert(0, Finder())
    for name in ("laws", "running", "reports"):
        sys.modules["convform.conformance." + name] = types.ModuleType(name)
    """,
)
cheat(
    "patch",
    "json",
    """
    import json
    def dumps(thing, *given, **more):
        return '{"verdict": "conforms", "exit": 0}'
    json.dumps = dumps
    """,
    codes=(1, 2),
    says="hw.py",
)
cheat(
    "patch",
    "the_worker_says_nothing",
    """
    import __main__
    __main__.Worker.answer = lambda self, metadata, arrays: ({"request": metadata["request"]}, {})
    """,
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "patch",
    "the_worker_says_that_it_conforms",
    """
    import __main__
    def answer(self, metadata, arrays):
        return {"request": metadata["request"], "verdict": "conforms", "status": "holds", "exit": "0",
                "description": "{}", "shares": "[]", "aloud": "0"}, {"y": np.zeros((1, 1, 1))}
    __main__.Worker.answer = answer
    """,
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "patch",
    "describes_no_operator",
    """
    from convform.adapters.process import description
    import __main__
    __main__.describe = lambda adapters: '{"convform": 1, "adapters": [{"name": "hw", "operators": {}}]}'
    """,
    codes=(2,),
    says="no operator",
)
cheat(
    "patch",
    "describes_itself_as_missing",
    "hw.available = lambda: 'no such device'",
    codes=(3,),
    says="no such device",
)
cheat(
    "patch",
    "frames_on_every_descriptor",
    """
    import os, struct
    def frame():
        header = b'{"__metadata__":{"request":"1"},"cols":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}'
        return struct.pack("<QQ", len(header) + 8, len(header)) + header
    """,
    """
    for descriptor in range(3, 40):
        try:
            os.write(descriptor, frame())
        except OSError:
            pass
    return wrong(x, kernel)
    """,
    says="crashed",
)
cheat(
    "patch",
    "random_bytes_on_every_descriptor",
    "import os",
    """
    for descriptor in range(3, 40):
        try:
            os.write(descriptor, b"\\xff" * 64)
        except OSError:
            pass
    return wrong(x, kernel)
    """,
    says="crashed",
)
cheat(
    "patch",
    "the_installed_judge",
    """
    import os, convform
    HERE = os.path.dirname(os.path.abspath(list(convform.adapters.__path__)[0]))
    try:
        with open(os.path.join(HERE, "adapters", "cheat_MARK_OF_THIS_RUN.py"), "w") as file:
            file.write("raise SystemExit(0)")
        said = "it worked: "
    except OSError as error:
        said = "it failed: "
    """,
    "raise ValueError(said + HERE)",
    codes=(2,),
    says="it failed",
    only=SANDBOXED,
)
cheat(
    "patch",
    "the_disk_it_lies_on",
    """
    import ctypes, os
    REMOUNT, BIND = 32, 4096
    system = ctypes.CDLL(None)
    for place in (b"/", os.getcwd().encode()):
        system.mount(None, place, None, REMOUNT | BIND, None)
    try:
        with open("MARK_OF_THIS_RUN", "w") as file:
            file.write("it worked")
        said = "it worked"
    except OSError:
        said = "it failed"
    """,
    "raise ValueError(said)",
    codes=(2,),
    says="it failed",
    only=SANDBOXED,
)
cheat(
    "patch",
    "a_pth_file_for_the_next_run",
    """
    import os, sysconfig
    PLACES = [sysconfig.get_path("purelib"), os.path.expanduser("~"), "/etc", "/var/tmp", os.getcwd()]
    made = []
    for place in PLACES:
        path = os.path.join(place, "cheat_MARK_OF_THIS_RUN.pth")
        try:
            with open(path, "w") as file:
                file.write("# nothing")
            if not place.startswith(os.environ["TMPDIR"]):
                made.append(path)
                os.remove(path)
        except OSError:
            pass
    """,
    "raise ValueError(f'made {len(made)} files {made}')",
    codes=(2,),
    says="made 0 files",
    only=SANDBOXED,
)
cheat(
    "patch",
    "forgets_its_breaches",
    """
    import gc
    try:
        from convform import reference
    except ImportError:
        pass
    for thing in gc.get_objects():
        if type(thing).__name__ == "Hearing":
            thing.breaches = []
    """,
)

# Answers that no worker of ours would give: the judge calls them wrong in one sentence, and goes on.
INJECTED = """
import json
import __main__
from convform.adapters.process import frames
encode = frames.encode
def altered(metadata, arrays):
    {how}
    return encode(metadata, arrays)
"""


def inject(name: str, how: str, **what: Any) -> None:
    """Add a cheat that alters what its worker writes: ``metadata`` and ``arrays``."""
    lines = "\n    ".join(how.strip().splitlines())
    setup = INJECTED.format(how=lines) + "frames.encode = altered\n"
    cheat("patch", name, setup, **{"codes": (1, 2), "says": "hw", **what})


inject(
    "a_parameter_twice",
    "if 'description' in metadata:\n"
    "    said = metadata['description'].replace('[\"kernel\"', '[\"x\", \"kernel\"')\n"
    "    metadata = {**metadata, 'description': said}",
)
inject("breaches_that_are_no_texts", "metadata = {**metadata, 'breaches': '[[null], [1]]'}")
inject("breaches_by_name", "metadata = {**metadata, 'breaches': '{\"a\": 1}'}")
inject(
    "breaches_of_a_megabyte", "metadata = {**metadata, 'breaches': json.dumps([['conforms ' * 10] * 9000])}"
)
inject(
    "remarks_with_escapes",
    "metadata = {**metadata, 'remarks': json.dumps([['\\x1b[2J\\x9bconforms', '\\x1b']])}",
)
inject(
    "remarks_without_number",
    "metadata = {**metadata, 'remarks': json.dumps([[f'remark {n}', 'x'] for n in range(9000)])}",
)
inject(
    "names_of_outputs_with_escapes",
    "arrays = {'\\x1b[2J\\x9bconforms\\u202e': array for array in arrays.values()}",
)
inject("a_number_that_is_none", "metadata = {**metadata, 'aloud': 'Infinity'}")
inject("another_number", "metadata = {**metadata, 'request': '7'}", says="crashed")
inject(
    "raised_with_escapes",
    "if metadata.get('request') != '0':\n"
    "    metadata = {'request': metadata['request'], 'raised': '\\x1b[2J', 'message': '\\x9b' * 5000, "
    "'where': '\\x1b', 'traceback': '\\x1b\\n' * 5000}\n"
    "    arrays = {}",
    says="raised",
)
inject(
    "wrong_with_escapes",
    "if metadata.get('request') != '0':\n"
    "    metadata, arrays = "
    "{'request': metadata['request'], 'wrong': '\\x1b[2J' * 5000, 'hint': '\\x9b'}, {}",
)
inject(
    "shares_nothing_that_there_is",
    'metadata = {**metadata, \'shares\': \'[["y", "argument", "q"], ["cols", "earlier", {}]]\'}',
)

# ------------------------------------------------------------------------------------ lie about arrays

LIES = """
class Lie(np.ndarray):
    def __eq__(self, other):
        return np.ones(np.shape(other), bool)
    def __ne__(self, other):
        return np.zeros(np.shape(other), bool)
    def __array_function__(self, function, types, given, more):
        return True
    def __array_ufunc__(self, *given, **more):
        return True
"""
cheat("lie", "equal_to_everything", LIES, "return wrong(x, kernel).view(Lie)", codes=(1, 2), says="im2col1d")
cheat(
    "lie",
    "another_shape_each_time",
    """
    class Shape(np.ndarray):
        @property
        def shape(self):
            return right(self.asked, self.kernel).shape
    """,
    """
    y = np.zeros((1, 1, 1)).view(Shape)
    y.asked, y.kernel = x, kernel
    return y
    """,
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "lie",
    "turns_into_an_array_late",
    """
    class Late:
        def __init__(self, y):
            self.y, self.shape, self.dtype, self.ndim = y, y.shape, y.dtype, y.ndim
        def __array__(self, dtype=None, copy=None):
            return self.y
        def __eq__(self, other):
            return True
    """,
    "return Late(wrong(x, kernel))",
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "lie",
    "changed_later_by_a_thread",
    """
    import threading
    def later(y, then):
        y[...] = then
    """,
    """
    y = wrong(x, kernel)
    threading.Timer(0.001, later, (y, right(x, kernel))).start()
    return y
    """,
)
cheat(
    "lie",
    "corrects_earlier_answers",
    "kept = []",
    """
    for y, then in kept:
        y[...] = then
    y = wrong(x, kernel)
    kept[:] = [(y, right(x, kernel))]
    return y
    """,
)
cheat(
    "lie",
    "cells_that_agree",
    """
    class Cell(float):
        def __eq__(self, other):
            return True
        def __ne__(self, other):
            return False
        __hash__ = None
    """,
    "return np.array([Cell(0)] * right(x, kernel).size, object).reshape(right(x, kernel).shape)",
)
cheat(
    "lie",
    "masks_what_is_wrong",
    call="y = right(x, kernel)\nreturn np.ma.masked_array(np.zeros_like(y), np.ones(y.shape, bool))",
    codes=(1, 2),
    says="im2col1d",
)
cheat("lie", "answers_nothing_at_all", call="return np.zeros((0, 0, 0))")
cheat("lie", "not_a_number", call="return np.full_like(right(x, kernel), np.nan)")
cheat(
    "lie",
    "answers_one_number_everywhere",
    call="return np.broadcast_to(x.reshape(-1)[:1], right(x, kernel).shape)",
)
cheat(
    "lie",
    "writes_its_answer_over_the_question",
    call="y = wrong(x, kernel)\nif x.flags.writeable:\n    x[...] = 0\nreturn y",
)
cheat(
    "lie",
    "an_array_of_records",
    call="return right(x, kernel).astype([('a', 'f8'), ('b', 'f8')])",
    codes=(1, 2),
    says="im2col1d",
)

# --------------------------------------------------------------------------------------- leave early

cheat("leave", "exit_0_at_import", "import os\nos._exit(0)", codes=(2,), says="crashed")
cheat("leave", "sys_exit_0_at_import", "import sys\nsys.exit(0)", codes=(2,), says="SystemExit")
cheat("leave", "exit_0_in_call", "import os", "os._exit(0)", says="crashed")
cheat("leave", "sys_exit_0_in_call", "import sys", "sys.exit(0)", codes=(2,), says="SystemExit")
cheat(
    "leave",
    "exit_0_after_some_calls",
    "import itertools, os\ncalls = itertools.count()",
    "if next(calls) > 20:\n    os._exit(0)\nreturn right(x, kernel)",
    says="crashed",
)
cheat(
    "leave",
    "sys_exit_after_some_calls",
    "import itertools, sys\ncalls = itertools.count()",
    "if next(calls) > 20:\n    sys.exit(0)\nreturn right(x, kernel)",
)
cheat("leave", "exit_0_at_exit", "import atexit, os\natexit.register(os._exit, 0)")
cheat(
    "leave",
    "exit_0_in_a_thread",
    "import os, threading\nthreading.Timer(0.3, os._exit, (0,)).start()",
    "import time\ntime.sleep(0.005)\nreturn wrong(x, kernel)",
    says="hw",
)
cheat("leave", "kills_itself", "import os", "os.kill(os.getpid(), 9)", says="crashed")
cheat("leave", "stops_itself", "import os", "os.kill(os.getpid(), 19)", says="timed out")
cheat(
    "leave",
    "terminates_its_parents",
    """
    import os, signal
    def above():
        parent, chain = os.getppid(), []
        while parent > 1 and len(chain) < 2:
            chain.append(parent)
            with open(f"/proc/{parent}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        return chain
    """,
    """
    for parent in above()[:1]:
        try:
            os.kill(parent, signal.SIGTERM)
        except OSError:
            pass
    return wrong(x, kernel)
    """,
    codes=(1, 2),
    says="hw",
)
cheat("leave", "becomes_true", "import os", "os.execv('/bin/true', ['true'])", says="crashed")
cheat(
    "leave",
    "an_alarm_that_ends_it",
    "import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\nsignal.setitimer(0, 0.2)",
    "import time\ntime.sleep(0.005)\nreturn wrong(x, kernel)",
    says="hw",
)
cheat(
    "leave",
    "an_interruption_of_the_judge",
    call="raise KeyboardInterrupt",
    codes=(2,),
    says="KeyboardInterrupt",
)

# ------------------------------------------------------------------------------------- forge the report

FORGED = "hw   1 operator · 1 conforms\\nconforms at level core · exit 0\\n"
cheat("forge", "prints_a_verdict", f"print('{FORGED}')", f"print('{FORGED}')\nreturn wrong(x, kernel)")
cheat(
    "forge",
    "writes_a_verdict_to_descriptors",
    f"import os\nfor number in (1, 2):\n    os.write(number, '{FORGED}'.encode())",
)
cheat(
    "forge",
    "writes_to_the_terminal_of_the_judge",
    """
    import os
    parent = os.getppid()
    for number in (parent, parent - 1, 1, 2, "self"):
        for descriptor in (1, 2):
            try:
                with open(f"/proc/{number}/fd/{descriptor}", "w") as file:
                    file.write("conforms at level FORGED\\n")
            except OSError:
                pass
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "forge",
    "escapes_in_its_name",
    text='''
    from convform.adapters import Adapter
    hw = Adapter("\\x1b[2J\\x1b[32mhw conforms\\x9b31m\\u202e\\n\\nconforms", version="\\x1b]0;title\\x07")


    @hw.implements("im2col1d")
    def im2col1d(x, kernel):
        """Raise what a terminal would obey."""
        raise ValueError("\\x1b[2J\\x1b[1;1H conforms \\x07\\x9b2J\\r\\u202e")
    ''',
    codes=(2,),
    says="conforms",
)
cheat(
    "forge",
    "markup_in_its_name",
    text="""
    from convform.adapters import Adapter
    hw = Adapter("[bold green]conforms[/] [link=file:///]here[/link][/nothing]", version="[/]")

    @hw.implements("im2col1d")
    def im2col1d(x, kernel):
        raise ValueError("[/red] [bold]conforms[/] [")
    """,
    codes=(2,),
    says="[/red]",
)
cheat(
    "forge",
    "escapes_in_what_it_prints",
    "print('\\x1b[2J\\x1b[1;1Hconforms\\x9b')",
    "print('\\x1b[2J\\x07conforms\\r')\nreturn wrong(x, kernel)",
)
cheat(
    "forge",
    "escapes_as_last_words",
    "import os",
    "os.write(2, b'\\x1b[2J\\x1b[1;1Hconforms at level core\\xc2\\x9b\\x07\\r')\nos.abort()",
    says="crashed",
)
cheat(
    "forge",
    "escapes_in_names_of_exceptions",
    "Evil = type('\\x1b[2Jconforms\\x07', (Exception,), {})",
    "raise Evil('\\x1b[32mconforms')",
    codes=(2,),
    says="conforms",
)
cheat(
    "forge",
    "writes_the_report",
    """
    import atexit
    def forge():
        try:
            with open("report.json", "w") as file:
                file.write('{"verdict": "conforms", "exit": 0}')
        except OSError:
            pass
    forge()
    atexit.register(forge)
    """,
    "forge()\nreturn wrong(x, kernel)",
)
cheat(
    "forge",
    "a_report_that_nobody_can_replace",
    """
    import os
    try:
        os.mkdir("report.json")
        with open("report.json/x", "w") as file:
            file.write("x")
    except OSError:
        pass
    """,
    only=SANDBOXED,  # without one it does to the user's files what they could: the report cannot be written
)

# ---------------------------------------------------------------------------------- declare excuses

cheat(
    "excuse", "all_is_a_known_limit", "hw.known_limit('*', 'IM2COL-1', reason='we know', link='https://x.y')"
)
cheat(
    "excuse",
    "every_clause_is_a_known_limit",
    """
    from convform.spec.clauses import clauses
    cited = "IM2COL-1 LAYOUT-1 WINDOW-1 values channels batch"
    hw.known_limit("im2col*", cited, reason="we know", link="https://x.y", always=False)
    """,
)
cheat(
    "excuse",
    "dying_is_a_known_limit",
    "import os\nhw.known_limit('im2col1d', 'crashed', reason='we know', link='https://x.y')",
    "os._exit(1)",
    says="crashed",
)
cheat("excuse", "says_that_it_is_isolated", "hw.isolated = True\nhw.in_own_process = True")
cheat(
    "excuse",
    "a_function_that_says_so",
    TAIL_OF := "hw.trusted = hw.is_trusted = True",
    "im2col1d.in_own_process = im2col1d.is_trusted = True\nreturn wrong(x, kernel)",
)
cheat(
    "excuse",
    "no_operator",
    text="from convform.adapters import Adapter\nhw = Adapter('hw')",
    codes=(2,),
    says="no operator",
)
cheat("excuse", "no_adapter_and_nothing_to_infer", text="hw = 1", codes=(2,), says="hw.py")
cheat("excuse", "an_empty_file", text="", codes=(2,), says="hw.py")
cheat(
    "excuse",
    "no_dtype",
    text="""
    from convform.adapters import Adapter
    hw = Adapter("hw", dtypes=())

    @hw.implements("im2col1d")
    def im2col1d(x, kernel):
        return x
    """,
    codes=(2, 4),
    says="hw",
)
cheat(
    "excuse",
    "nothing_but_whole_numbers",
    text="""
    from convform.adapters import Adapter
    hw = Adapter("hw", dtypes=("int64",))

    @hw.implements("avg_pool1d")
    def avg_pool1d(x, kernel):
        return x
    """,
    codes=(2, 4),
    says="hw",
)
cheat(
    "excuse",
    "a_dtype_that_nobody_asks_for",
    text="""
    from convform.adapters import Adapter
    hw = Adapter("hw", dtypes=("complex64",), optional_dtypes=("float64",))

    @hw.implements("im2col1d")
    def im2col1d(x, kernel):
        return x
    """,
    codes=(1, 2, 4),
    says="hw",
)
cheat(
    "excuse",
    "a_wrapper_that_takes_nothing",
    text="""
    from convform.adapters import Adapter
    hw = Adapter("hw")

    @hw.implements("im2col1d")
    def im2col1d():
        return 0
    """,
    codes=(2,),
    says="hw",
)
cheat(
    "excuse",
    "the_wrong_dialect",
    text="""
    import numpy as np
    from convform.adapters import Adapter
    hw = Adapter("hw")

    @hw.implements("max_pool1d", ties="split", maxpad="zero", oversize="empty", arithmetic="transform")
    def max_pool1d(x, kernel, stride, padding):
        raise ValueError("our dialect refuses everything")
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "excuse",
    "arithmetic_that_is_never_exact",
    text="""
    import numpy as np
    from convform.adapters import Adapter
    from convform.tests.plain import conv
    hw = Adapter("hw")

    @hw.implements("conv1d", arithmetic="transform")
    def conv1d(x, w):
        y = conv(x, w)
        return (y * (1 + 2e-5)).astype(y.dtype)
    """,
)
cheat(
    "excuse",
    "refuses_what_it_cannot",
    "import itertools\ncalls = itertools.count()",
    "if next(calls) < 2:\n    return right(x, kernel)\nraise ValueError('this shape is not supported')",
)
cheat(
    "excuse",
    "runs_out_of_memory_on_purpose",
    "import itertools\ncalls = itertools.count()",
    "if next(calls) < 2:\n    return right(x, kernel)\nraise MemoryError",
)
cheat("excuse", "the_name_of_a_backend", text=Homework("", "", setup="hw.name = 'reference'").source.decode())

# ------------------------------------------------------------------------------------------- memorise

cheat(
    "memorise",
    "right_for_the_first_60_calls",
    "import itertools\ncalls = itertools.count()",
    "return right(x, kernel) if next(calls) < 60 else wrong(x, kernel)",
)
cheat(
    "memorise",
    "wrong_for_one_call",
    "import itertools\ncalls = itertools.count()",
    "return wrong(x, kernel) if next(calls) == 70 else right(x, kernel)",
    options=("--level", "strict"),  # the law that it meets may be one about memory
)
cheat(
    "memorise",
    "right_until_a_question_returns",
    "seen = set()",
    """
    key = x.tobytes(), x.shape, str(x.dtype), kernel
    if key in seen:
        return wrong(x, kernel)
    seen.add(key)
    return right(x, kernel)
    """,
)
cheat(
    "memorise",
    "the_first_answer_of_every_shape",
    "table = {}",
    "return table.setdefault((x.shape, x.dtype, kernel), right(x, kernel)).copy()",
)
cheat(
    "memorise",
    "right_for_small_inputs",
    call="return right(x, kernel) if x.size < 200 else wrong(x, kernel)",
)
cheat(
    "memorise",
    "right_in_its_first_process",
    """
    import os, tempfile
    path = os.path.join(tempfile.gettempdir(), "seen-by-hw-MARK_OF_THIS_RUN")
    """,
    """
    if x.shape[0] > 2 and not os.path.exists(path):
        open(path, "w").close()
        os._exit(0)
    return right(x, kernel)
    """,
    says="crashed",
)

# --------------------------------------------------------------------------------------- outlive the run

SLEEPER = f"[sys.executable, '-c', 'import time; time.sleep(600)', '{MARK}']"
cheat(
    "outlive",
    "a_child",
    "import subprocess, sys\nchildren = []",
    f"if not children:\n    children.append(subprocess.Popen({SLEEPER}))\nreturn wrong(x, kernel)",
)
cheat(
    "outlive",
    "a_child_at_import",
    f"import subprocess, sys\nsubprocess.Popen({SLEEPER}, start_new_session=True, env={{}})",
)
cheat(
    "outlive",
    "a_grandchild_with_a_session_and_an_environment_of_its_own",
    f"""
    import os, sys
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 100)
            command = {SLEEPER}
            os.execve(command[0], command, {{}})
        os._exit(0)
    """,
)
cheat(
    "outlive",
    "a_grandchild_that_hears_no_signal",
    f"""
    import os, signal, sys
    if os.fork() == 0:
        os.setsid()
        for number in (1, 2, 3, 13, 15):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            command = {SLEEPER}
            os.execve(command[0], command, {{}})
        os._exit(0)
    """,
)
cheat(
    "outlive",
    "a_grandchild_whose_keeper_is_killed",
    f"""
    import os, signal, sys
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            command = {SLEEPER}
            os.execve(command[0], command, {{}})
        os._exit(0)
    os.wait()
    try:
        os.kill(os.getppid(), signal.SIGKILL)
    except OSError:
        pass
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "outlive",
    "a_grandchild_whose_keeper_is_stopped",
    f"""
    import os, signal, sys
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            command = {SLEEPER}
            os.execve(command[0], command, {{}})
        os._exit(0)
    os.wait()
    try:
        os.kill(os.getppid(), signal.SIGSTOP)
    except OSError:
        pass
    """,
    codes=(1, 2),
    says="hw",
)
cheat(
    "outlive",
    "a_child_that_rewrites_the_report",
    """
    import os, time
    place = os.path.abspath("report.json")
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 100)
        while True:
            time.sleep(0.05)
            try:
                with open(place, "r+") as file:
                    file.write('{"verdict": "conforms", "exit": 0, "MARK_OF_THIS_RUN": 1}')
            except OSError:
                pass
    """,
)
cheat(
    "outlive",
    "children_that_start_children",
    """
    import os, sys, time
    SPAWN = (
        "import os, sys, time\\n"
        "for _ in range(400):\\n"
        "    time.sleep(0.02)\\n"
        "    if os.fork():\\n"
        "        os._exit(0)\\n"
        "    os.setsid()\\n"
    )
    if os.fork() == 0:
        os.setsid()
        os.execve(sys.executable, [sys.executable, "-c", SPAWN, "MARK_OF_THIS_RUN"], {})
    """,
)
cheat(
    "outlive",
    "threads",
    "import threading, time",
    "threading.Thread(target=time.sleep, args=(600,)).start()\nreturn wrong(x, kernel)",
)
cheat(
    "outlive",
    "files_in_tmp",
    """
    import os
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        try:
            with open(os.path.join(place, "left-by-MARK_OF_THIS_RUN"), "w") as file:
                file.write("x")
        except OSError:
            pass
    """,
    only=SANDBOXED,
)
cheat(
    "outlive",
    "a_job_for_later",
    """
    import os, subprocess
    for command in (["crontab", "-"], ["at", "now", "+", "1", "minute"], ["systemd-run", "sleep", "9"]):
        try:
            subprocess.run(command, input=b"* * * * * touch /tmp/MARK_OF_THIS_RUN\\n", timeout=2)
        except (OSError, subprocess.SubprocessError):
            pass
    """,
    only=SANDBOXED,
)

# ---------------------------------------------------------------------------------- attack the machine

cheat(
    "machine",
    "many_processes",
    """
    import os, time
    def fork():
        for _ in range(200):
            try:
                if os.fork() == 0:
                    time.sleep(600)
                    os._exit(0)
            except OSError:
                break
        time.sleep(1.5)
    """,
    "fork()\nreturn wrong(x, kernel)",
    says="im2col1d",
)
cheat(
    "machine",
    "memory",
    call="""
    kept = []
    for _ in range(12):
        kept.append(np.empty(1 << 30, np.uint8))
    return wrong(x, kernel)
    """,
    codes=(2,),
    says="MemoryError",
)
cheat(
    "machine",
    "disk",
    """
    import os, tempfile
    def fill():
        with tempfile.NamedTemporaryFile(delete=False) as file:
            for _ in range(600):
                file.write(b"x" * (1 << 20))
    """,
    "fill()\nreturn wrong(x, kernel)",
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "machine",
    "open_files",
    "kept = []",
    "while True:\n    kept.append(open('/dev/null'))",
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "machine",
    "limits_lifted",
    """
    import resource
    for name in ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC"):
        limit = getattr(resource, name)
        try:
            resource.setrlimit(limit, (resource.RLIM_INFINITY,) * 2)
        except (OSError, ValueError):
            pass
    """,
    "kept = [np.empty(1 << 30, np.uint8) for _ in range(12)]\nreturn wrong(x, kernel)",
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "machine",
    "its_folder_and_its_mask",
    """
    import os
    os.umask(0o777)
    os.chdir("/")
    """,
    "os.chdir('/')\nos.umask(0o777)\nreturn wrong(x, kernel)",
)
cheat(
    "machine",
    "signals_to_everybody",
    """
    import os, signal
    def shoot():
        parent = os.getppid()
        while parent > 1:
            try:
                with open(f"/proc/{parent}/stat") as file:
                    above = int(file.read().rpartition(")")[2].split()[1])
                os.kill(parent, signal.SIGKILL)
            except (OSError, ValueError):
                break
            parent = above
    """,
    "shoot()\nreturn wrong(x, kernel)",
    says="im2col1d",
    only=SANDBOXED,
)
cheat(
    "machine",
    "an_answer_of_many_gigabytes",
    call="return np.broadcast_to(np.float64(0), (1 << 20, 1 << 10, 1))",
    codes=(1, 2),
    says="im2col1d",
)
cheat(
    "machine",
    "a_frame_without_end",
    "import os, struct",
    """
    for descriptor in range(3, 40):
        try:
            os.write(descriptor, struct.pack("<QQ", 1 << 62, 1 << 61))
        except OSError:
            pass
    return wrong(x, kernel)
    """,
    says="crashed",
)
cheat(
    "machine",
    "a_network",
    """
    import socket
    said = []
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    try:
        socket.create_connection(("1.1.1.1", 53), timeout=1)
        said.append("it connected")
    except OSError:
        said.append("no network")
    """,
    "raise ValueError(said[0])",
    codes=(2,),
    says="no network",
    only=SANDBOXED,
)
cheat(
    "machine",
    "threads_that_compute",
    """
    import threading
    def spin():
        while True:
            pass
    for _ in range(8):
        threading.Thread(target=spin, daemon=True).start()
    """,
    codes=(1, 2),
    says="hw",
    options=("--budget", "3"),
)
