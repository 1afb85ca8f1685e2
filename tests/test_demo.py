"""The demo reads its page exactly, and says so honestly when it does not."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crane_app import demo
from crane_app.media.reader import Line, Reader

TOOL = Path(__file__).parents[1] / "tools" / "make_demo_picture.py"


def test_the_demo_page_is_read_exactly() -> None:
    out = io.StringIO()
    assert demo.run(out) == 0
    said = out.getvalue()
    assert "exactly right" in said
    assert "north of Lübeck. Come before 6:45" in said
    assert said.rstrip().endswith("the second time.")


def test_a_wrong_letter_is_shown_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    box = ((0.0, 0.0), (900.0, 0.0), (900.0, 20.0), (0.0, 20.0))
    monkeypatch.setattr(Reader, "lines", lambda *_: [Line("Where the crones rest in autumn", box, 1.0)])
    out = io.StringIO()
    assert demo.run(out) == 1
    said = out.getvalue()
    assert "NOT what is on the page" in said
    assert "- Where the cranes rest in autumn" in said
    assert "+ Where the crones rest in autumn" in said


def test_only_white_space_may_differ() -> None:
    out = io.StringIO()
    assert demo._compared("one two\n\nthree\n", "one\ntwo\n\n three", "", out)
    for other in ("one two three", "one two\n\nthre e", "one-two\n\nthree", "onetwo\n\nthree"):
        assert not demo._compared("one two\n\nthree\n", other, "", out)
    assert not demo._compared("a " * 37 + "well-known\n", "a " * 37 + "well- known\n", "", out)


def test_the_demo_prints_on_standard_output_of_the_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "JOBS", [lambda out: bool(print("did it", file=out)) or True])
    assert demo.run() == 0
    assert capsys.readouterr().out == "did it\n"


def test_the_tool_draws_the_page_that_is_shipped(tmp_path: Path) -> None:
    runpy.run_path(str(TOOL))["main"](tmp_path)
    assert (tmp_path / "page.txt").read_bytes() == (demo.FOLDER / "page.txt").read_bytes()
    drawn, shipped = (
        np.asarray(Image.open(folder / "page.png").convert("L")).astype(int) for folder in (tmp_path, demo.FOLDER)
    )
    # Pillow's FreeType may place a letter a little differently from one version to the next.
    assert np.abs(drawn - shipped).mean() < 2
