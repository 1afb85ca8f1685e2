"""Running a chat template that came with a model: what it may call, how long it may run, how much it may make.

The language is the one of transformers' apply_chat_template (transformers 5.23, utils/chat_template_utils.py).
Nothing interrupts a thread from outside on every system, so the template is rewritten after parsing: each turn
of a loop, each call, each filter and each output looks at the clock and at the size of what it makes.
Knows nothing of messages; what a person typed comes in as `Typed`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import do_join
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from crane_app.media.typed_text import TYPED, Typed, mark, plain, unmark

WIDTH = 10_000  # columns a filter or method may be asked to fill
BITS = 4096  # of a whole number
# A width or precision that is long, or given by another argument: "%*d", "{:{}}".
WIDE = re.compile(r"%(\([^)]*\))?[-+ #0]*(\d*\.)?(\d{5,}|\*)|\{[^{}]*:[^{}]*(\d{5,}|\{)")
FILLS = frozenset({"batch", "center", "expandtabs", "indent", "ljust", "rjust", "slice", "tojson", "wordwrap"})
FILLS |= {"zfill"}
# Filters that hand a list on or pick from it; all others may have to spell what they are given.
PICKS = frozenset({"attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "join"})
PICKS |= {"last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr", "reverse"}
PICKS |= {"select", "selectattr", "slice", "sort", "unique"}


class Refused(jinja2.TemplateError):
    """The template's own raise_exception: it does not take these messages."""


class TooMuch(jinja2.TemplateRuntimeError):
    """The template takes more time or room than any chat needs."""


