"""The `Adapter`: what an implementation offers, in which layouts, and how the judge calls it.

An adapter is a name, a few layouts, and one wrapper for each operator. The names of a wrapper's
parameters say what it takes; what it does not take it does not claim::

    hw = Adapter("my-homework", input="n h w c", weight="kh kw i o")

    @hw.implements("conv2d", stride="scalar")
    def _(x, w, stride):
        return conv(x, w, stride)

The judge converts layouts and parameters on the way in and layouts on the way out (`Implementation`);
wrappers never transpose.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from convform.adapters.claims import CLAIM_VALUES, DTYPES, Claims, Switch
from convform.adapters.errors import AdapterError, Unavailable, closest
from convform.adapters.implementation import Implementation
from convform.adapters.layout import Layout
from convform.adapters.limits import KnownLimit, limit_of
from convform.adapters.scripts import Script, script_of
from convform.spec.operators import (
    DIALECTS,
    LAYOUT_OF,
    OPERATORS,
    PARAMETERS,
    RANKS,
    SPATIAL_AXES,
    Operator,
    axes,
)

Wrapper = TypeVar("Wrapper", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Kind:
    """What is known about one layout argument before the operator is."""

    says: str
    template: str  # the axes, as in the operator table
    aliases: Mapping[str, str]

    def parse(self, pattern: str) -> Layout:
        """Read a pattern over the axes of the highest rank; the operator's rank drops some later."""
        highest = tuple(axes(self.template, max(RANKS)).split())
        return Layout.parse(
            pattern, highest, what=self.says, aliases=self.aliases, allow_empty=self.template == "o"
        )


_LAYOUT_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "input": _Kind("an input", "n c {x}", {}),
        # Many write "o c kh kw"; within a group these are the input channels, so c is another name for i.
        "weight": _Kind("a weight", "o i {k}", {"c": "i"}),
        "bias": _Kind("a bias", "o", {}),
        "columns": _Kind("columns", "n c {k} {o}", {}),
        # One pattern serves convolution and pooling: the channels are o here and c there.
        "output": _Kind("an output", "n o {o}", {"c": "o"}),
    }
)


# Canonical columns are a matrix for each sample; every other array is canonical as in the operator table.
_COLUMNS = "n (c {k}) ({o})"


