"""What a voice should say of a text: its sentences, without the signs that only an eye needs.

Plain text and Markdown (CommonMark with tables and strikethrough). Each sentence keeps its place in the source, so that
it can be marked there while it is heard.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crane_app.media.sentences import Sentence, sentences

if TYPE_CHECKING:
    from markdown_it.token import Token

CODE = "Code block."  # what is said in place of one


def script(text: str, markdown: bool = False, code: str = CODE) -> list[Sentence]:
    """The sentences to say of a text; code: what is said for a block of Markdown's code, "" for nothing.

    They are in order. Only where the place of words in Markdown is not known exactly, two may have the same one.
    """
    found = _marked_up(text, code) if markdown else iter(sentences(text))
    said = (Sentence(sentence.start, sentence.end, spoken(sentence.text)) for sentence in found)
    return [sentence for sentence in said if _audible(sentence.text)]


_URL = re.compile(
    r"\b(?:https?|ftp)://(?:[^\s/@]*@)?([^\s/?#:<>\"'()]+)[^\s<>\"']*?(?=[.,;:!?)\]]*(?:[\s<>\"']|$))", re.I
)
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad][ \t]*\r?\n\s*(?=[^\W\d_])")
_RULE = re.compile(r"([^\w\s.!?])\1{2,}")
_BULLET = re.compile(r"(?:(?:[-*+•‣◦–—>]|#{1,6})\s+)?(?:\[[ xX]\]\s+)?")


def spoken(words: str) -> str:
    """One sentence as it is said: addresses by their host, no bullets and ruled lines, one space between words."""
    words = _URL.sub(lambda found: found[1].removeprefix("www."), words)
    words = _HYPHEN.sub("", words)
    words = _RULE.sub(" ", _BULLET.sub("", words, count=1))
    return " ".join(words.split())


def looks_like_markdown(text: str) -> bool:
    """Whether a text without a file name seems to be Markdown: a guess from what its first 20,000 signs contain."""
    return _MARKDOWN.search(text[:20_000]) is not None


_MARKDOWN = re.compile(
    # The words and the address of a link have an end, so that a text of brackets alone takes no time.
    r"^(?:```|~~~|#{1,6} \S|\|.+\|[ \t]*$)|\*\*[^\s*][^*\n]*\*\*"
    r"|\[[^\[\]\n]{1,500}\]\([^)\s]{1,500}\)|(?<!`)`[^`\n]+`(?!`)",
    re.M,
)


def _audible(words: str) -> bool:
    """Whether a voice would make a sound of it: a letter, a digit, or a sign with a name, like an emoji."""
    return any(sign.isalnum() or unicodedata.category(sign) in ("So", "Sc", "Sm") for sign in words)


# Markdown.


class _Passage:
    """Words of one block, and where in the source each of their signs stands."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.at: list[int] = []

    def add(self, words: str, at: int, together: bool = False) -> None:
        """Words that begin at `at` of the source; together: all of them stand for what is there."""
        self.words.append(words)
        self.at += [at] * len(words) if together else range(at, at + len(words))

    def sentences(self) -> Iterator[Sentence]:
        for found in sentences("".join(self.words)):
            yield Sentence(self.at[found.start], self.at[found.end - 1] + 1, found.text)


class _Finder:
    """Finds a block's words in the source: the parser tells only lines, but the words come in order, as they are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer(r"\r\n?|\n", text)), len(text), len(text)]
        self.place = self.end = 0

    def enter(self, lines: list[int]) -> None:
        """Go on in a block of these lines, first and last past the end."""
        self.place, self.end = max(self.place, self._lines[lines[0]]), self._lines[lines[1]]

    def block(self, words: str) -> Iterator[Sentence]:
        """The whole block as one sentence that says `words`."""
        end = self.place + len(self._text[self.place : self.end].rstrip())
        if words and end > self.place:
            yield Sentence(self.place, end, words)

    def inline(self, tokens: list[Token], passage: _Passage) -> None:
        """Add the words of these tokens."""
        links: list[bool] = []
        for token in tokens:
            if token.type in ("softbreak", "hardbreak"):
                passage.add(" " if token.type == "softbreak" else "\n\n", self.place, together=True)
            elif token.type == "html_inline":
                passage.add(" ", self._find_or_here(token.content), together=True)
            elif token.type == "link_open":
                links.append(token.markup == "autolink")
            elif token.type == "link_close":
                self._pass_address(written=not links.pop())
            elif token.type == "image":
                self.inline(token.children or [], passage)
                self._pass_address(written=True)
            elif token.type == "text_special":
                passage.add(token.content, self._find_or_here(token.markup), together=True)
            elif token.content:
                found = self._find(token.content)
                # A cell with an escaped bar, or code that was wrapped within a quote, differs from the source.
                passage.add(token.content, self.place if found is None else found, together=found is None)

    def _find_or_here(self, words: str) -> int:
        found = self._find(words)
        return self.place if found is None else found

    def _find(self, words: str) -> int | None:
        """Where the words come next; a space of theirs may be a line end there, as in code that was wrapped."""
        start = self._text.find(words, self.place, self.end)
        if start < 0:
            pattern = re.compile(re.escape(words).replace("\\ ", r"\s"))
            if (found := pattern.search(self._text, self.place, self.end)) is None:
                return None
            start = found.start()
        self.place = start + len(words)
        return start

    def _pass_address(self, written: bool) -> None:
        """Past the `](address "title")` that follows the words of a link, where one is written."""
        found = _ADDRESS.match(self._text, self.place, self.end) if written else None
        if found:
            self.place = found.end()


_ADDRESS = re.compile(r"[*_~`]*\](?:\((?:<[^<>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s[^)]*)?\)|\[[^\]]*\])?")


def _marked_up(text: str, code: str) -> Iterator[Sentence]:
    """Sentences of Markdown block by block; a table row by row."""
    from markdown_it import MarkdownIt

    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # as the parser does (CommonMark 0.31, 2.3)
    parser = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"]).disable("text_join")
    finder = _Finder(text)
    row: _Passage | None = None
    for token in parser.parse(text):
        if token.map:
            finder.enter(token.map)
        if token.type == "tr_open":
            row = _Passage()
        elif token.type == "tr_close" and row is not None:
            yield from row.sentences()
            row = None
        elif token.type in ("fence", "code_block"):
            yield from finder.block(code)
        elif token.type == "inline":
            passage = row or _Passage()
            if passage.words:
                passage.add(", ", finder.place, together=True)
            finder.inline(token.children or [], passage)
            if row is None:
                yield from passage.sentences()
