"""Takes are on disk from their first block, whole after a kill, private, and gone when their time is over."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
import wave

import numpy as np
import pytest

from crane_app.errors import CraneError
from crane_app.library import takes as module
from crane_app.library.takes import LEAVE_OUT, RATE, Said, Takes

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and signals of POSIX")
SECOND = np.sin(np.arange(RATE) / 10).astype(np.float32) / 2


@pytest.fixture
def takes(tmp_path):
    return Takes(tmp_path / "takes")


def samples(path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def kept(takes, seconds: float = 1.0, age_days: float = 0.0, **finish):
    recording = takes.record()
    recording.write(np.resize(SECOND, int(seconds * RATE)))
    take = recording.finish(finish.pop("state", "done"), **finish)
    return takes.update(take, created=time.time() - age_days * 86400)


def test_what_is_recorded_can_be_played_and_read_again(takes):
    take = kept(takes, text="Hello there", segments=[Said(0.1, 0.9, "Hello there")], model="tiny")
    assert takes.all() == [take]
    assert take.seconds == 1.0
    np.testing.assert_allclose(samples(take.sound) / 32767, SECOND, atol=2e-5)


def test_every_block_is_on_disk_at_once(takes):
    recording = takes.record()
    for number in range(1, 4):
        recording.write(SECOND[:512])
        assert len(samples(recording.take.sound)) == 512 * number
    assert [take.state for take in takes.all()] == ["recording"]


def test_what_is_louder_than_a_file_can_be_is_clipped(takes):
    recording = takes.record()
    recording.write(np.array([-3, 0, 3], np.float32))
    assert samples(recording.take.sound).tolist() == [-32767, 0, 32767]


def test_nothing_is_added_to_a_take_that_is_over(takes):
    recording = takes.record()
    recording.write(SECOND)
    take = recording.finish("discarded")
    recording.write(SECOND)
    assert len(samples(take.sound)) == RATE


def test_a_take_without_a_sound_leaves_nothing(takes):
    assert takes.record().finish("done") is None
    assert {path.name for path in takes.folder.iterdir()} == set(LEAVE_OUT)


@POSIX
def test_a_take_of_a_killed_program_is_whole_and_listed_as_interrupted(takes):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent("""
            import sys
            from pathlib import Path
            import numpy as np
            from crane_app.library.takes import Takes
            recording = Takes(Path(sys.argv[1])).record()
            for number in range(100_000):
                recording.write(np.full(512, number % 100 / 100, np.float32))
                print(number, flush=True)
                sys.stdin.readline()
        """), str(takes.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        for number in range(40):
            assert child.stdout.readline() == f"{number}\n"
            child.stdin.write("\n")
            child.stdin.flush()
        child.send_signal(signal.SIGKILL)
    [take] = takes.all()
    assert take.state == "interrupted"
    found = samples(take.sound)
    assert len(found) >= 40 * 512
    np.testing.assert_array_equal(found[: 40 * 512 : 512], np.round(np.arange(40, dtype=np.float32) / 100 * 32767))
    assert 0 <= take.seconds - len(found) / RATE <= 512 / RATE  # it may have died between a block and its header


@POSIX
def test_only_this_user_can_read_what_was_said(takes):
    old = os.umask(0)
    try:
        take = kept(takes)
    finally:
        os.umask(old)
    assert stat.S_IMODE(takes.folder.stat().st_mode) == 0o700
    for path in takes.folder.glob(f"{take.id}*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(takes.folder.glob(f"{take.id}*"))) == 2


def test_the_folder_tells_backups_and_searches_to_leave_it_out(takes):
    kept(takes)
    assert {path.name for path in takes.folder.iterdir()} >= set(LEAVE_OUT)
    assert (takes.folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


@POSIX
def test_a_full_disk_is_told_and_what_came_before_is_kept(takes):
    import resource

    recording = takes.record()
    recording.write(SECOND[:8000])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, hard))
    try:
        with pytest.raises(CraneError, match="until then is kept"):
            recording.write(SECOND)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recording.write(SECOND)  # is not recorded: there would be a gap
    take = recording.finish("done")
    assert len(samples(take.sound)) == 8000
    assert take.seconds == 0.5


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CraneError, match="Nothing can be recorded"):
        Takes(tmp_path / "file" / "takes").record()
    assert Takes(tmp_path / "file" / "takes").all() == []


def test_a_disk_that_is_full_at_the_start_leaves_no_empty_take(takes, monkeypatch):
    def full(_take):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write_facts", full)
    with pytest.raises(CraneError, match="Nothing can be recorded"):
        takes.record()
    assert takes.all() == []
    assert {path.name for path in takes.folder.iterdir()} == set(LEAVE_OUT)


def test_newest_first(takes):
    ages = [3, 0, 5]
    for age in ages:
        kept(takes, age_days=age, text=str(age))
    assert [take.text for take in takes.all()] == ["0", "3", "5"]


def test_a_sweep_removes_what_is_too_old_too_many_or_too_big(takes):
    for age in range(6):
        kept(takes, age_days=age + 0.5, text=str(age))
    assert takes.sweep(days=5) == 1
    assert takes.sweep(days=5, count=3) == 2
    assert [take.text for take in takes.all()] == ["0", "1", "2"]
    assert takes.sweep(size=2 * 32_050 / 2**20) == 1
    assert [take.text for take in takes.all()] == ["0", "1"]
    assert takes.sweep() == 0


def test_a_sweep_leaves_the_take_under_way(takes):
    recording = takes.record()
    recording.write(SECOND)
    assert takes.sweep(days=0, count=0, size=0) == 0
    takes.delete_all()
    assert takes.all()[0].id == recording.take.id


def test_delete_all_leaves_no_word_and_no_sound(takes):
    for _ in range(3):
        kept(takes, text="secret")
    (takes.folder / "orphan.json").write_text("{}")
    (takes.folder / "half.json.new").write_text("{")
    takes.delete_all()
    assert {path.name for path in takes.folder.iterdir()} == set(LEAVE_OUT)
    takes.delete_all()  # of nothing


def test_delete_all_leaves_what_the_take_under_way_is_writing(takes):
    take = takes.record().take
    half = take.sound.with_suffix(".json.new")
    half.write_text("{")
    takes.delete_all()
    assert half.exists()


def test_a_file_that_cannot_be_deleted_is_told(takes):
    kept(takes)
    (takes.folder / "odd.json").mkdir()
    with pytest.raises(CraneError, match="cannot be deleted"):
        takes.delete_all()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "done"}', "null"])
def test_a_take_whose_facts_are_damaged_is_still_a_recording(takes, content):
    take = kept(takes, text="lost")
    take.sound.with_suffix(".json").write_text(content)
    [found] = takes.all()
    assert (found.state, found.text, found.seconds) == ("interrupted", "", 1.0)
    assert found.created == pytest.approx(time.time(), abs=60)


def test_a_state_that_nobody_knows_is_damage(takes):
    take = kept(takes)
    path = take.sound.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "frozen"}))
    assert takes.all()[0].state == "interrupted"


def test_a_deleted_take_does_not_come_back_with_its_text(takes):
    take = kept(takes)
    takes.delete([take])
    takes.update(take, text="written late")
    assert takes.all() == []
    assert not take.sound.with_suffix(".json").exists()


def test_text_that_cannot_be_kept_is_told_and_the_old_one_stays(takes, monkeypatch):
    take = kept(takes, text="old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_private", full)
    with pytest.raises(CraneError, match="No space left"):
        takes.update(take, text="new")
    monkeypatch.undo()
    assert takes.all()[0].text == "old"


def test_the_place_for_takes_is_the_users_data_folder():
    assert Takes().folder.parts[-2:] == ("crane", "takes")
