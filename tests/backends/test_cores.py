"""Threads that compute: one for each fast core, on processors of all kinds as Linux describes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crane_app.backends import choose, cores


def describe(root: Path, threads: dict[int, str], strong: str = "", able: dict[int, int] | None = None) -> Path:
    """/sys/devices of a processor: which threads share a core; Intel's list of strong ones; Arm's capacities."""
    for cpu, core in threads.items():
        topology = root / f"system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "core_cpus_list").write_text(f"{core}\n")
        if able:
            (root / f"system/cpu/cpu{cpu}/cpu_capacity").write_text(f"{able[cpu]}\n")
    if strong:
        (root / "cpu_core").mkdir()
        (root / "cpu_core" / "cpus").write_text(f"{strong}\n")
    return root


def test_two_threads_of_a_core_are_one(tmp_path):
    root = describe(tmp_path, {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"})
    assert len(cores._linux(list(range(8)), root)) == 4
    assert len(cores._linux([0, 4, 1], root)) == 2  # as taskset allows


def test_the_slow_cores_of_intels_hybrids_are_left_out(tmp_path):
    threads = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 5: "5", 6: "6", 7: "7"}
    root = describe(tmp_path, threads, strong="0-3")
    assert len(cores._linux(list(range(8)), root)) == 2
    assert len(cores._linux([4, 5, 6], root)) == 3  # where only slow ones are allowed


def test_the_slow_cores_of_arms_hybrids_are_left_out(tmp_path):
    able = {0: 160, 1: 160, 2: 871, 3: 871, 4: 1024}
    root = describe(tmp_path, {cpu: str(cpu) for cpu in able}, able=able)
    assert len(cores._linux(list(able), root)) == 3


def test_a_processor_that_is_not_described_has_a_core_for_each_thread(tmp_path):
    assert len(cores._linux([0, 1, 2], tmp_path)) == 3


QUOTAS = {"200000 100000": 2, "50000 100000": 1, "max 100000": 1 << 16, "": 1 << 16}


@pytest.mark.parametrize(("said", "count"), QUOTAS.items())
def test_a_groups_quota_counts(tmp_path, said, count):
    (tmp_path / "cpu.max").write_text(said)
    assert cores._quota(tmp_path / "cpu.max") == count


def test_lists_of_processors():
    assert cores._listed("0-3,8,10-11") == {0, 1, 2, 3, 8, 10, 11}
    assert cores._listed("") == set()


def test_this_machine_has_some():
    assert 1 <= cores.fast() <= 4096


def test_torch_computes_on_the_threads_that_are_asked_for(monkeypatch):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "_chosen", 0)
    try:
        assert cores.use(3) == 3
        choose("torch", "cpu", "float32")
        assert torch.get_num_threads() == 3
        assert cores.use(0) == cores.fast()
    finally:
        torch.set_num_threads(before)


def test_a_library_keeps_its_own_number_where_nobody_asks(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(cores, "_chosen", 0)
    before = torch.get_num_threads()
    choose("torch", "cpu", "float32")
    assert torch.get_num_threads() == before
    assert sys.modules["torch"] is torch
