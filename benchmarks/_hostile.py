"""Markdown that is meant to hurt: to open something, to hide something, or to take for ever."""

from __future__ import annotations

ADDRESSES = (
    "file:///dev/zero",
    "file:///etc/passwd",
    "/dev/zero",
    "//server/share/picture.png",
    r"\\server\share\picture.png",
    "http://127.0.0.1:9/picture.png",
    "https://127.0.0.1:9/picture.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "qrc:/picture.png",
    ":/picture.png",
    "javascript:alert(1)",
    "vbscript:x",
    "smb://server/share",
    "ftp://127.0.0.1/x",
    "C:\\Windows\\win.ini",
)
FORMS = (
    "![picture]({0})",
    "![picture](<{0}>)",
    "[link]({0})",
    "<{0}>",
    "{0}",
    "[a][1]\n\n[1]: {0}\n",
    '<img src="{0}">',
    '<a href="{0}">click</a>',
    '<link rel="stylesheet" href="{0}"><style>@import "{0}";</style>',
    '<iframe src="{0}"></iframe><script src="{0}"></script><body background="{0}">',
    "| ![picture]({0}) | <img src='{0}'> |\n|---|---|\n| ![picture]({0}) | {0} |",
    "> - ![picture]({0})",
    "```\n![picture]({0})\n```",
)


def _ladder(deep: int) -> str:
    """A list in a list in a list, each on a line of its own."""
    return "".join(f"{'  ' * min(level, 200)}- x{level}\n" for level in range(deep))


def _table(rows: int, columns: int) -> str:
    def row(number: int) -> str:
        return "|" + "|".join(f"c{number}.{column}" for column in range(columns)) + "|\n"

    return row(0) + "|" + "---|" * columns + "\n" + "".join(map(row, range(1, rows + 1)))


DOCUMENTS: dict[str, str] = {
    "addresses": "\n\n".join(form.format(address) for address in ADDRESSES for form in FORMS),
    "lists in a line": "- " * 10_000 + "end",
    "lists by indentation": _ladder(10_000),
    "quotes": "> " * 10_000 + "end",
    "quotes without spaces": ">" * 10_000 + "end",
    "a megabyte of words": "word " * 200_000,
    "a megabyte without a space": "x" * 1_000_000,
    "a megabyte of Chinese": "汉字" * 170_000,
    "a megabyte in a code line": "```\n" + "x" * 1_000_000 + "\n```",
    "20,000 lines of code": "```python\n" + "value = function(1, 'two')  # three\n" * 20_000 + "```",
    "1,000 rows of 5 cells": _table(1000, 5),
    "a row of 5,000 cells": _table(1, 5000),
    "40 columns": _table(60, 40),
    "200,000 backticks": "`" * 200_000,
    "backticks and spaces": "`` ` " * 40_000,
    "brackets": "[" * 50_000,
    "pictures that never close": "![" * 25_000,
    "links that never close": "[a](" * 12_000,
    "stars": "*a **b " * 7_000,
    "stars and lines": "*_" * 25_000,
    "less than": "<" * 50_000,
    "ampersands": "&#" * 25_000,
    "pipes": "|" * 20_000 + "\n" + "|-" * 10_000 + "\n",
    "5,000 headings": "# heading\n" * 5_000,
    "5,000 items": "- item\n" * 5_000,
    "1,000 fences": "```py\nx = 1\n```\n" * 1_000,
    "both directions": "abc \u202e evil \u202c עברית \u2066 مرحبا \u2069 \u200f \u200e\n\n" * 50,
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u2060f " * 200,
    "marks on marks": ("a" + "\u0301\u0323" * 60 + " ") * 60,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪1️⃣ " * 500,
    "halves of signs": "a\ud800b\udfffc \ud83d end",
    "signs that are not text": "a\x00b\x01\x0b\x0c\x1b[31m\ufdd0\ufdd1\ufffc\u2028\u2029\uffff end",
    "carriage returns": "one\r\ntwo\rthree\n\rfour\r\n\r\n```\r\ncode\r\n```\r\n",
}
