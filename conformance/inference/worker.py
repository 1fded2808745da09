"""Inference on the subject's side of the wall: a process that imports a homework and writes its adapter.

It speaks the protocol to the end of the first answer, which holds the text of an adapter file instead of a
description. Inference compares with the standard's answers, so they are loaded here, and put out of the
homework's reach before that is imported. Nobody is judged here: the adapter that comes out is served, and the
homework called, by a worker that has none of this.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path

from convform.adapters.errors import AdapterError
from convform.adapters.find import import_file, split_target
from convform.adapters.process import frames
from convform.adapters.process.guard import quiet, watching
from convform.adapters.process.hearing import Hearing
from convform.adapters.process.sandbox import ANSWERS, folders_of
from convform.adapters.process.worker import Aloud, Pipes, Watch, refusal
from convform.conformance.inference.infer import infer_module
from convform.conformance.inference.targets import INFERRING, Task


def main(text: str) -> None:
    """Infer what the task says, and answer the one request."""
    given = json.loads(text)
    task = Task(given["target"], given["file"], tuple(given["forbid"]))
    pipes = Pipes()
    faulthandler.enable()
    place, name = split_target(task.target)
    file, aloud = Path(place), Aloud()
    hidden = folders_of(*ANSWERS)
    with watching(paper=aloud) as conduct:
        # Its children could read the answers, which inference needs here.
        forbidden = (*task.forbid, *ANSWERS)
        hearing = Hearing(file.resolve().parent, forbidden, hidden, conduct.note, holds_children=False)
        watch = Watch(conduct, hearing, aloud)
        if pipes.read() is None:
            return
        for known in [known for known in sys.modules if known.startswith(ANSWERS)]:
            del sys.modules[known]
        hearing.install()
        said: dict[str, str] = {}
        try:
            with quiet(conduct):
                module = import_file(file)
                os.write(2, f"{INFERRING}\n".encode())
                aloud.said += len(INFERRING) + 1
                inferred = infer_module(module, file, name, Path(task.file).resolve().parent)
            said = {"text": inferred.text, "notes": json.dumps(inferred.notes)}
        except AdapterError as error:
            said = refusal(error)
        except BaseException as error:
            said = {"wrong": f"{task.target}: raised {type(error).__name__}", "kind": "BrokenFile"}
        pipes.write(frames.encode({"request": "0", **said, **watch.told()}, {}))


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)
