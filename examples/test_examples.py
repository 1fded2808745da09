"""Every example gets the verdict it deserves, and the defective ones for the right reason."""

from __future__ import annotations

from importlib.resources import files

import pytest

from convform.adapters import find
from convform.conformance import check

# file: operators that violate at level core, and the first clause that says so
DESERVED = {
    "lab_conv.py": {},
    "channels_last.py": {},
    "lab_pool.py": {"max_pool2d": "MAXPOOL-2", "max_pool2d.backward": "MAXPOOL-2"},
    "lab_grad.py": {"conv2d.backward": "WINDOW-2"},
}


def test_every_example_is_judged():
    names = {entry.name for entry in files("convform.examples").iterdir() if entry.name.endswith(".py")}
    assert names - {"__init__.py", "test_examples.py"} == set(DESERVED)


@pytest.mark.parametrize("name", DESERVED)
@pytest.mark.parametrize("seed", [0, 1])
def test_example_gets_the_verdict_it_deserves(name, seed):
    for adapter in find(str(files("convform.examples") / name)):
        report = check(adapter, seed=seed)
        found = {
            operator.name: operator.violated("core")[0].clauses[0]
            for operator in report.operators
            if operator.violated("core")
        }
        assert found == DESERVED[name]
        assert report.verdict == ("violates" if DESERVED[name] else "conforms")
