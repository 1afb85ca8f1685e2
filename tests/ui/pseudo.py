"""A language that nobody speaks: English with accents, longer by two fifths, in brackets."""

import re

from PySide6.QtCore import QTranslator

ACCENTS = str.maketrans("aeiounycAEIOUNYC", "äéîöüñýçÄÉÎÖÜÑÝÇ")
KEPT = re.compile(r"(\{[^}]*\}|&.|<[^>]*>|%n|%\d)")  # fields, mnemonics, markup: not words
OPEN, CLOSE = "⟦", "⟧"


class Pseudo(QTranslator):
    """Translates everything that goes through tr()."""

    def translate(self, _context, source, _disambiguation=None, _n=-1):
        return pseudo(source) if source else source

    def isEmpty(self) -> bool:
        return False


def pseudo(text: str) -> str:
    parts = KEPT.split(text)
    accented = "".join(part if KEPT.fullmatch(part) else part.translate(ACCENTS) for part in parts)
    return f"{OPEN}{accented}{'~' * round(0.4 * len(text))}{CLOSE}"
