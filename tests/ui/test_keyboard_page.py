"""docs/keyboard.md says every key that the window has, and no other."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "keyboard.md"
EDITING = {"Undo", "Redo", "Cut", "Copy", "Paste", "Select all"}  # as everywhere on the system
ROW = re.compile(r"^\| `(.+)` \| (.+) \|$")


def written() -> set[tuple[str, str, str]]:
    """Area, keys and command of every row under a heading; what is under "By place" no command has."""
    area, rows = "", set()
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ")
        elif (row := ROW.match(line)) and area != "By place":
            rows.add((area, row[1], row[2]))
    return rows


def test_the_page_has_the_keys_of_the_window(enter):
    window = enter("chat, in use")
    window.help.show_shortcuts()
    rows = window.help._dialog.shown()
    shown = {(area, keys, does) for area, does, keys in rows if keys and does not in EDITING}
    window.help._dialog.close()
    if not sys.platform.startswith("linux"):  # other systems have other keys for the same commands
        shown = {(area, keys, does) for area, keys, does in written() if does in {each[2] for each in shown}}
    assert shown == written()
