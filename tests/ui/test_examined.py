import json
import subprocess
import sys

import pytest

from crane_app.ui import examined


def told(what: str) -> dict:
    command = [sys.executable, "-m", "crane_app.ui.examined", what]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_each_script_is_looked_for_in_the_fonts():
    assert told("fonts").keys() == examined.LETTERS.keys()


def test_a_letter_that_no_font_has_is_found(monkeypatch, qapp):
    # GIVEN a letter that is none
    monkeypatch.setattr(examined, "LETTERS", {"Latin": "a", "nobody's": "\U0010fffd"})
    # THEN it has no font, and the others do
    found = examined.fonts()
    assert found["Latin"]
    assert not found["nobody's"]


@pytest.mark.skipif(sys.platform != "linux", reason="about Linux displays")
def test_a_screen_that_is_not_there_is_a_sentence(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert "no screen" in told("screen")["problem"]


def test_the_phases_of_a_start_are_timed():
    found = told("start")
    assert list(found) == ["Qt's modules", "Qt", "window"]
    assert all(seconds > 0 for seconds in found.values())
