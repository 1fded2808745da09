"""No cheat ends with exit code 0, and none changes anything after its run."""

from __future__ import annotations

import pytest

from convform.tests.cheats import CHEATS
from convform.tests.judged import assert_judged, has_sandbox, table

BOTH = (
    "imports_at_import",
    "asks_another_process",
    "switches_the_hearing_off",
    "becomes_another_program",
    "smuggles_through_inference",
    "escapes_in_what_it_prints",
    "exit_0_in_call",
    "terminates_its_parents",
    "a_grandchild_with_a_session_and_an_environment_of_its_own",
    "a_grandchild_whose_keeper_is_killed",
    "a_grandchild_whose_keeper_is_stopped",
    "children_that_start_children",
    "many_processes",
    "memory",
    "disk",
)
"""Where a sandbox makes a difference."""


def test_there_are_enough_and_none_is_allowed_to_conform():
    assert len(CHEATS) >= 60
    assert [cheat.name for cheat in CHEATS if 0 in cheat.codes] == []


@pytest.mark.parametrize(("cheat", "kind"), table(CHEATS, BOTH))
def test_a_cheat_is_seen_through(tmp_path, cheat, kind):
    if kind == "auto" and not has_sandbox():
        pytest.skip("there is no sandbox here")
    assert_judged(tmp_path, cheat, kind)
