"""The dtype of a processor: measured once, remembered, measured again where what is remembered is not good."""

from __future__ import annotations

import json

import pytest

from crane_app import backends
from crane_app.backends import processor
from crane_app.backends.processor import Measured

torch = pytest.importorskip("torch")
speed = pytest.importorskip("crane_app.backends.torch.speed")
FAST = Measured({"bfloat16": 1.0, "float32": 2.0})
SLOW = Measured({"bfloat16": 2.0, "float32": 1.0})


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """A cache folder that is not there yet, and nothing measured in this process."""
    path = tmp_path / "cache" / "processor.json"
    monkeypatch.setattr(processor, "place", lambda: path)
    speed.measured.cache_clear()
    yield path
    speed.measured.cache_clear()


def test_bfloat16_is_taken_unless_float32_is_faster_by_a_tenth():
    assert FAST.dtype == Measured({"bfloat16": 1.05, "float32": 1.0}).dtype == "bfloat16"
    assert SLOW.dtype == Measured({"bfloat16": 1.2, "float32": 1.0}).dtype == "float32"


def test_a_real_measurement_has_a_time_for_each():
    found = speed.measure()
    assert found.took.keys() == {"bfloat16", "float32"}
    assert all(0 < ms < 10_000 for ms in found.took.values())


@pytest.mark.parametrize("found", [FAST, SLOW])
def test_it_is_measured_once_and_decides(file, monkeypatch, found):
    monkeypatch.setattr(speed, "measure", lambda: found)
    assert backends.choose("torch", "cpu").dtype == found.dtype
    monkeypatch.setattr(speed, "measure", lambda: pytest.fail("measured again"))
    speed.measured.cache_clear()
    assert backends.choose("torch", "cpu").dtype == found.dtype
    assert processor.remembered("torch") == found
    assert backends.foreseen("torch", "cpu").dtype == found.dtype


def test_a_dtype_that_is_asked_for_is_not_measured(monkeypatch, file):
    monkeypatch.setattr(speed, "measure", lambda: pytest.fail("measured"))
    assert backends.choose("torch", "cpu", "float16").dtype == "float16"
    assert not file.exists()


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b"[1]",
        b"{}",
        b'{"another processor": {"bfloat16": 1.0, "float32": 2.0}}',
        {"bfloat16": 1.0},
        {"bfloat16": 1.0, "float32": "quick"},
        {"bfloat16": 1.0, "float32": 0},
        {"bfloat16": float("nan"), "float32": 1.0},
        {"bfloat16": 1.0, "float32": float("inf")},
        7,
    ],
    ids=lambda torn: str(torn)[:20],
)
def test_a_file_that_is_not_good_is_measured_anew(file, monkeypatch, torn):
    file.parent.mkdir()
    file.write_bytes(torn if isinstance(torn, bytes) else json.dumps({processor.about("torch"): torn}).encode())
    assert processor.remembered("torch") is None
    monkeypatch.setattr(speed, "measure", lambda: SLOW)
    assert speed.measured() == processor.remembered("torch") == SLOW


def test_where_nothing_can_be_kept_it_is_said_and_the_choice_stands(file, monkeypatch, caplog):
    file.parent.write_text("a file in the folder's place")
    monkeypatch.setattr(speed, "measure", lambda: SLOW)
    assert backends.choose("torch", "cpu").dtype == "float32"
    assert "could not be kept" in caplog.text


def test_the_choice_is_told_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(speed, "measure", lambda: FAST)
    with caplog.at_level("INFO"):
        speed.measured()
    assert "kept as bfloat16: 1.00 ms a product in bfloat16, 2.00 in float32" in caplog.text
