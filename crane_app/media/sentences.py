"""Plain text into sentences, each with its place in the text. Rules for English, German, French and CJK; no models.

Boundaries follow the spirit of Unicode UAX #29 (sentence boundaries), with lists of abbreviations, and with guesses
about lines: whether a line break is only a wrap, or ends a heading or an item of a list.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 300  # signs; a longer run is cut where one could take a breath
NARROW = 40  # signs; lines that are all shorter are verses, addresses or lists rather than wrapped text


@dataclass(frozen=True)
class Sentence:
    """text: what is said; start, end: where it stands in the whole text, in signs."""

    start: int
    end: int
    text: str


def sentences(text: str) -> list[Sentence]:
    """The sentences of plain text, each exactly text[start:end]; between them is only white space."""
    found: list[Sentence] = []
    for start, end in _passages(text):
        for first, last in _cut(text, start, end):
            found += [Sentence(a, b, text[a:b]) for a, b in _breaths(text, first, last)]
    return found


# Passages: stretches that no sentence crosses.

_LINE = re.compile(r"\S[^\n\r\u2028\u2029\x0b\x0c]*")
_BREAK = re.compile(r"\r\n|[\n\r\u2028\u2029\x0b\x0c]")
_ITEM = re.compile(r"(?:[-*+•‣◦–—]|\(?\d{1,3}[.)]|\(?[A-Za-z][)])(?=\s)|#{1,6}\s|>")


def _passages(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of paragraphs, headings and items, without the white space around them."""
    paragraph: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        first, last = line.start(), line.start() + len(line[0].rstrip())
        if paragraph and len(_BREAK.findall(text, paragraph[-1][1], first)) > 1:
            yield from _unwrapped(text, paragraph)
            paragraph = []
        paragraph.append((first, last))
    yield from _unwrapped(text, paragraph)


