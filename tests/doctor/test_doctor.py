"""What the doctor says, over machines that are made up."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from crane_app import __main__ as entrance
from crane_app import doctor
from crane_app.doctor import machine, phases, selftest
from crane_app.doctor.machine import Finding
from crane_app.engine.defaults import ENDPOINTS
from crane_app.errors import Unsupported

TORCH = Finding("backend torch", True, "cpu")
NO_MLX = Finding("backend mlx", False, "not installed", "One of the two is enough.")


@pytest.fixture
def tell(monkeypatch, capsys):
    """The status and the JSON for these findings and checks, without looking at the machine."""

    def told(*findings: Finding, checks=(), quick=False):
        monkeypatch.setattr(doctor, "findings", lambda: list(findings))
        monkeypatch.setattr(selftest, "checks", lambda name: iter(checks))
        monkeypatch.setattr(phases, "measured", lambda names: [phases.Phase("window", 0.25)])
        status = doctor.run(as_json=True, quick=quick)
        return status, json.loads(capsys.readouterr().out)

    return told


def test_one_backend_is_enough(tell):
    status, said = tell(TORCH, NO_MLX)
    assert (status, said["works"]) == (0, True)


def test_without_a_backend_nothing_works(tell):
    status, said = tell(NO_MLX)
    assert (status, said["works"]) == (1, False)


def test_what_is_merely_useful_may_be_missing(tell):
    assert tell(TORCH, Finding("speaker", False, "none"))[0] == 0


def test_what_is_essential_may_not(tell):
    assert tell(TORCH, Finding("tokenizers", False, "not installed", essential=True))[0] == 1


def test_a_check_that_failed_is_something_broken(tell):
    wrong = selftest.Check("torch", "linear", False, "error 7.00 of the bound")
    status, said = tell(TORCH, checks=[wrong])
    assert status == 1
    assert said["checks"] == [vars(wrong)]


def test_quick_leaves_out_the_self_test(tell):
    wrong = selftest.Check("torch", "linear", False, "error 7.00 of the bound")
    status, said = tell(TORCH, checks=[wrong], quick=True)
    assert (status, said["checks"]) == (0, [])


def test_the_defaults_of_all_endpoints_are_told(tell):
    assert tell(TORCH)[1]["defaults"] == ENDPOINTS


def test_the_text_says_what_a_missing_thing_costs_and_what_brings_it(tell, capsys):
    tell(TORCH, Finding("font: emoji", False, "none", "Its letters are empty boxes.", "Install a font."))
    doctor.run()
    said = capsys.readouterr().out
    assert "missing  font: emoji" in said
    assert "Its letters are empty boxes. Install a font." in said
    assert "250 ms" in said
    assert "completions" in said


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("home", ["/home/zoe", r"C:\Users\zoe"])
def test_the_report_names_nobody(tell, monkeypatch, capsys, home, as_json):
    """What a person copies into a message shows no more than ~ of their home."""
    monkeypatch.setattr(doctor.Path, "home", lambda: home)
    tell(TORCH, Finding("downloaded models", True, f"2 in {home}/.cache/huggingface/hub"))
    doctor.run(as_json=as_json)
    said = capsys.readouterr().out
    assert "zoe" not in said  # no letters of a commit's number
    assert "2 in ~/.cache" in said


def test_this_machine_is_looked_at_in_all_its_parts():
    names = {finding.name for finding in machine.findings()}
    assert names >= {"python", "backend mlx", "backend torch", "numpy", "system voice", "memory", "disk"}
    assert names >= {"screen", "font: Japanese", "font: emoji", "downloaded models"}


@pytest.mark.parametrize("kernels", ["neon_i8mm", "avx2"])
def test_the_kernels_that_run_are_named(monkeypatch, kernels):
    cpu = SimpleNamespace(device=SimpleNamespace(kind="cpu", name="a processor"), dtype="bfloat16", kernels=kernels)
    monkeypatch.setattr(machine.backends, "choose", lambda name: cpu)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(machine.processor, "remembered", lambda library: None)
    assert machine._backend("torch").seen == f"cpu (a processor), bfloat16 by default, kernels for {kernels}"
    speed = machine.processor.Measured({"bfloat16": 1.0, "float32": 2.0})
    monkeypatch.setattr(machine.processor, "remembered", lambda library: speed)
    told = "bfloat16 by default (1.00 ms a product in bfloat16, 2.00 in float32), kernels"
    assert machine._backend("torch").seen == f"cpu (a processor), {told} for {kernels}"


def test_everything_missing_has_a_price_or_a_remedy(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in machine.USEFUL else found(name))
    lacking = [finding for finding in machine.findings() if not finding.ok]
    assert {finding.name for finding in lacking} >= machine.USEFUL.keys()
    assert all(finding.costs or finding.mend for finding in lacking)


def test_without_a_sound_library_the_sentence_of_the_platform_is_told(monkeypatch):
    from crane_app.platform import portaudio

    def missing():
        raise Unsupported("The sound library PortAudio is missing.")

    monkeypatch.setattr(portaudio, "library", missing)
    found = {finding.name: finding for finding in machine._sound()}
    assert {"microphone", "speaker"} == found.keys()
    assert "PortAudio" in found["microphone"].seen
    assert all(not finding.ok and finding.costs for finding in found.values())


def test_a_graphics_card_that_torch_does_not_see_is_told(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(machine, "_device", lambda name: "cpu")
    (found,) = machine._graphics()
    assert not found.ok
    assert "many times slower" in found.costs


# The phases of a start


def test_each_phase_is_measured_in_a_process_of_its_own(monkeypatch):
    ran = []

    def run(command, **named):
        ran.append((command, named["env"]["HOME"]))
        assert Path(named["env"]["HOME"]).is_dir()
        return subprocess.CompletedProcess(command, 0, stdout='a warning\n{"phase": 0.5}\n', stderr="")

    monkeypatch.setattr(phases.subprocess, "run", run)
    found = phases.measured(["torch"])
    assert [phase.seconds for phase in found] == [0.5] * 4
    assert len(ran) == 4
    assert {home for _, home in ran}.isdisjoint({str(Path.home())})
    assert not any(Path(home).exists() for _, home in ran)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise RuntimeError('libtorch is gone')", "RuntimeError: libtorch is gone"),
        ("import os; os._exit(3)", "It ended with status 3."),
        ("print('[]')", "It could not be measured: a child printed no object."),
    ],
)
def test_a_phase_that_fails_is_told_with_its_last_words(tmp_path, monkeypatch, code, problem):
    monkeypatch.setattr(phases, "_program", lambda: [sys.executable, "-c", code])
    assert phases._child("engine", ["engine"], str(tmp_path)) == [phases.Phase("engine", None, problem)]


def test_a_real_engine_is_waited_for(tmp_path):
    (found,) = phases._child("engine", ["engine"], str(tmp_path))
    assert found.problem == ""
    assert found.seconds > 0


# The packed program


@pytest.fixture
def packed(monkeypatch):
    """This Python as the packed program: it is its own child, by a word of its own."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def test_a_packed_program_is_its_own_child(packed, monkeypatch):
    ran = []

    def run(command, **named):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, stdout='{"phase": 0.5}', stderr="")

    monkeypatch.setattr(phases.subprocess, "run", run)
    assert len(phases.measured(["torch"])) == 4
    words = [["nothing"], ["start"], ["engine"], ["backend", "torch"]]
    assert ran == [[sys.executable, entrance.EXAMINED, *each] for each in words]