class Adapter:
    """The description of an implementation: its operators, its layouts, its claims and known limits.

    Parameters
    ----------
    name
        What reports call it.
    input, weight, bias, columns, output
        Layouts of the arrays as named-axis patterns; None is canonical (``n c h w``, ``o i kh kw``,
        ``o``, ``n (c kh kw) (oh ow)``). A pattern may name the axes of the highest rank that it serves:
        ``"n d h w c"`` is ``"n h w c"`` for the 2-D operators. An axis that is left out has length one.
        ``c`` may be written for ``i`` in a weight, and for ``o`` in an output. The layout of outputs
        follows from the one of inputs (``n h w c`` gives ``n oh ow o``) unless it is named.
    dtypes
        NumPy names of the dtypes that every operator claims.
    optional_dtypes
        Which of its dtypes are claimed only where NumPy has them, as it has bfloat16 beside ml_dtypes alone;
        `left_out` then says so.
    version
        Version of what is judged, for reports.
    available
        Called without arguments before anything runs: returns None, or a sentence that says why the
        implementation cannot run here.
    install
        What to type to install it.
    isolated
        Whether to judge it in a process of its own, which it may crash or hang.
    script
        Called with the name of an operator and the parameters as its wrapper gets them: Python source that
        repeats a call with nothing but the library. Given NumPy variables named as the operator's inputs, it
        assigns a dict ``answer`` of arrays by output. None for an operator that it cannot say. Where every
        wrapper is a script as it stands, the lines that come before it will do (`convform.adapters.scripts`).
    switches
        Called without arguments where the wrappers run: the global settings that change arithmetic, each
        with its value, in a `Switch`.

    Raises
    ------
    AdapterError
        If a layout or dtype does not exist; the message names it.
    Unavailable
        If bfloat16 is claimed, not as an optional dtype beside others, and ml_dtypes is not installed.

    Examples
    --------
    >>> hw = Adapter("my-homework", input="n h w c", weight="kh kw i o")
    >>> @hw.implements("conv2d", stride="scalar")
    ... def conv(x, w, stride): ...
    >>> sorted(hw.implementations["conv2d"].takes)
    ['stride', 'w', 'x']
    """

    def __init__(
        self,
        name: str,
        *,
        input: str | None = None,
        weight: str | None = None,
        bias: str | None = None,
        columns: str | None = None,
        output: str | None = None,
        dtypes: Sequence[str] = ("float64", "float32"),
        optional_dtypes: Sequence[str] = (),
        version: str | None = None,
        available: Callable[[], str | None] | None = None,
        install: str | None = None,
        isolated: bool = False,
        script: Script | str | None = None,
        switches: Callable[[], Sequence[Switch]] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise AdapterError(
                f"Adapter({name!r}): expected a name, a string that is not empty", 'Adapter("my-homework")'
            )
        self.name = name
        self.version = version
        self.available = available
        self.install = install
        self.isolated = isolated
        self.script = self._written(script) if isinstance(script, str) else script
        self.switches = switches
        self.origin: str | None = None  # what `find` found it by: another process finds it there, too
        layouts = {"input": input, "weight": weight, "bias": bias, "columns": columns, "output": output}
        # As it was said, so that it can be said again: in a description for another process.
        self.said: Mapping[str, Any] = MappingProxyType(
            {
                **layouts,
                "dtypes": dtypes,
                "optional_dtypes": optional_dtypes,
                "version": version,
                "install": install,
            }
        )
        self.optional_dtypes = tuple(optional_dtypes) and _dtypes(name, optional_dtypes)
        self.left_out: tuple[str, ...] = ()  # one sentence for each optional dtype that is not there
        self.dtypes = self._present(name, _dtypes(name, dtypes))
        self.known_limits: list[KnownLimit] = []
        self._implementations: dict[str, Implementation] = {}
        self._layouts = _parse_layouts(name, input, weight, bias, columns, output)

    @property
    def implementations(self) -> Mapping[str, Implementation]:
        """What is implemented, by operator, in the order of registration."""
        return MappingProxyType(self._implementations)

    def __getitem__(self, operator: str) -> Callable[..., Any]:
        """Return the wrapper of an operator, to be called with native arguments.

        Raises
        ------
        AdapterError
            If there is no such operator, or this adapter does not implement it.
        """
        if operator not in self._implementations:
            self._operator(operator)
            has = ", ".join(self._implementations) or "nothing yet"
            raise AdapterError(f"{self.name} does not implement {operator}; it implements {has}")
        return self._implementations[operator].function

    def __repr__(self) -> str:
        return f"<Adapter {self.name}: {', '.join(self._implementations) or 'no operators yet'}>"

    def implements(
        self,
        operator: str,
        *,
        input: str | None = None,
        weight: str | None = None,
        bias: str | None = None,
        columns: str | None = None,
        output: str | None = None,
        dtypes: Sequence[str] | None = None,
        **claims: Any,
    ) -> Callable[[Wrapper], Wrapper]:
        """Register a wrapper for an operator; it is returned unchanged.

        The wrapper's parameters are named ``x w b dy cols input_size kernel stride padding dilation
        groups ceil_mode count_include_pad``, of which it takes those that its operator has; it is called
        with keywords. A bias with the default None claims calls without a bias, too. ``input_size`` is
        the shape of x in the wrapper's own layout.

        Parameters
        ----------
        operator
            A name of the operator table, for example ``"max_pool2d.backward"``.
        input, weight, bias, columns, output
            Layouts of this operator where they differ from the adapter's.
        dtypes
            Dtypes of this operator where they differ from the adapter's.
        **claims
            ``stride``, ``dilation``, ``padding``, ``kernel``, ``indices``, ``default_stride``, ``rounding``,
            ``max_padding``, ``arithmetic``, as in `Claims`; and dialects, by which it is then judged:
            ``ties="split"``, ``maxpad="zero"``, ``kernel="mirrored"`` or ``kernel="square mirrored"``, ….
            ``convform.spec.operators.DIALECTS`` lists them; ``dtypes`` may hold ``"promote"``.

        Raises
        ------
        AdapterError
            If the operator, a claim, a claim's value or a layout does not exist, the operator is
            registered already, or the wrapper's parameters are not those of the operator.
        """
        layouts = {"input": input, "weight": weight, "bias": bias, "columns": columns, "output": output}
        said = MappingProxyType({**layouts, "dtypes": dtypes, "claims": dict(claims)})
        row = self._operator(operator)
        if operator in self._implementations:
            raise AdapterError(
                f"{self.name}: {operator} is registered already; an adapter has one wrapper for it"
            )
        claims, dtypes, dialects = _apart(f"{self.name}: {operator}", claims, dtypes)
        checked = _check_claims(f"{self.name}: {operator}", row, claims)
        where = f"{self.name}: {operator}"
        own_dtypes = self.dtypes if dtypes is None else self._present(where, _dtypes(where, dtypes))
        own_layouts = _parse_layouts(f"{self.name}: {operator}", input, weight, bias, columns, output)
        read = _layouts_of(f"{self.name}: {operator}", row, {**self._layouts, **own_layouts})

        def register(function: Wrapper) -> Wrapper:
            takes, bias_optional = _takes(f"{self.name}: the wrapper of {operator}", row, function)
            _check_claims_are_taken(f"{self.name}: {operator}", row, claims, takes)
            self._implementations[operator] = Implementation(
                self.name,
                row,
                function,
                takes,
                Claims(**checked, dtypes=own_dtypes, bias_optional=bias_optional, dialects=dialects),
                read,
                said,
                MappingProxyType(self._implementations),
                self.known_limits,
            )
            return function

        return register

    def with_functions(self, functions: Mapping[str, Callable[..., Any]]) -> Adapter:
        """Return the same description with other functions to call, by operator."""
        other = copy.copy(self)
        other._implementations = {}
        for name, implementation in self._implementations.items():
            other._implementations[name] = replace(
                implementation,
                function=functions.get(name, implementation.function),
                siblings=MappingProxyType(other._implementations),
            )
        return other

    def known_limit(
        self,
        operators: str,
        breaks: str,
        *,
        reason: str,
        link: str,
        dtypes: str | Sequence[str] | None = None,
        ranks: Sequence[int] | None = None,
        when: str | None = None,
        shows: str | None = None,
        always: bool = True,
    ) -> None:
        """Declare laws or clauses that the implementation is known to break, and why.

        Parameters
        ----------
        operators
            Names of operators, or shell patterns over those that are implemented (``"conv?d*"``), apart by
            spaces.
        breaks
            Names of laws and ids of clauses, apart by spaces; ``"crashed"`` or ``"timed out"`` where it ends
            its process, or does not answer, in some law or other.
        reason
            One sentence: what happens.
        link
            Where it is documented or reported.
        dtypes
            The dtypes that break it, where others do not: names or patterns such as ``"*float16"``.
        ranks
            The numbers of spatial axes with which it does, where it does not with others.
        when
            The condition under which it does: ``"dilation > 1"``, in the words in which a report says when
            an implementation fails, joined by ``and`` or ``, or``.
        shows
            What it does then: ``"values"`` or ``"shape"`` are wrong, it ``"raises"``, or ``"answers"``
            instead of refusing; see `convform.adapters.limits.SHOWS`. None for any of it.
        always
            Whether every run shows it; one that does not is then a violation.

        Raises
        ------
        AdapterError
            If an operator, a dtype or a kind of answer does not exist, or something is empty.

        Examples
        --------
        >>> hw = Adapter("my-homework")
        >>> hw.known_limit("conv?d*", "CONV-7", shows="raises", reason="No groups.", link="https://example.org")
        """
        rest = {"reason": reason, "link": link, "when": when, "shows": shows, "always": always}
        limit = limit_of(self.name, operators, breaks, dtypes, ranks, **rest)
        if self.left_out and all(name == "bfloat16" for name in DTYPES if limit.speaks_of(name)):
            return  # it cannot show
        self.known_limits.append(limit)

    def _present(self, where: str, dtypes: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out what is optional and not there; refuse what is claimed and not there."""
        if "bfloat16" not in dtypes or _has_bfloat16():
            return dtypes
        others = tuple(name for name in dtypes if name != "bfloat16")
        missing = "need ml_dtypes, which is not installed"
        if not others or "bfloat16" not in self.optional_dtypes:
            raise Unavailable(f"{where}: bfloat16 arrays {missing}", "pip install ml_dtypes")
        self.left_out = (f"bfloat16, whose arrays {missing} (pip install ml_dtypes)",)
        return others

    def _written(self, before: str) -> Script:
        return lambda operator, parameters: script_of(self[operator], parameters, before)

    def _operator(self, name: str) -> Operator:
        if not isinstance(name, str) or name not in OPERATORS:
            hint = closest(name, OPERATORS) if isinstance(name, str) else None
            raise AdapterError(
                f"{self.name}: there is no operator {name!r}",
                hint
                or f"operators are im2col, col2im, conv2d, max_pool2d, avg_pool2d, …, each for ranks {RANKS}",
            )
        return OPERATORS[name]


def _apart(
    where: str, claims: Mapping[str, Any], dtypes: Sequence[str] | None
) -> tuple[dict[str, Any], Sequence[str] | None, tuple[tuple[str, str], ...]]:
    """Tell dialects from claims; `kernel`, `padding` and `dtypes` can be both at once."""
    left: dict[str, Any] = {}
    dialects: list[tuple[str, str]] = []
    for name, value in claims.items():
        words = value.split() if isinstance(value, str) else []
        spoken = [word for word in words if word in DIALECTS.get(name, ())]
        dialects += [(name, word) for word in spoken]
        rest = [word for word in words if word not in spoken]
        if name in DIALECTS and name not in CLAIM_VALUES:
            if rest or len(spoken) != 1:
                options = ", ".join(map(repr, DIALECTS[name]))
                raise AdapterError(
                    f"{where}: {name}={value!r}, expected one of {options}",
                    closest(str(value), DIALECTS[name]),
                )
        elif not spoken:
            left[name] = value
        elif rest:
            left[name] = " ".join(rest)
    if dtypes is not None and not isinstance(dtypes, str) and "promote" in dtypes:
        dialects.append(("dtypes", "promote"))
        dtypes = tuple(name for name in dtypes if name != "promote") or None
    return left, dtypes, tuple(dialects)


def _dtypes(where: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise AdapterError(f"{where}: dtypes={names!r}, expected a tuple of names", f"dtypes=({names!r},)")
    for name in names:
        if name not in DTYPES:
            raise AdapterError(
                f"{where}: there is no dtype {name!r}; dtypes are {', '.join(DTYPES)}",
                closest(str(name), DTYPES),
            )
    if not names:
        raise AdapterError(f"{where}: dtypes=(), expected at least one", 'dtypes=("float64",)')
    return tuple(names)


def _has_bfloat16() -> bool:
    """Import ml_dtypes if it is there: NumPy knows bfloat16, by its name too, from then on."""
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        return False
    return True


def _parse_layouts(
    where: str,
    input: str | None,
    weight: str | None,
    bias: str | None,
    columns: str | None,
    output: str | None,
) -> dict[str, Layout]:
    patterns = {"input": input, "weight": weight, "bias": bias, "columns": columns, "output": output}
    layouts = {}
    for kind, pattern in patterns.items():
        if pattern is not None:
            try:
                layouts[kind] = _LAYOUT_KINDS[kind].parse(pattern)
            except AdapterError as error:
                raise AdapterError(f"{where}: {kind} {error.message}", error.hint) from None
    return layouts


def _layouts_of(where: str, operator: Operator, given: Mapping[str, Layout]) -> Mapping[str, Layout]:
    """Layouts of all arrays of an operator: the given ones at its rank, else the canonical ones."""
    layouts = {}
    for name, pattern in (operator.inputs | operator.outputs).items():  # type: ignore[operator]
        array_axes = tuple(pattern.split())
        kind = LAYOUT_OF[name]
        if kind in given:
            # Channels of an output are written o; a pooling operator calls them c.
            layout = given[kind] if "o" in array_axes or kind != "output" else given[kind].renamed({"o": "c"})
        elif kind == "output" and "input" in given:
            layout = given["input"].renamed(_output_names(operator))
        elif kind == "columns":
            layout = Layout.parse(axes(_COLUMNS, operator.rank), array_axes)
        else:
            layout = Layout.parse(pattern, array_axes)
        layout = layout.restricted_to(array_axes)
        lost = [axis for axis in layout.absent if axis not in ("n", "c", "o", "i")]
        if lost:
            raise AdapterError(
                f"{where}: {kind} layout {layout.pattern!r} has no axis {lost[0]!r}, along which "
                f"{operator.name} slides its window",
                f"name every spatial axis, as in {pattern!r}",
            )
        layouts[name] = layout
    return MappingProxyType(layouts)


def _output_names(operator: Operator) -> dict[str, str]:
    """How the axes of an input are called in the output of the same operator."""
    names = {axis: "o" + axis for axis in SPATIAL_AXES[operator.rank]}
    if not operator.is_pooling:
        names["c"] = "o"
    return names


def _check_claims(where: str, operator: Operator, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Check that every claim and its value exist and mean something for the operator."""
    known = (*CLAIM_VALUES, "indices", "default_stride")
    for name, value in claims.items():
        if name not in known:
            raise AdapterError(
                f"{where}: there is no claim {name!r}; claims are {', '.join(known)}, dtypes",
                closest(name, known),
            )
        if name in ("indices", "default_stride"):
            if not isinstance(value, bool):
                raise AdapterError(f"{where}: {name}={value!r}, expected True or False")
            if name == "indices" and value and name not in operator.outputs:
                raise AdapterError(f"{where}: indices=True, but only max pooling returns indices")
        elif value not in CLAIM_VALUES[name]:
            options = ", ".join(map(repr, CLAIM_VALUES[name]))
            raise AdapterError(
                f"{where}: {name}={value!r}, expected one of {options}",
                closest(str(value), CLAIM_VALUES[name]),
            )
    return dict(claims)


def _check_claims_are_taken(
    where: str, operator: Operator, claims: Mapping[str, Any], takes: frozenset[str]
) -> None:
    """Refuse a claim about a parameter that the wrapper does not take: it is a slip."""
    for name in claims:
        parameter = {"max_padding": "padding", "default_stride": "stride"}.get(name, name)
        if name == "kernel" and "w" in takes:
            continue  # the kernel of a convolution is in its weights
        if parameter in PARAMETERS and parameter not in takes:
            has = parameter in operator.parameters
            raise AdapterError(
                f"{where}: claims {name}={claims[name]!r}, but "
                + (f"the wrapper takes no {parameter!r}" if has else f"{operator.name} has no {parameter!r}"),
                f"add {parameter!r} to the wrapper's parameters, or leave the claim out" if has else None,
            )


def _takes(where: str, operator: Operator, function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """Read a wrapper's signature: what it takes, and whether calls without a bias are claimed."""
    if not callable(function):
        raise AdapterError(f"{where} is {function!r}, expected a function")
    if inspect.isclass(function):
        raise AdapterError(
            f"{where} is the class {function.__name__}, expected a function",
            "write a function that builds the layer and returns what its forward returns",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise AdapterError(
            f"{where} does not tell its parameters", "wrap it in a function that names them"
        ) from None
    # functools.partial still lists what it binds by keyword; that is not for the judge to pass.
    bound = set(function.keywords) if isinstance(function, functools.partial) else set()
    parameters = {name: value for name, value in signature.parameters.items() if name not in bound}
    allowed = (*operator.inputs, *operator.parameters)
    if operator.is_pooling and operator.is_gradient:
        allowed = (*allowed, "input_size")
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise AdapterError(
                f"{where} takes {stars}{name}, expected named parameters",
                f"parameters are {', '.join(allowed)}",
            )
        if name not in allowed:
            elsewhere = name in PARAMETERS or name in LAYOUT_OF
            raise AdapterError(
                f"{where} takes {name!r}, which "
                + (f"{operator.name} does not have" if elsewhere else "is no parameter of the standard")
                + f"; {operator.name} has {', '.join(allowed)}",
                closest(name, allowed),
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise AdapterError(
                f"{where} takes {name!r} by position only, expected a parameter that can be passed by name",
                "remove the '/' from its signature",
            )
    takes = frozenset(parameters)
    for name in _required(operator):
        if name not in takes and not (name in operator.row.for_shape and "input_size" in takes):
            raise AdapterError(f"{where} does not take {name!r}, without which {operator.name} means nothing")
    bias_optional = "b" in operator.inputs and ("b" not in takes or parameters["b"].default is None)
    return takes, bias_optional


def _required(operator: Operator) -> tuple[str, ...]:
    """Names without which the operator cannot be called: all arrays but the bias, and what has no default."""
    arrays = [name for name in operator.inputs if name != "b"]
    return (*arrays, *(name for name in operator.parameters if PARAMETERS[name].default is None))
