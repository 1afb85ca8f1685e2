"""The languages that a script is mostly used for: enough to keep an English voice from spelling out Japanese."""

from __future__ import annotations

import unicodedata
from collections import Counter

# By the first word of a letter's Unicode name; most speakers first, as the tags that voices have.
LANGUAGES = {
    "CJK": ("zh", "cmn"),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "HANGUL": ("ko",),
    "CYRILLIC": ("ru", "uk", "bg"),
    "ARABIC": ("ar", "fa", "ur"),
    "HEBREW": ("he",),
    "GREEK": ("el",),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "BENGALI": ("bn", "as"),
    "GURMUKHI": ("pa",),
    "GUJARATI": ("gu",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "SINHALA": ("si",),
    "THAI": ("th",),
    "ARMENIAN": ("hy",),
    "GEORGIAN": ("ka",),
    "ETHIOPIC": ("am", "ti"),
}
ENOUGH = 300  # letters


def languages(text: str) -> tuple[str, ...]:
    """What a text may be written in, likeliest first; () where its script says nothing, as Latin does."""
    letters = [sign for sign in text[: 4 * ENOUGH] if sign.isalpha()][:ENOUGH]
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in letters)
    if scripts["HIRAGANA"] or scripts["KATAKANA"]:  # Japanese has Chinese letters too
        scripts["HIRAGANA"] += scripts.pop("CJK", 0) + scripts.pop("KATAKANA", 0)
    return LANGUAGES.get(scripts.most_common(1)[0][0], ()) if letters else ()
