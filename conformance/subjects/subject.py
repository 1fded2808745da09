"""Calling a subject: arrays into its layouts, its answer back into named axes.

The judge calls everything through `call`, so that a subject may live anywhere: what matters is that a case
goes in and an `Answer`, or an exception of the subject's own, comes out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from convform import reference
from convform.adapters import Implementation, ShapeMismatch
from convform.adapters.process.client import CannotStart, RaisedElsewhere, SubjectDied
from convform.adapters.process.guard import Guarded, first_line, subject_traceback
from convform.conformance.cases.case import Case, parameters_as_said
from convform.conformance.cases.geometry import Space
from convform.conformance.subjects.hosting import Proxy
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import Evaluate, Misreading, misread
from convform.spec.operators import Operator


class SubjectRaised(Exception):
    """The subject raised; the original exception is the cause."""

    @property
    def traceback(self) -> str | None:
        """The original exception with the frames of the subject alone."""
        if isinstance(self.__cause__, RaisedElsewhere):
            met = self.__cause__
            return met.trace or f"{met}" + (f" ({met.where})" if met.where else "")
        return None if self.__cause__ is None else subject_traceback(self.__cause__)


class SubjectGone(Exception):
    """The subject's process ended or hung in a call; the next call has a new one.

    This is no way of refusing: laws let it pass, and whoever runs them makes a violation of it.

    Attributes
    ----------
    case
        The case of the call.
    outcome
        ``"crashed"`` or ``"timed out"``.
    last_words
        The end of what the process wrote to standard error.
    """

    def __init__(self, case: Case, died: SubjectDied) -> None:
        super().__init__(str(died))
        self.case, self.outcome, self.last_words = case, died.outcome, died.last_words


AHEAD = 16
"""Cases that are asked at once."""

AHEAD_BYTES = 1 << 14
"""Arrays of a case that is asked ahead: small ones, whose answers all find room in a pipe."""


MOST_ANSWERED = 400
"""Cases of an operator that are remembered."""


@dataclass(frozen=True)
class Subject:
    """An implementation under judgement, with what the smoke law learned of it.

    Attributes
    ----------
    implementation
        The wrapper, its layouts and its claims.
    answers
        Names of the outputs it returns: gradients may be any subset of dx, dw, db.
    answered
        Cases that it has answered right, by identity, each with the property that said so: the first ones of
        a run, to be asked again.
    """

    implementation: Implementation
    answers: frozenset[str]
    answered: dict[int, tuple[Case, Callable[[Subject, Case], None]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def operator(self) -> Operator:
        """The operator that is implemented."""
        return self.implementation.operator

    @property
    def forward(self) -> Implementation | None:
        """The forward pass of the same adapter; None where it has none, or where this is no gradient."""
        name = self.operator.forward
        return self.implementation.siblings.get(name) if name != self.operator.name else None

    @functools.cached_property
    def space(self) -> Space:
        """The geometries that are claimed."""
        return Space.of(self.implementation)

    @functools.cached_property
    def dialects(self) -> tuple[Misreading, ...]:
        """The declared dialects, as the readings of the standard that they are."""
        declared = self.implementation.claims.dialects
        return tuple(
            misreading
            for misreading in MISREADINGS.values()
            if misreading.dialect in declared and misreading.applies_to(self.operator.family)
        )

    @property
    def standard(self) -> Evaluate:
        """What the subject is held to: the reference, or the dialect that it declares."""
        return misread(*self.dialects) if self.dialects else reference.evaluate

    def fitted(self, case: Case) -> Case:
        """Count the windows of a case as the declared dialect of ceil rounding does; dy has as many."""
        counts = any(name == "ceil" for name, _ in self.implementation.claims.dialects)
        if not counts or case.refused is not None or not case.parameters.get("ceil_mode", False):
            return case
        x = {"x": case.inputs["x"]}
        with np.errstate(all="ignore"):  # a window of no elements has no average
            output_size = self.standard(self.operator.forward, x, case.asked)["y"].shape[2:]
        dy = case.inputs.get("dy")
        if dy is not None:
            for axis, length in enumerate(output_size, start=2):
                dy = np.take(dy, range(length), axis, mode="wrap")
            case = case.with_inputs(dy=dy)
        return replace(case, output_size=output_size)

    @property
    def is_suspect(self) -> bool:
        """Whether its code is not trusted: it lives elsewhere, and was never run here."""
        function = self.implementation.function
        return isinstance(function, Proxy) and not function.is_trusted

    def remember(self, case: Case, check: Callable[[Subject, Case], None]) -> None:
        """Note a case that was answered right, while there is room, where it can be asked again later."""
        small = sum(array.nbytes for array in case.inputs.values()) <= AHEAD_BYTES
        if len(self.answered) < MOST_ANSWERED and small and self.is_suspect:
            self.answered[id(case)] = case, check

    def owes(self, case: Case) -> list[str]:
        """Names of the outputs that the subject must return for a case.

        A wrapper that takes a bias need not return its gradient in a call without one.
        """
        missing = {"db"} if self.takes("b") and "b" not in case.inputs else set()
        return sorted(self.answers - missing)

    def takes(self, name: str) -> bool:
        """Whether the wrapper has a parameter of that name."""
        return name in self.implementation.takes


@dataclass(frozen=True)
class Answer:
    """What a subject answered to one case.

    Attributes
    ----------
    outputs
        Canonical arrays by name.
    mismatch
        Set instead of `outputs` when an array does not have the shape its layout asks for.
    arguments
        The native arguments the subject was called with, after the call.
    returned
        Whatever the subject returned.
    """

    outputs: Mapping[str, np.ndarray]
    arguments: Mapping[str, object]
    returned: object
    mismatch: ShapeMismatch | None = None
    before: Mapping[str, np.ndarray] = field(default_factory=dict)


Arrangement = Callable[[np.ndarray], np.ndarray]


def _strided(array: np.ndarray) -> np.ndarray:
    """Every second element, along every axis, of a larger array full of a large odd number."""
    if array.ndim == 0:
        return array
    backing = np.full([2 * size + 1 for size in array.shape], 77, array.dtype)
    view = backing[tuple(slice(1, 2 * size + 1, 2) for size in array.shape)]
    view[...] = array
    return view


def _reversed(array: np.ndarray) -> np.ndarray:
    everything = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[everything])[everything]


def _broadcast(array: np.ndarray) -> np.ndarray:
    """One element seen everywhere; the case holds a constant array."""
    if array.size == 0:
        return array
    # A writable zero-stride view: what a subject writes to it would be seen everywhere at once.
    first = array.reshape(-1)[:1].copy()
    return np.lib.stride_tricks.as_strided(first, array.shape, (0,) * array.ndim, writeable=False)


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


ARRANGEMENTS: Mapping[str, Arrangement] = {
    "contiguous": lambda array: array,
    "Fortran order": lambda array: np.array(array, order="F"),
    "strided": _strided,
    "negative strides": _reversed,
    "zero strides": _broadcast,
    "read-only": _read_only,
    "one axis too many": lambda array: array[np.newaxis],
    "no sample and channel axis": lambda array: array[0, 0],
}
"""How native arrays can lie in memory, and two ways of having the wrong rank."""

WRONG_RANKS = ("one axis too many", "no sample and channel axis")
"""Arrangements that change the rank; they apply to the first array alone."""


def call(implementation: Implementation, case: Case) -> Answer:
    """Call a subject with a case.

    Raises
    ------
    SubjectRaised
        If the subject raises; its exception is the cause.
    SubjectGone
        If its process ends, hangs, or answers with what is no answer.
    AdapterError
        If it returns something that is no answer at all.
    """
    function = implementation.function
    proxy = function if isinstance(function, Proxy) else None
    waiting = proxy.waiting.pop(id(case), None) if proxy else None
    arguments = native_arguments(implementation, case) if waiting is None else waiting.arguments
    before = {name: value.copy() for name, value in arguments.items() if isinstance(value, np.ndarray)}
    try:
        if proxy is not None:
            returned = proxy.fetch(waiting) if waiting is not None else proxy(**arguments)
        else:
            with Guarded(implementation.operator.name):
                returned = function(**arguments)
    except (KeyboardInterrupt, CannotStart):
        raise
    except SubjectDied as died:
        raise SubjectGone(case, died) from None
    except RaisedElsewhere as error:
        raise SubjectRaised(first_line(str(error))) from error
    except BaseException as error:  # sys.exit in a homework is no reason to stop
        said = first_line(str(error))
        raise SubjectRaised(type(error).__name__ + (f": {said}" if said else "")) from error
    if case.refused is not None:
        return Answer({}, arguments, returned, before=before)
    try:
        outputs = implementation.canonical_outputs(returned, case.sizes)
    except ShapeMismatch as mismatch:
        return Answer({}, arguments, returned, mismatch, before)
    return Answer(outputs, arguments, returned, before=before)


def ask_ahead(implementation: Implementation, cases: Sequence[Case]) -> None:
    """Ask several cases at once where the subject lives elsewhere; `call` then finds their answers.

    Nobody waits for what is asked: while one answer is compared, the subject is at the next.
    """
    function = implementation.function
    if not isinstance(function, Proxy) or len(cases) < 2:
        return
    for case in cases:
        if sum(array.nbytes for array in case.inputs.values()) <= AHEAD_BYTES:
            function.ask(case, native_arguments(implementation, case))
    function.process.go()


def forget_ahead(implementation: Implementation, cases: Sequence[Case] | None = None) -> bool:
    """Forget which of some cases, or of all, were asked and never called for; whether there were any."""
    function = implementation.function
    if not isinstance(function, Proxy) or not function.waiting:
        return False
    return function.forget(list(function.waiting) if cases is None else [id(case) for case in cases])


def native_arguments(implementation: Implementation, case: Case) -> dict[str, object]:
    """Write a case in the forms that the wrapper takes, arrays arranged as the case says."""
    arguments = implementation.native_arguments(case.inputs, parameters_as_said(case, implementation.claims))
    return {
        name: ARRANGEMENTS[arrangement_of(name, case)](value) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def arrangement_of(name: str, case: Case) -> str:
    """How the array `name` lies in memory in a call with the case."""
    elsewhere = case.arrangement in WRONG_RANKS and name not in ("x", "cols")
    return "contiguous" if elsewhere else case.arrangement
