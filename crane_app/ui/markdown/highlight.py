"""The colours of code, found by Pygments when a block is complete, a few signs at a time.

A language's rules take long to prepare, so that happens once and on another thread; reading the code is done in
slices (ui/slices.py). Long code, code with long lines and languages not listed here stay in the text's colour.
"""

from collections.abc import Generator, Iterator
from typing import Any

from PySide6.QtWidgets import QWidget

from crane_app.ui.slices import slices
from crane_app.ui.worker import Worker

LONGEST = 50_000  # characters of code
LONGEST_LINE = 1000
STEP = 150  # tokens read at once

# What people write behind the fence, and the languages of Pygments that are known to read in small steps.
LANGUAGES = frozenset(
    {
        *("ada", "asm", "awk", "bash", "bat", "batch", "c", "c#", "c++", "clojure", "cmake", "cpp", "cs", "csharp"),
        *("css", "cuda", "dart", "diff", "docker", "dockerfile", "elixir", "erlang", "fortran", "go", "golang"),
        *("graphql", "haskell", "hs", "html", "ini", "java", "javascript", "jl", "js", "json", "jsx", "julia"),
        *("kotlin", "latex", "lisp", "llvm", "lua", "make", "makefile", "nasm", "nginx", "nix"),
        *("objective-c", "perl", "php", "pl", "powershell", "prolog", "ps1", "py", "python", "python3", "r", "rb"),
        *("rs", "ruby", "rust", "scala", "scheme", "scss", "sh", "shell", "solidity", "sql", "swift", "tcl", "tex"),
        *("toml", "ts", "typescript", "vb.net", "verilog", "vhdl", "vim", "xml", "yaml", "yml", "zig", "zsh"),
    }
)

# Token types of Pygments to fields of theme.Colours; what is not here takes after the type above it.
ROLES = {
    "Token.Keyword": "code_word",
    "Token.Keyword.Type": "code_type",
    "Token.Keyword.Constant": "code_number",
    "Token.Operator.Word": "code_word",
    "Token.Name.Function": "code_name",
    "Token.Name.Class": "code_name",
    "Token.Name.Builtin": "code_type",
    "Token.Name.Exception": "code_type",
    "Token.Name.Decorator": "code_name",
    "Token.Name.Tag": "code_word",
    "Token.Name.Attribute": "code_name",
    "Token.Literal.String": "code_text",
    "Token.Literal.Number": "code_number",
    "Token.Literal.Date": "code_number",
    "Token.Comment": "code_note",
    "Token.Generic.Heading": "code_name",
    "Token.Generic.Subheading": "code_name",
    "Token.Generic.Inserted": "code_text",
    "Token.Generic.Deleted": "danger",
}

_ready: dict[str, Any] = {}  # languages to their readers
_waiting: dict[str, list["Colouring"]] = {}  # languages under preparation to what waits for them


class Colouring:
    """Colours one block of code; `code` is asked for its text and given the colours of its rows."""

    def __init__(self, view: QWidget, code: Any):
        self._view, self._code = view, code
        self._spans: dict[int, list[tuple[int, int, str]]] = {}

    def start(self) -> None:
        """Begin as soon as the language's rules are there; nothing where the code is better left as it is."""
        name = self._code.language.lower()
        if name not in LANGUAGES or self._code.length() > LONGEST:
            return
        self._text = self._code.text()
        if max(map(len, self._text.split("\n"))) > LONGEST_LINE:
            return
        if name in _ready:
            self._read(name)
        elif name in _waiting:
            _waiting[name].append(self)
        else:
            _waiting[name] = [self]
            worker = Worker(_prepare(name))
            worker.returned.connect(lambda reader: _prepared(name, reader))
            worker.ended.connect(lambda: _waiting.pop(name, None))  # cancelled or failed: the next block tries again
            worker.start()

    def _read(self, name: str) -> None:
        self._tokens: Iterator[tuple[int, Any, str]] = _ready[name].get_tokens_unprocessed(self._text)
        slices().ask(self._view, f"colours {id(self)}", self._read_on)

    def _read_on(self) -> int:
        """A step: some tokens; what they cost, 0 at the end."""
        cost = 0
        for _ in range(STEP):
            token = next(self._tokens, None)
            if token is None:
                return self._end()
            place, kind, text = token
            cost += len(text)
            role = _role(kind)
            if role and text.strip():
                self._mark(place, text, role)
        return max(1, cost)

    def _mark(self, place: int, text: str, role: str) -> None:
        for line in text.split("\n"):
            row, at = self._code.row_of(place)
            if line.strip():
                self._spans.setdefault(row, []).append((at, len(line), role))
            place += len(line) + 1

    def _end(self) -> int:
        for row, spans in self._spans.items():
            self._code.colour(row, spans)
        self._view.update()
        return 0


def _prepare(name: str) -> Generator[None, None, Any]:
    from pygments.lexers import get_lexer_by_name

    yield
    return get_lexer_by_name(name)


def _prepared(name: str, reader: Any) -> None:
    _ready[name] = reader
    for colouring in _waiting.pop(name):
        colouring._read(name)


def _role(kind: Any) -> str:
    while kind is not None:
        if role := ROLES.get(str(kind)):
            return role
        kind = kind.parent
    return ""
