"""Lines of one paragraph as running text: what becomes of hyphens and spaces where they meet."""

from __future__ import annotations

import re
from collections.abc import Iterable

HYPHENS = "-\u2010"
SOFT_HYPHEN = "\u00ad"
# After these a hyphen stands for a left-out word ("Vor- und Nachteile", "pre- and postwar").
AND_OR = {"und", "oder", "bzw.", "sowie", "and", "or", "to", "et", "ou", "y", "e", "o", "en", "of", "och"}
# Chinese, Japanese and their punctuation, which know no spaces; not Korean.
UNSPACED = re.compile("[\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]")


def joined(lines: Iterable[str]) -> str:
    """Lines of one paragraph as running text.

    A hyphen at the end of a line goes only where a lower-case letter follows; Chinese and Japanese lines meet
    without a space.
    """
    text = ""
    for line in lines:
        line = line.strip()
        text = _met(text, line) if text and line else text or line
    return text


def _met(text: str, line: str) -> str:
    if text.endswith(SOFT_HYPHEN):
        return text[:-1] + line
    if text[-1] in HYPHENS and text[-2:-1].isalnum():
        if line.split()[0].lower() in AND_OR:
            return f"{text} {line}"
        compound = any(sign in text.split()[-1][:-1] for sign in HYPHENS)  # "state-of-the-" keeps its hyphens
        broken = text[-2].isalpha() and line[0].islower() and not compound
        return text[:-1] + line if broken else text + line
    unspaced = UNSPACED.match(text[-1]) and UNSPACED.match(line[0])
    return text + line if unspaced else f"{text} {line}"
