"""What Linux desktops and shops read, the icons, and the scripts' own words."""

from __future__ import annotations

import configparser
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.packaging.conftest import FOLDER

ENTRY = FOLDER / "linux" / "crane.desktop"
METAINFO = FOLDER / "linux" / "app.crane.Crane.metainfo.xml"


def test_the_menu_entry_opens_files_in_the_window() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ENTRY, "utf-8")
    entry = parser["Desktop Entry"]
    assert entry["Exec"] == "crane app %F"
    assert entry["Terminal"] == "false"
    assert {"image/png", "application/pdf"} <= set(entry["MimeType"].split(";"))


def test_the_menu_entry_is_found_by_the_window() -> None:
    source = (FOLDER.parent / "crane_app" / "ui" / "app.py").read_text("utf-8")
    assert f'setDesktopFileName("{ENTRY.stem}")' in source


def test_the_shop_entry_names_the_menu_entry_and_its_types(recipe: ModuleType) -> None:
    root = ElementTree.parse(METAINFO).getroot()
    assert root.findtext("id") == recipe.IDENTITY == METAINFO.name.removesuffix(".metainfo.xml")
    assert root.findtext("launchable") == ENTRY.name
    for kind in root.iterfind("provides/mediatype"):
        assert f"{kind.text};" in ENTRY.read_text("utf-8")


@pytest.mark.parametrize(
    "command",
    [["desktop-file-validate", str(ENTRY)], ["appstreamcli", "validate", "--no-net", str(METAINFO)]],
    ids=lambda command: command[0],
)
def test_the_systems_own_checker_is_content(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hint" not in done.stdout


@pytest.mark.slow
def test_icons_are_drawn_in_every_size(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    # In a process of its own: what it draws with must not meet the tests' own application.
    subprocess.run([sys.executable, str(FOLDER / "icons.py"), str(tmp_path)], check=True)
    icons = script("icons")
    for size in icons.LINUX:
        with Image.open(tmp_path / "hicolor" / f"{size}x{size}" / "apps" / "crane.png") as image:
            assert image.size == (size, size)
            assert image.getpixel((0, 0))[3] == 0  # a rounded corner
            assert image.getpixel((size // 2, size // 6))[3] == 255
    with Image.open(tmp_path / "crane.ico") as image:
        assert {width for width, _ in image.info["sizes"]} == set(icons.WINDOWS)
    data = (tmp_path / "crane.icns").read_bytes()
    assert data[:4] == b"icns"
    assert struct.unpack(">I", data[4:8]) == (len(data),)
    with Image.open(tmp_path / "crane.icns") as image:
        assert {width * scale for width, _, scale in image.info["sizes"]} >= {32, 128, 256, 512, 1024}


@pytest.mark.parametrize("name", ["bundle.py", "smoke.py"])
def test_the_scripts_say_how_they_are_used(name: str) -> None:
    done = subprocess.run([sys.executable, str(FOLDER / name), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