def test_fonts_and_screen_are_looked_for_in_a_packed_program_too(packed, monkeypatch):
    monkeypatch.setattr(phases, "told", lambda words: {"screen": {"problem": ""}, "fonts": {"emoji": ""}}[words[0]])
    assert [(one.name, one.ok) for one in machine._seen_by_qt()] == [("screen", True), ("font: emoji", False)]


def test_what_a_packed_program_lacks_no_pip_can_bring(packed, monkeypatch):
    """Everything came with it, so what is gone is damage; the other backend is none."""
    found = importlib.util.find_spec
    gone = {*machine.USEFUL, *machine.ESSENTIAL, "sounddevice", "mlx"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else found(name))
    lacking = {one.name: one for one in machine.findings() if not one.ok}
    assert lacking.keys() >= machine.USEFUL.keys() | machine.ESSENTIAL.keys() | {"sound", "backend mlx"}
    assert not [one for one in lacking.values() if "pip" in one.mend]
    assert lacking["rapidocr"].mend == machine.WHOLE
    assert lacking["backend mlx"].mend == ""


def test_a_packed_program_without_any_backend_is_damaged(packed, monkeypatch):
    monkeypatch.setattr(machine.backends, "installed", lambda: [])
    assert machine._other_backend("torch") == machine._other_backend("mlx") == machine.WHOLE


@pytest.mark.parametrize(("there", "said"), [(None, machine.COMPILER), ("/usr/bin/cc", machine.AGAIN)])
def test_a_compiler_is_asked_for_only_where_there_is_none(monkeypatch, there, said):
    monkeypatch.setattr(machine.shutil, "which", lambda program: there)
    assert machine._compile() == said


def test_a_packed_program_is_not_compiled(packed):
    assert machine._compile() == machine.WHOLE


def test_a_packed_program_cannot_be_given_a_pytorch_with_cuda(packed, monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(machine, "_device", lambda name: "cpu")
    (found,) = machine._graphics()
    assert found.mend == machine.FROM_SOURCE
