from __future__ import annotations

import pytest

from crane_app.media.script_language import languages


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Привет, мир", "ru"),
        ("你好，世界", "zh"),
        ("鶴は水の中で眠ります", "ja"),
        ("안녕하세요", "ko"),
        ("مرحبا بالعالم", "ar"),
        ("שלום עולם", "he"),
        ("Γειά σου", "el"),
        ("สวัสดี", "th"),
        ("नमस्ते", "hi"),
        ("Πλάτων, then one word", None),
    ],
)
def test_a_script_tells_its_language(text: str, language: str | None) -> None:
    assert (languages(text) or (None,))[0] == language


@pytest.mark.parametrize("text", ["", "Hello", "Grüße", "12 + 3", "🙂", "\ud800"])
def test_latin_and_signs_tell_nothing(text: str) -> None:
    assert languages(text) == ()
