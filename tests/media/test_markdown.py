"""Markdown that arrives in pieces: the same blocks whatever the pieces, nothing lost, nothing that opens anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.media.blocks import MOST, Block, Splitter
from crane_app.media.markdown import closed, is_plain, is_safe, parse, shown_address

ANSWER = """Intro
second line
# Head
1. one

   still one

   ```py
   x = 1
     y
   ```
   after the fence

2. two
   - inside

1. three

| a | b |
|---|:-:|
| 1 | 2 |
not a row

```c

int main;
```
\\[
a
- b
\\]
    indented

    code
~~~~
```
never closed
"""
PIECES = st.text(alphabet=st.sampled_from(list("ab \n#*_-|`~>1.[]()!\\$:<&\t\r汉\u0301")), max_size=200)


def split(text: str, size: int = 10**9) -> list[Block]:
    """The blocks of a text that arrives in pieces of `size`."""
    splitter, found = Splitter(), []
    for start in range(0, len(text), size):
        found += splitter.push(text[start : start + size])
        splitter.tail()
    return found + splitter.tail(final=True)


def words(block: Block) -> str:
    """What a block's tokens say, without marks."""
    found = []
    for token in parse(block):
        for each in token.children or [token]:
            found.append("\n" if each.type in ("softbreak", "hardbreak") else each.content)
    return "".join(found)


def types(text: str) -> list[str]:
    return [child.type for token in parse(Block("prose", text)) for child in token.children or [token]]


def links(text: str) -> list[str]:
    found = [child for token in parse(Block("prose", text)) for child in token.children or []]
    return [str(child.attrs["href"]) for child in found if child.type == "link_open"]


# Blocks


def test_blocks_end_where_one_can_read_on():
    found = [(block.kind, block.source) for block in split(ANSWER)]
    assert [kind for kind, _ in found] == [
        *("prose", "prose", "code", "prose", "prose", "prose"),
        *("table", "prose", "code", "math", "prose", "code"),
    ]
    assert found[0][1] == "Intro\nsecond line\n# Head\n"
    assert found[1][1] == "1. one\n\n   still one\n\n"
    assert found[7][1] == "not a row\n\n"
    assert found[10][1] == "    indented\n\n    code\n"


def test_code_is_what_stands_between_the_fences():
    first, second, third = (block for block in split(ANSWER) if block.kind == "code")
    assert (first.language, first.text, first.indent) == ("py", "x = 1\n  y\n", 3)
    assert (second.language, second.text, second.ends) == ("c", "\nint main;\n", True)
    assert (third.language, third.text, third.ends) == ("", "```\nnever closed\n", False)


def test_numbers_count_on_over_blank_lines_and_code():
    starts = [(block.source[:2], block.number) for block in split(ANSWER) if block.source[:1].isdigit()]
    assert starts == [("1.", None), ("2.", 2), ("1.", 3)]
    third = next(block for block in split(ANSWER) if block.source.startswith("1. three"))
    assert parse(third)[0].attrs["start"] == 3


def test_a_number_in_a_paragraph_begins_no_list():
    first, second = split("The year\n1984. was one\n\n1. first\n")
    assert types(first.source)[0] == "paragraph_open"
    assert second.number is None


def test_what_goes_on_in_an_item_after_code_is_not_taken_for_code():
    after = next(block for block in split(ANSWER) if "after the fence" in block.source)
    assert after.indent == 3
    assert parse(after)[0].type == "paragraph_open"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_the_blocks_are_the_same_whatever_the_pieces(size: int):
    assert split(ANSWER, size) == split(ANSWER)


@given(PIECES, st.integers(1, 9))
def test_no_sign_is_lost_and_none_is_added(text: str, size: int):
    blocks = split(text, size)
    assert "".join(block.source for block in blocks) == text
    assert blocks == split(text)


@given(PIECES)
def test_the_tail_changes_nothing(text: str):
    splitter = Splitter()
    splitter.push(text)
    assert splitter.tail(final=True) == splitter.tail(final=True)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 10_000,
        "x" * 50_000,
        "汉字。" * 9_000,
        "a\u0301" * 20_000,
        "- item\n" * 5_000,
        "1. item\n" * 3_000,
        "".join(f"{'  ' * level}- x\n" for level in range(200)),
        "> quote\n" * 3_000,
        "```\n" + "code\n" * 5_000 + "```\n",
        "```\n" + "c" * 20_000,
        "a|b\n-|-\n" + "c|d\n" * 3_000,
        "\\[\n" + "x + " * 3_000,
        "`" * 20_000,
        "\n" * 10_000,
    ],
)
def test_no_block_is_long(text: str):
    blocks = split(text, 777)
    assert "".join(block.source for block in blocks) == text
    assert max(len(block.source) for block in blocks) <= MOST
    assert len(blocks) < 3 + len(text) / 40


def test_a_long_paragraph_is_cut_after_a_sentence_and_goes_on():
    blocks = split("One sentence of seven words, no more. " * 300)
    assert all(block.source.endswith(". ") for block in blocks)
    assert [block.begins for block in blocks] == [True, *[False] * (len(blocks) - 1)]
    assert blocks[1].inline