@dataclass
class Run:
    """One rendering. limit: characters of the result. marked: typed text is `Typed`."""

    limit: int
    seconds: float
    now: datetime
    marked: bool
    deadline: float
    written: int = 0


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles templates and runs them; safe to share between threads."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
        self._threads = threading.local()
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _refuse, "strftime_now": self._strftime_now}
        self.globals |= {"dict": Dict(), "namespace": TemplateNamespace}
        filters = {**self.filters, "tojson": self._to_json, "join": self._join}
        self.filters = {name: self._guarded(name, function) for name, function in filters.items()}
        # Names with a space are no template's to call.
        self.filters |= {"the text": self._text, "the parts": self._concat, "the weight": self._weighed}

    def run(
        self,
        template: jinja2.Template,
        variables: Mapping[str, Any],
        limit: int,
        seconds: float,
        now: datetime,
        marked: bool,
    ) -> str:
        """The rendered text, at most `limit` characters; raises Refused, TooMuch and whatever jinja2 does."""
        self._threads.run = Run(limit, seconds, now, marked, time.monotonic() + seconds)
        try:
            pieces, size = [], 0
            for piece in template.generate(variables):
                size += len(piece)
                self.fits(size)
                pieces.append(piece)
            return "".join(pieces)
        finally:
            del self._threads.run

    def tick(self) -> Run:
        """The rendering under way on this thread; raises TooMuch when its time is up."""
        run: Run = self._threads.run  # none while compiling: jinja2 then leaves a filter to the rendering
        if time.monotonic() > run.deadline:
            raise TooMuch(f"has not finished after {run.seconds:.3g} seconds")
        return run

    def fits(self, size: int) -> None:
        if size > self._threads.run.limit:
            raise TooMuch(f"makes more than {self._threads.run.limit:,} characters")

    def weigh(self, *values: Any) -> None:
        """Raises TooMuch when these values would be too long, spelled; nested lists may share their parts."""
        size, left = 0, list(values)
        while left:
            value = left.pop()
            size += len(value) if isinstance(value, str) else 1
            if isinstance(value, Mapping):
                left += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset):
                left += value
            self.fits(size + len(left))

    def checked(self, value: Any) -> Any:
        """A result; text that has lost its type on the way (in a macro, a join) is `Typed` again."""
        if not isinstance(value, str):
            return value
        self.fits(len(value))
        if type(value) is str and self._threads.run.marked and not value.isascii() and TYPED.search(value):
            return Typed(unmark(value), value)
        return value

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        __self.tick()
        bound = getattr(__obj, "__wrapped__", __obj)  # jinja2 wraps str.format
        owner = getattr(bound, "__self__", None)
        if isinstance(owner, str):
            if bound.__name__ == "join" and args:
                args = (list(args[0]), *args[1:])
            __self._foresee(bound.__name__, [owner, *args, *kwargs.values()])
        return __self.checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.tick()
        match operator, left, right:
            case "+", str() | list() | tuple(), str() | list() | tuple():
                self.fits(len(left) + len(right))
            case "*", str() | list() | tuple(), int():
                self.fits(len(left) * right)
            case "*", int(), str() | list() | tuple():
                self.fits(left * len(right))
            case "*", int(), int() if left.bit_length() + right.bit_length() > BITS:
                raise TooMuch("makes a number that is too long")
            case "**", int(), int() if left.bit_length() * right > BITS:
                raise TooMuch("makes a number that is too long")
            case "%", str(), _:
                self._foresee("format", [left, right])
        return self.checked(super().call_binop(context, operator, left, right))

    def _foresee(self, name: str, values: list[Any]) -> None:
        """Refuses what would be too large to be measured afterwards."""
        if name in FILLS and any(isinstance(value, int) and value > WIDTH for value in values[1:]):
            raise TooMuch(f"asks {name} for more than {WIDTH:,} columns")
        if name in ("format", "format_map") and WIDE.search(plain(values[0])):
            raise TooMuch("formats with a width that is too large or not known beforehand")
        if name == "join":
            separator, parts = values[:2]
            self.weigh(parts)
            self.fits(len(separator) * len(parts))
        elif name == "replace":
            text, old, new = (str(value) for value in values[:3])
            self.fits(len(text) + text.count(old) * len(new))
        elif name not in PICKS:
            self.weigh(*values)

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        context = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            values = [*args[context:], *kwargs.values()]
            if name == "replace" and not isinstance(values[0], str):
                self.weigh(*values)
            if name != "join":
                self._foresee(name, values)
            return self.checked(function(*args, **kwargs))

        return guarded

    @jinja2.pass_eval_context
    def _join(self, context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
        parts = list(value)
        self._foresee("join", [str(d), parts])
        return str(do_join(context, parts, d, attribute))

    def _to_json(
        self,
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        def dump(value: Any, ensure_ascii: bool) -> str:
            return json.dumps(
                value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
            )

        if not (ensure_ascii and self._threads.run.marked):
            return dump(x, ensure_ascii)
        return "".join(map(_escaped, dump(x, False)))

    def _strftime_now(self, format: str) -> str:
        return self.tick().now.strftime(plain(format))

    # What the rewritten template calls; `pass_context` keeps jinja2 from calling it while compiling.

    @jinja2.pass_context
    def _text(self, context: Context, value: Any) -> Any:
        run = self.tick()
        self.weigh(value)
        text = value if isinstance(value, str) else str(value)
        run.written += len(text)
        self.fits(run.written // 4)  # what macros and blocks write is written again by whoever prints it
        return self.checked(text)

    @jinja2.pass_context
    def _concat(self, context: Context, values: list[Any]) -> str:
        self.tick()
        self.weigh(values)
        return str(self.checked("".join(map(str, values))))

    @jinja2.pass_context
    def _weighed(self, context: Context, value: Any) -> Any:
        if isinstance(value, Mapping | list | tuple):
            self.weigh(value)
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        Guards().visit(tree)
        tree.set_environment(self)
        return tree


class Guards(NodeTransformer):
    """Puts the sandbox's own filters and calls where a template loops, joins, compares and prints."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        call = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        node.nodes = [_through("the text", child) for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _through("the parts", nodes.List(node.nodes, lineno=node.lineno))

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "the text", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _through("the weight", node.expr)
        for operand in node.ops:
            operand.expr = _through("the weight", operand.expr)
        return node


class Generation(Extension):
    """`{% generation %}`, which marks what the assistant says for training; here it prints what is in it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_spoken"), [], [], body, lineno=line)

    def _spoken(self, caller: Callable[[], str]) -> str:
        return caller()


class Dict:
    """`dict` for templates: callable, and nothing else to be reached through it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a template may name an attribute `self`
        for name in dict(*args[1:], **kwargs):
            _public(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: str) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"stores {name} on a namespace, whose names may not begin with an underscore")


def _refuse(message: Any) -> None:
    raise Refused(str(plain(message)))


def _escaped(character: str) -> str:
    """As JSON writes it in ASCII; what was typed stays marked."""
    typed = unmark(character)
    escaped = character if typed.isascii() else json.dumps(typed)[1:-1]
    return escaped if typed == character else mark(escaped)


def _through(name: str, node: nodes.Expr) -> nodes.Expr:
    """The expression, passed through one of the sandbox's own filters; constants need no weighing."""
    if name == "the weight" and isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
