"""The time that a run may take, spent fairly over its operators."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable


class Budget:
    """Seconds for a run, and who has spent them.

    Parameters
    ----------
    seconds
        All of it; None for as long as it takes.
    operators
        The operator of every law that will be asked: who has none left leaves its rest to the others.
    """

    def __init__(self, seconds: float | None, operators: Iterable[str] = ()) -> None:
        self.seconds = seconds
        self.ends = None if seconds is None else time.monotonic() + seconds
        self._left = Counter(operators)
        self._spent = dict.fromkeys(self._left, 0.0)

    @property
    def is_over(self) -> bool:
        """Whether all of it is spent."""
        return self.ends is not None and time.monotonic() >= self.ends

    def until(self, operator: str) -> float | None:
        """When the next law of an operator has to stop, on the clock of `time.monotonic`; None for never."""
        if self.ends is None:
            return None
        now = time.monotonic()
        waiting = [name for name, laws in self._left.items() if laws]
        others = sum(self._spent[name] for name in waiting)
        # Everybody who waits may have spent the same in the end.
        share = (self.ends - now + others) / max(len(waiting), 1) - self._spent[operator]
        return min(self.ends, now + max(share, 0.0))

    def spend(self, operator: str, seconds: float) -> None:
        """Note that a law of an operator was asked."""
        self._spent[operator] += seconds
        self._left[operator] -= 1
