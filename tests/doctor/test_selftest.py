"""The self-test holds on every backend, and says so where one computes wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app import backends
from crane_app.doctor import selftest
from crane_app.errors import CraneError

NAMES = ["linear", "rms_norm", "swiglu", "attend", "sample"]


def test_every_check_holds_on_every_backend(backend_name):
    found = list(selftest.checks(backend_name))
    assert [check.name for check in found] == NAMES
    assert not [check for check in found if not check.ok]


class Wrong:
    """The ops of a backend, of which one gives something else."""

    def __init__(self, ops, name, change):
        self._ops, self._name, self._change = ops, name, change

    def __getattr__(self, name):
        op = getattr(self._ops, name)
        return op if name != self._name else lambda *args, **named: self._change(op(*args, **named))


def verdicts(monkeypatch, op: str, change) -> dict[str, bool]:
    """Which checks hold on a torch whose `op` is changed so."""
    pytest.importorskip("torch")
    backend = backends.choose("torch", device="cpu", dtype="float32")
    backend.ops = Wrong(backend.ops, op, change)
    monkeypatch.setattr(selftest.backends, "choose", lambda *_, **__: backend)
    return {check.name: check.ok for check in selftest.checks("torch")}


@pytest.mark.parametrize("op", ["linear", "rms_norm", "swiglu", "attend"])
def test_a_wrong_number_is_found(monkeypatch, op):
    assert verdicts(monkeypatch, op, lambda y: y * 1.001) == {name: name != op for name in NAMES}


@pytest.mark.parametrize("op", ["linear", "rms_norm", "swiglu", "attend"])
def test_a_row_that_feels_its_company_is_found(monkeypatch, op):
    """One bit of the last place, that of how many rows there are."""
    nudge = np.float32(2.0**-23)
    assert verdicts(monkeypatch, op, lambda y: y * (1 + nudge * (len(y) % 2))) == {name: name != op for name in NAMES}


def test_a_wrong_choice_of_token_is_found(monkeypatch):
    found = verdicts(monkeypatch, "sample", lambda tokens: (tokens + 1) % 500)
    assert found == {name: name != "sample" for name in NAMES}


@pytest.mark.parametrize("op", NAMES)
def test_an_op_that_fails_is_a_check_that_failed(monkeypatch, op):
    def fail(_result):
        raise RuntimeError("no such kernel\nand more")

    assert verdicts(monkeypatch, op, fail) == {name: name != op for name in NAMES}


def test_a_backend_that_does_not_start_is_one_check(monkeypatch):
    def choose(*_, **__):
        raise CraneError("There is no such device.")

    monkeypatch.setattr(selftest.backends, "choose", choose)
    (only,) = selftest.checks("torch")
    assert (only.name, only.ok) == ("start", False)
    assert "There is no such device." in only.seen
