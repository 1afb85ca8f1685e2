"""One block of Markdown to markdown-it's tokens, without anything that could open, load or hide something.

CommonMark with tables, strikethrough and bare web addresses, without definitions of links. HTML is text, a picture is
its words and its address, a link leads to http, https or mailto or is no link. Formulas stay as they are written. What
would take long to parse or is nested too deep is shown as it is written: see `is_plain`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from crane_app.media.blocks import Block, dedent

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

SCHEMES = ("http:", "https:", "mailto:")
DEEPEST = 20  # lists and quotes in one another

# Signs that markdown-it's work may grow with the square of, and how many of them a block may have. Measured at
# 4,000 characters: 2,000 brackets take 60 ms, so many as here less than 5.
_COSTLY = tuple((re.compile(signs), most) for signs, most in ((r"[\[\]]", 500), (r"[*_~<|]", 1000), ("`", 400)))
_RULE = re.compile(r"[ \t]*([-*_])[ \t]*(?:\1[ \t]*){2,}\Z")
_CONTAINERS = re.compile(r"(?:[ \t>*+-]|\d{1,9}[.)](?=[ \t]))*")
_WEB = re.compile(r"https?://[^\s<>\"`]+")
_FORMULA = re.compile(r"\$\$[^$\n]+\$\$|\$(?=[^\s$])[^$\n]*(?<=[^\s\\])\$(?!\d)|\\\([^\n]*?\\\)|\\\[[^\n]*?\\\]")


def parse(block: Block) -> list[Token]:
    """The tokens of a block of prose or a table; none for one that is blank."""
    if block.inline:
        return _parser().parseInline(block.source)
    tokens = _parser().parse(block.head + dedent(block.source, block.indent))
    if block.number is not None and tokens and tokens[0].type == "ordered_list_open":
        tokens[0].attrs["start"] = block.number
    return tokens


def is_plain(block: Block) -> bool:
    """Whether a block is better shown as it is written than parsed."""
    if any(sum(1 for _ in signs.finditer(block.source)) > most for signs, most in _COSTLY):
        return True
    return not block.inline and any(_depth(line) > DEEPEST for line in block.source.split("\n"))


def closed(block: Block) -> Block:
    """A block of prose that is still arriving, with the emphasis or code closed that it ends in."""
    start = block.source.rfind("\n") + 1
    line, before = block.source[start:], block.source[:start]
    for mark in ("`", "**", "~~"):
        if line.count(mark) % 2:
            bare = line.removesuffix(mark)
            line = bare if bare != line else line.rstrip() + mark
            break
    return replace(block, source=before + line)


def is_safe(address: str) -> bool:
    """Whether a link may lead there."""
    return address.lower().startswith(SCHEMES)


def shown_address(address: str) -> str:
    """An address with nothing in it that hides where it leads: signs that are not plain are percent-encoded."""
    from urllib.parse import quote

    return quote(address.encode("utf-8", "replace"), safe="!#$%&'()*+,/:;=?@[]~")


def _depth(line: str) -> int:
    """The most lists and quotes that a line can be in, judged by what it begins with."""
    start = _CONTAINERS.match(line)
    prefix = start[0].expandtabs(4) if start and not _RULE.match(line) else ""
    return prefix.count(">") + len(prefix.replace(">", "")) // 2 if len(prefix) > DEEPEST else 0


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": 8 * DEEPEST})
    made.enable(["table", "strikethrough"]).disable(["html_block", "html_inline", "reference"])
    made.validateLink = is_safe  # type: ignore[assignment]
    made.inline.ruler.before("escape", "formula", _formula)
    made.core.ruler.push("addresses", _link_addresses)
    return made


def _formula(state: Any, silent: bool) -> bool:
    """A rule of markdown-it: a formula is text, whatever signs are in it."""
    if state.src[state.pos] not in "$\\":
        return False
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.pending += found[0]
    state.pos = found.end()
    return True


def _link_addresses(state: Any) -> None:
    """A rule of markdown-it: web addresses in the text are links, as GitHub has it."""
    for token in state.tokens:
        if token.type == "inline" and "://" in token.content:
            token.children = list(_with_links(token.children))


def _with_links(children: list[Token]) -> Any:
    linked = 0
    for child in children:
        linked += child.nesting if child.type in ("link_open", "link_close") else 0
        if linked or child.type != "text":
            yield child
        else:
            yield from _split_at_addresses(child)


def _split_at_addresses(text: Token) -> Any:
    from markdown_it.token import Token

    start = 0
    for found in _WEB.finditer(text.content):
        address = _trimmed(found[0])
        yield Token("text", "", 0, content=text.content[start : found.start()])
        yield Token("link_open", "a", 1, attrs={"href": _parser().normalizeLink(address)}, info="auto")
        yield Token("text", "", 0, content=address)
        yield Token("link_close", "a", -1)
        start = found.start() + len(address)
    yield Token("text", "", 0, content=text.content[start:])


def _trimmed(address: str) -> str:
    """Without what more likely belongs to the sentence than to the address (GFM 6.9)."""
    while address and (
        address[-1] in "?!.,:*_~'\";" or (address[-1] == ")" and address.count(")") > address.count("("))
    ):
        address = address[:-1]
    return address