def _unwrapped(text: str, lines: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Lines of a paragraph joined where a break is only a wrap."""
    if not lines:
        return
    width = max(end - start for start, end in lines)
    start, above = lines[0][0], lines[0]
    for line in lines[1:]:
        if not _wraps(text[slice(*above)], text[slice(*line)], width):
            yield start, above[1]
            start = line[0]
        above = line
    yield start, above[1]


def _wraps(above: str, below: str, width: int) -> bool:
    """Whether a line of a paragraph `width` signs wide goes on below, since there was no room for the next word."""
    if _ITEM.match(below):
        return False
    if below[0].islower() or above[-1] in ",;-–—(":
        return True
    word = below[:1] if _unspaced(below[0]) else below.split(maxsplit=1)[0]
    room = 0 if _unspaced(below[0]) else 1
    return width >= NARROW and len(above) + room + len(word) > width


def _unspaced(sign: str) -> bool:
    """Whether its script is written without spaces: Thai to Khmer, Chinese, Japanese."""
    return "\u0e00" <= sign <= "\u0eff" or "\u1780" <= sign <= "\u17ff" or "\u2e80" <= sign <= "\ua4cf"


# Sentences within a passage.

_CLOSERS = "\"'”’»›)\\]}」』）】》"
_LATIN = ".!?…؟۔।॥։።"  # and others that a space follows
# A run of stops is tried once, from its first: a million dots take no longer than a million letters.
_STOP = re.compile(rf"[。！？｡]+[{_CLOSERS}]*|(?<![{_LATIN}])[{_LATIN}]++[{_CLOSERS}*_]*+(?:[ \u00a0\u202f]»)?(?=\s|$)")
_WORD = re.compile(r"\S*\Z")
_NEXT = re.compile(r"\s*[\"'“‘„«‹(\[¿¡*_-]*\s*(\w+)")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")
_LEADING = "\"'“‘„«‹([{*_¿¡"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What stands before a name or the rest of a sentence: its full stop never ends one.
NEVER = _words("""
    mr mrs ms dr prof rev hon gen col capt lt sgt maj cmdr gov sen messrs mme mmes mlle mgr mm ft mt st ste vs
    cf viz eg ie al approx dept ed eds resp hr fr frl dipl bzw vgl bspw ggf evtl inkl exkl zzgl hrsg jh mrd sog
    verh éd av
""")
# The same, before a number only; on their own some of them are words.
NUMBERED = _words("""
    no nos nr art fig figs eq eqs sec ch chap vol vols pp abs abb bd kap op tel jan feb mar apr jun jul aug sep
    sept oct nov dec
""")
# What may also be a sentence's last word: it ends one where the next begins with a capital or a sign.
MAYBE = _words("""
    etc inc ltd co corp jr sr bros am pm usw usf dgl ag gmbh cie
""")
# Common first words, which tell the end of a sentence from "U.S. Army".
STARTERS = _words("""
    the a an this that these those it he she we you they there here in on at by for from if when while as but
    and or so no yes his her its our their my your what who why how where after before however der die das ein
    eine er sie es wir ihr ich und aber doch wenn als auch le la les un une il elle nous vous ils elles ce cette
    et mais
""")
MONTHS = _words("""
    januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert
    jahrhunderts kapitel klasse stock platz auflage geburtstag weltkrieg
""")


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges of a passage's sentences, without white space around them."""
    first = start
    for stop in _STOP.finditer(text, start, end):
        if stop.end() < end and _ends(text, first, stop, end):
            yield first, stop.end()
            first = stop.end()
            while text[first].isspace():
                first += 1
    yield first, end


def _ends(text: str, first: int, stop: re.Match[str], end: int) -> bool:
    """Whether a sentence that began at `first` ends at this stop."""
    if stop[0][0] in "。！？｡؟۔।॥։።":
        return True
    after = _NEXT.match(text, stop.end(), min(end, stop.end() + 60))
    follower = after[1] if after else ""
    if follower[:1].islower():
        return False
    if not stop[0].startswith(".") or stop[0].startswith(".."):
        return True
    found = _WORD.search(text[max(first, stop.start() - 40) : stop.start()])
    word = found[0].lstrip(_LEADING) if found else ""
    return not _abbreviates(word, follower, at_start=stop.start() - len(word) <= first)


def _abbreviates(word: str, follower: str, at_start: bool) -> bool:
    """Whether the full stop after `word` belongs to it, with `follower` as the next word."""
    low = word.lower()
    if at_start and len(word) <= 3 and (word.isdigit() or (len(word) == 1 and word.isalpha())):
        return True  # the number of an item
    if low in NUMBERED:
        return follower[:1].isdigit()
    if low in NEVER or low.endswith("str"):
        return True
    if low in MAYBE or low in ("a.m", "p.m"):
        return False
    if word.isdigit():
        return len(word) <= 2 and follower.lower() in MONTHS
    if _DOTTED.search(word):
        return follower.lower() not in STARTERS and bool(follower)
    return len(word) == 1 and word.isalpha() and word != "I"


# Long runs.

_PAUSES = (re.compile(r"[,;:،؛](?=\s)|[、，；：]|\s[–—-](?=\s)"), re.compile(r"(?<=\S)(?=\s)"))


def _breaths(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence in pieces of at most LONGEST signs, cut after a comma, else at a space, else between two letters."""
    while end - start > LONGEST:
        cut = _breath(text, start)
        yield start, cut
        start = cut
        while text[start].isspace():
            start += 1
    yield start, end


def _breath(text: str, start: int) -> int:
    """Where a run that is too long is best cut, not in its first third."""
    limit = start + LONGEST
    for pause in _PAUSES:
        places = [found.end() for found in pause.finditer(text, start + LONGEST // 3, limit)]
        if places:
            return places[-1]
    cut = limit
    while cut > start + LONGEST // 2 and _clings(text[cut], text[cut - 1]):
        cut -= 1
    return cut


def _clings(sign: str, before: str) -> bool:
    """Whether a sign is drawn on or joined to the one before it, so that no cut may part them."""
    joined = unicodedata.category(sign) in ("Mn", "Mc", "Me") or "\U0001f3fb" <= sign <= "\U0001f3ff"
    return joined or "\u200d" in (sign, before)
