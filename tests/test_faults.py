"""Every fault ends in a clear verdict, with nothing left behind."""

from __future__ import annotations

import pytest

from convform.tests.faults import FAULTS
from convform.tests.judged import assert_judged, has_sandbox, table


def test_there_are_enough():
    assert len(FAULTS) >= 60


@pytest.mark.parametrize(("fault", "kind"), table(FAULTS))
def test_a_fault_ends_in_a_clear_verdict(tmp_path, fault, kind):
    if kind == "auto" and not has_sandbox():
        pytest.skip("there is no sandbox here")
    assert_judged(tmp_path, fault, kind)