def test_what_begins_in_the_middle_of_a_line_is_no_heading():
    blocks = split("x" * MOST + "# not a heading")
    assert [token.type for token in parse(blocks[-1])] == ["inline"]


def test_a_long_list_is_cut_between_items_and_keeps_its_numbers():
    blocks = split("".join(f"1. {'word ' * 20}\n" for _ in range(100)))
    assert len(blocks) > 1
    counted = 1
    for block in blocks:
        assert block.source.startswith("1. ")
        assert parse(block)[0].attrs.get("start", 1) == counted
        counted += block.source.count("\n")
    assert counted == 101


def test_a_long_table_is_cut_between_rows_that_all_know_the_header():
    blocks = split("| a | b |\n|--:|---|\n" + "".join(f"| {i} | x |\n" for i in range(100)))
    assert {block.kind for block in blocks} == {"table"}
    assert blocks[1].head == "| a | b |\n|--:|---|\n"
    tokens = parse(blocks[1])
    assert [token.content for token in tokens if token.type == "inline"][:3] == ["a", "b", "30"]
    assert next(token.attrs["style"] for token in tokens if token.type == "td_open") == "text-align:right"


def test_a_table_with_too_many_columns_is_shown_as_it_is_written():
    row = "|" + "c|" * 100 + "\n"
    blocks = split(row + "|" + "-|" * 100 + "\n" + row * 50)
    assert {block.kind for block in blocks} == {"prose"}


def test_a_fence_that_is_about_to_close_is_not_shown_as_code():
    splitter = Splitter()
    splitter.push("```\ncode\n``")
    assert splitter.tail()[0].text == "code\n"
    assert splitter.tail(final=True)[0].text == "code\n``"


def test_the_line_below_a_header_is_not_shown_while_it_is_typed():
    splitter = Splitter()
    splitter.push("| a | b |\n|--")
    assert splitter.tail()[0].source == "| a | b |\n"
    splitter.push("|---|")
    assert splitter.tail()[0].kind == "table"


# Tokens


def test_html_is_text():
    assert words(Block("prose", "<b>bold</b>\n\n<script src=x></script>")) == "<b>bold</b><script src=x></script>"


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "file:///dev/zero",
        "data:text/html,x",
        "vbscript:x",
        "/dev/zero",
        "//server/share",
        "smb://x",
    ],
)
def test_a_link_to_anywhere_else_is_text(address: str):
    assert links(f"[a]({address}) <{address}> ![p]({address})") == []
    assert address in words(Block("prose", f"[a]({address})"))
    assert not is_safe(address)


def test_links_to_the_web_and_to_mail_are_links():
    text = "[a](https://example.org/x) <http://example.org> [m](mailto:a@example.org) https://example.org/(y)."
    assert links(text) == [
        "https://example.org/x",
        "http://example.org",
        "mailto:a@example.org",
        "https://example.org/(y)",
    ]


def test_an_address_in_code_or_in_a_link_is_not_linked_again():
    assert links("`https://example.org` [https://example.org](https://example.com)") == ["https://example.com"]


@pytest.mark.parametrize("formula", ["$a_1 * b_2 * c_1$", r"\(x_1 * y * z_2\)", r"\[ a_1 [b](c) \]", "$$x_1 * y * z$$"])
def test_a_formula_stays_as_it_is_written(formula: str):
    assert words(Block("prose", f"before {formula} after")) == f"before {formula} after"


def test_prices_are_no_formula():
    assert "em_open" in types("It costs $5 or *maybe* $10 a piece")


def test_an_address_shows_what_it_hides():
    assert shown_address("https://example.org/\u202egpj.exe") == "https://example.org/%E2%80%AEgpj.exe"
    assert links("[a](https://exämple.org/ö)") == ["https://xn--exmple-cua.org/%C3%B6"]


@pytest.mark.parametrize(
    "source",
    ["[" * 4000, "![" * 2000, "*a **b " * 500, "<" * 4000, "`` ` " * 800, "> " * 30 + "x", "- " * 30 + "x", ">" * 30],
)
def test_what_would_take_long_or_go_deep_is_left_as_it_is_written(source: str):
    assert is_plain(Block("prose", source))


@pytest.mark.parametrize("source", ["* * * * * * * * * * * * * * * * * * * * * * * * *", "-" * 100, ANSWER])
def test_ordinary_text_is_parsed(source: str):
    assert not is_plain(Block("prose", source))


def test_nothing_is_dropped_at_the_greatest_depth():
    for mark in ("> ", "- ", "1. "):
        assert words(Block("prose", mark * 19 + "deep inside")).endswith("deep inside")


@pytest.mark.parametrize(
    ("arrived", "shown"),
    [
        ("a **bold", "a **bold**"),
        ("a **bold ", "a **bold**"),
        ("a **", "a "),
        ("a `code", "a `code`"),
        ("a `co**de", "a `co**de`"),
        ("a **bold** word", "a **bold** word"),
        ("**open\nnext ~~line", "**open\nnext ~~line~~"),
        ("plain", "plain"),
    ],
)
def test_what_is_open_is_closed_while_it_arrives(arrived: str, shown: str):
    assert closed(Block("prose", arrived)).source == shown
