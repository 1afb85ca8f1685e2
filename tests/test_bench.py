"""The bench compares what was measured in the same round, says what it could not measure, and leaves nothing behind."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from crane_app.bench import bandwidth, process, rounds, serve, side
from crane_app.bench.process import Lost, Refused, Side
from crane_app.bench.reads import reads
from crane_app.bench.report import as_text
from crane_app.bench.rounds import Plan, forget
from crane_app.engine import random_checkpoint
from crane_app.engine.loading import load
from crane_app.errors import BadInput, CraneError
from tests.models.scramble import golden

# A side that takes no time and says what it is told to: seconds are 1, 2, 3... times `unit`, call by call of a word.
FAKE = """
import json, os, sys, time
unit, log = {unit}, {log!r}
calls = {{}}
open(log + ".pids", "a").write(f"{{os.getpid()}}\\n")
for line in sys.stdin:
    (word, given), = json.loads(line).items()
    calls[word] = calls.get(word, 0) + 1
    open(log, "a").write(json.dumps([{name!r}, word, given]) + "\\n")
    answer = {{"seconds": unit * calls[word]}}
    if word == "version":
        answer = {{"version": {{{name!r}: "1.0"}}}}
    if word == "memory":
        answer = {{"peak": 5000000}}
    if word == "load":
        answer = {{"seconds": 0.5, "ready": {ready}}}
{extra}
    print(json.dumps(answer), flush=True)
"""
READY = {"architecture": "Fake", "weights": 4000, "context": 512, "notes": [], "backend": "torch", "device": "cpu"}
READY |= {"name": "", "dtype": "float32", "reads": {"dense": 4000, "experts": 0, "count": 1, "top": 1, "cached": []}}


class Fakes:
    """Scripts of sides, and what they wrote down."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "log"

    def write(self, name: str, extra: str = "", unit: float = 1.0) -> str:
        path = self.folder / f"{name}.py"
        extra = textwrap.indent(textwrap.dedent(extra), "    ")
        path.write_text(FAKE.format(unit=unit, log=str(self.log), name=name, ready=READY, extra=extra))
        return str(path)

    def asked(self, *words: str) -> list[list]:
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if line[1] in words]

    def alive(self) -> list[int]:
        return [pid for pid in map(int, Path(f"{self.log}.pids").read_text().split()) if alive(pid)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """With Crane's own side a fake, and reading at 4 kB/s."""
    found = Fakes(tmp_path)
    ours = found.write("crane")
    monkeypatch.setattr(process, "crane", lambda threads, patience: Side("crane", [ours], threads, patience))
    monkeypatch.setattr(bandwidth, "HostStream", lambda threads: lambda: 4000.0)
    return found


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path, contexts=(8,), batches=(2,), prompts=(16,), rounds=3, steps=4, patience=20.0)


def test_rounds_alternate_and_the_first_is_not_counted(fakes: Fakes, plan: Plan):
    report = rounds.run(replace(plan, peers=(fakes.write("other", unit=2.0),)))
    assert [name for name, *_ in fakes.asked("decode")] == [
        *("crane", "other"),  # the warm-up
        *("crane", "other", "other", "crane", "crane", "other"),
    ]
    assert fakes.asked("decode")[0][2] == {"context": 8, "batch": 2, "steps": 4}
    case = report["decode"][0]
    assert case["tokens_per_s"]["crane"] == {
        "median": 8 / 3, "low": 2.0, "high": 4.0, "rounds": [4.0, 8 / 3, 2.0]
    }  # fmt: skip
    assert case["tokens_per_s"]["other"]["rounds"] == [2.0, 4 / 3, 1.0]
    assert case["ratio"]["other"]["rounds"] == [2.0, 2.0, 2.0]
    assert case["share"]["rounds"] == [4000 * 4 / s / 4000 for s in (2, 3, 4)]
    assert case["bytes_per_token"] == 2000
    assert report["prefill"][0]["first_token_s"]["crane"]["median"] == 3.0
    assert report["prefill"][0]["tokens_per_s"]["crane"]["rounds"] == [8.0, 16 / 3, 4.0]
    assert report["load"]["crane"]["again_s"] == 0.5
    assert report["memory"]["other"]["peak"] == 5000000
    assert report["setup"]["peers"] == {"other": {"other": "1.0"}}
    assert not fakes.alive()
    text = as_text(report)
    assert "2.00x [2.00x - 2.00x]" in text
    assert "beside other: other 1.0" in text


def test_a_peer_is_loaded_on_cranes_device_in_cranes_type(fakes: Fakes, plan: Plan):
    rounds.run(replace(plan, peers=(fakes.write("other"),), threads=1, rounds=1))
    given = next(given for name, _, given in fakes.asked("load") if name == "other")
    assert (given["device"], given["dtype"], given["threads"]) == ("cpu", "float32", 1)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('if word == "decode" and calls[word] == 3: sys.exit("the library broke")', "the library broke"),
        ('if word == "decode": os.kill(os.getpid(), 9)', "most likely because memory ran out"),
        ('if word == "load": answer = {"error": "no such weights"}', "no such weights"),
        ('if word == "version": answer = {"error": "it is not installed"}', "it is not installed"),
        ('if word == "prefill": print("Loading 40 %")', "no JSON object: 'Loading 40 %"),
        ('if word == "memory": os.close(1); time.sleep(60)', "closed its answers"),
    ],
    ids=["exit", "killed", "load", "version", "babble", "mute"],
)
def test_a_peer_that_fails_is_skipped_with_its_sentence(fakes: Fakes, plan: Plan, monkeypatch, extra: str, said: str):
    monkeypatch.setattr(process, "PARTING", 0.5)
    report = rounds.run(replace(plan, peers=(fakes.write("weak", extra), fakes.write("other"))))
    assert said in report["skipped"]["weak"]
    assert len(report["decode"][0]["tokens_per_s"]["crane"]["rounds"]) == 3
    assert len(report["decode"][0]["ratio"]["other"]["rounds"]) == 3
    assert said in as_text(report)
    assert not fakes.alive()


def test_a_peer_that_hangs_is_ended(fakes: Fakes, plan: Plan):
    hang = fakes.write("slow", 'if word == "decode" and calls[word] == 2: time.sleep(600)')
    with process.peer(hang, None, 30) as peer:
        peer.ask("decode")
        peer.patience = 0.2
        with pytest.raises(Lost, match=r"slow gave no answer to 'decode' .*--timeout"):
            peer.ask("decode")
        assert not fakes.alive()


def test_what_a_peer_cannot_do_is_said_with_its_case(fakes: Fakes, plan: Plan):
    one = fakes.write("one", 'if given.get("batch", 1) > 1: answer = {"error": "One row at a time."}')
    report = rounds.run(replace(plan, peers=(one,), batches=(1, 2)))
    first, second = report["decode"]
    assert len(first["ratio"]["one"]["rounds"]) == 3
    assert second["ratio"] == {}
    assert second["refused"] == {"one": "One row at a time."}
    assert report["skipped"] == {}
    assert "one, context 8, batch 2: One row at a time." in as_text(report)


def test_what_crane_cannot_do_leaves_the_other_cases(fakes: Fakes, plan: Plan):
    fakes.write("crane", 'if given.get("context") == 9: answer = {"error": "Too long."}')
    report = rounds.run(replace(plan, contexts=(9, 8), peers=(fakes.write("other"),)))
    assert report["decode"][0]["refused"] == {"crane": "Too long."}
    assert report["decode"][0]["share"] is None
    assert report["decode"][1]["share"] is not None
    assert "crane, context 9, batch 2: Too long." in as_text(report)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('if word == "load": answer = {"error": "There is no model folder."}', r"^There is no model folder.$"),
        ('if word == "decode": os.kill(os.getpid(), 9)', "memory ran out"),
    ],
)
def test_without_crane_there_is_no_report(fakes: Fakes, plan: Plan, extra: str, said: str):
    fakes.write("crane", extra)
    with pytest.raises(CraneError, match=said):
        rounds.run(replace(plan, peers=(fakes.write("other"),)))
    assert not fakes.alive()


@pytest.mark.parametrize("moment", ["loading", "loading other", "prompt", "decoding"])
def test_an_interrupt_leaves_no_process(fakes: Fakes, plan: Plan, moment: str):
    other = fakes.write("other")

    def interrupt(text: str) -> None:
        if text.startswith(moment.replace("other", other)):
            raise KeyboardInterrupt

    fakes.log.with_name("log.pids").touch()
    with pytest.raises(KeyboardInterrupt):
        rounds.run(replace(plan, peers=(other,)), interrupt)
    assert not fakes.alive()


def test_an_unknown_peer_is_answered_with_those_there_are():
    with pytest.raises(BadInput, match=r"no peer 'vlm'. There are: .*transformers"):
        process.peer("vlm", None, 1)


@pytest.mark.parametrize("name", ["llama.cpp", "llama_cpp", "mlx-lm"])
def test_a_peer_may_be_called_as_its_makers_call_it(name: str):
    with process.peer(name, None, 1) as side:
        assert side.name in ("llama_cpp", "mlx_lm")


# The side's own end of the line

SERVED = """
import sys, time
from crane_app.bench.serve import serve
class Model:
    ready = {"a": 1}
    def __init__(self, **given): print("a library talks")
    def decode(self, context, batch, steps):
        if batch == 2: raise MemoryError
        if batch == 3: raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        time.sleep(600 if batch == 4 else 0)
        return 0.25
serve(Model, ("numpy",))
"""


@pytest.fixture
def served(tmp_path: Path):
    path = tmp_path / "served.py"
    path.write_text(SERVED)
    with process.peer(str(path), None, 30) as side:
        yield side


def test_a_side_answers_whatever_its_library_prints(served: Side):
    assert served.ask("version")["version"] == {"numpy": np.__version__}
    with pytest.raises(Refused, match="does not know the request 'decode' now"):
        served.ask("decode", context=1, batch=1, steps=1)
    assert served.ask("load", folder="x")["ready"] == {"a": 1}
    assert served.ask("decode", context=1, batch=1, steps=1) == {"seconds": 0.25}
    for batch in (2, 3):
        with pytest.raises(Refused, match="not enough memory for this"):
            served.ask("decode", context=1, batch=batch, steps=1)
    assert served.ask("memory")["peak"] > 2**20
    with pytest.raises(Refused, match="stream"):
        served.ask("stream")


def test_a_side_ends_with_its_reader_in_the_middle_of_its_work(served: Side):
    """As after kill -9 of the bench: nothing but the closed pipe tells it."""
    served.ask("load")
    served._process.stdin.write('{"decode": {"context": 1, "batch": 4, "steps": 1}}\n')
    served._process.stdin.close()
    assert served._process.wait(20) == 0


def test_a_package_that_is_missing_is_named():
    with pytest.raises(CraneError, match=r"no-such-package is not installed. pip install"):
        serve.version("no-such-package")


# What is read


def test_a_step_reads_the_weights_and_what_is_cached(tmp_path: Path):
    case = golden("qwen3")
    loaded = load(case.write(tmp_path), "torch", "cpu", "float32")
    found = reads(loaded)
    gathered = 0 if case.config["tie_word_embeddings"] else case.shapes["model.embed_tokens.weight"]
    weights = 4 * (sum(int(np.prod(s)) for s in case.shapes.values()) - int(np.prod(gathered)))
    position = 2 * 4 * sum(slot.heads * slot.dim for slot in loaded.runner.layout)
    window = [slot.window for slot in loaded.runner.layout]
    assert found.dense == weights
    assert not any(window)
    assert found.step(10, 3) == weights + 3 * 10 * position


def test_experts_are_read_as_far_as_they_are_used(tmp_path: Path):
    case = golden("qwen3_moe")
    found = reads(load(case.write(tmp_path), "torch", "cpu", "float32"))
    experts = 4 * sum(int(np.prod(s)) for name, s in case.shapes.items() if ".experts." in name)
    assert found.experts == experts
    assert (found.count, found.top) == (case.config["num_experts"], case.config["num_experts_per_tok"])
    assert found.step(0, 1) == pytest.approx(found.dense + experts * found.top / found.count)
    assert found.step(0, 10**6) == pytest.approx(found.dense + experts)


def test_a_window_bounds_what_is_read():
    found = serve_reads(cached=((8, 0), (8, 4)))
    assert found.step(10, 2) == 100 + 2 * 8 * (10 + 4)


def serve_reads(**given):
    return rounds._reads({"dense": 100, "experts": 0, "count": 1, "top": 1, **given})


def test_the_reading_speed_is_that_of_all_bytes():
    stream = bandwidth.HostStream(2, size=2**20)
    assert stream() > 0
    assert sum(part.nbytes for part in stream._parts) == 2**20


def test_the_peak_counts_what_was_given_back():
    before = serve.peak()
    np.ones(2**27, np.uint8)
    assert serve.peak() >= before


def test_files_that_are_dropped_from_memory_stay_as_they_are(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(range(256)) * 100)
    assert forget(tmp_path) == hasattr(os, "posix_fadvise")
    assert file.read_bytes() == bytes(range(256)) * 100
    assert not forget(tmp_path / "none")


def test_a_device_can_be_read_through_its_backend(tmp_path: Path, backend_name: str, monkeypatch):
    monkeypatch.setattr(side, "STREAM", 2**24)
    crane = side.Crane(str(golden("qwen3").write(tmp_path)), backend_name, "cpu", "bfloat16", None)
    assert crane.stream() > 0
    assert crane.device_array.nbytes == 2**24
    assert crane.prefill(300) > 0
    assert crane.decode(300, 3, 2) > 0


# Random checkpoints

TINY = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    config = random_checkpoint.CONFIGS["qwen3-0.6b"] | TINY | {"vocab_size": 199, "num_hidden_layers": 2}
    monkeypatch.setitem(random_checkpoint.CONFIGS, "tiny", config)
    return "tiny"


def test_random_weights_are_a_checkpoint_and_written_once(tmp_path: Path, tiny: str):
    folder = random_checkpoint.make(tiny, tmp_path)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert random_checkpoint.make(tiny, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert load(folder, "torch", "cpu", "float32").vocabulary == 199
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_random_weights_of_other_shapes_are_replaced(tmp_path: Path, tiny: str):
    random_checkpoint.make(tiny, tmp_path)
    random_checkpoint.CONFIGS[tiny]["num_hidden_layers"] = 3
    folder = random_checkpoint.make(tiny, tmp_path)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 3
    load(folder, "torch", "cpu", "float32")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")], ids=repr)
def test_an_interrupted_checkpoint_leaves_nothing(tmp_path: Path, tiny: str, monkeypatch, error: BaseException):
    class Random:
        calls = 0

        def standard_normal(self, count: int, dtype: type) -> np.ndarray:
            self.calls += 1
            if self.calls == 4:
                raise error
            return np.zeros(count, dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Random())
    with pytest.raises((KeyboardInterrupt, CraneError)) as raised:
        random_checkpoint.make(tiny, tmp_path)
    if isinstance(error, OSError):
        assert "No space left on device" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path, tiny: str, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CraneError, match=r"take .* GB; the disk of .* has 0.0 GB free. Make room"):
        random_checkpoint.make(tiny, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path, tiny: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(CraneError, match="cannot be written"):
        random_checkpoint.make(tiny, tmp_path / "file")


def test_what_killed_writers_left_is_cleared_and_what_others_write_is_not(tmp_path: Path, tiny: str):
    old, new = tmp_path / ".tiny-old", tmp_path / ".tiny-new"
    for part in (old, new):
        part.mkdir()
        (part / "model.safetensors").write_bytes(b"x")
    for path in (old, old / "model.safetensors"):
        os.utime(path, (time.time() - 10**5,) * 2)
    random_checkpoint.make(tiny, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tiny-new", "tiny"]


def test_unknown_random_weights_are_answered_with_those_there_are(tmp_path: Path):
    with pytest.raises(BadInput, match=r"called 'gpt'. There are: qwen2.5-0.5b, qwen3-0.6b"):
        random_checkpoint.make("gpt", tmp_path)


# The peers in the repository


@pytest.mark.parametrize(("name", "package"), [("transformers", "transformers"), ("mlx_lm", "mlx_lm")])
def test_a_peer_prefills_and_decodes(tmp_path: Path, tiny: str, name: str, package: str):
    pytest.importorskip(package, exc_type=ImportError)
    folder = random_checkpoint.make(tiny, tmp_path)
    with process.peer(name, 1, 120) as peer:
        peer.ask("version")
        peer.ask("load", folder=str(folder), backend=None, device="cpu", dtype="float32", threads=1)
        assert peer.ask("prefill", tokens=20)["seconds"] > 0
        for batch in (1, 2, 2):
            assert peer.ask("decode", context=20, batch=batch, steps=3)["seconds"] > 0


@pytest.fixture
def llama() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llama_peer", process.PEERS / "llama_cpp.py")
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    return peer


def test_llama_cpp_asks_for_a_gguf(tmp_path: Path, monkeypatch, llama: ModuleType):
    monkeypatch.delenv("CRANE_BENCH_GGUF", raising=False)
    with pytest.raises(CraneError, match=r"needs one GGUF .* 0 found"):
        llama.gguf(tmp_path)
    (tmp_path / "a.gguf").touch()
    assert llama.gguf(tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    assert llama.gguf(tmp_path / "b.gguf") == tmp_path / "b.gguf"


def test_llama_cpp_counts_as_fast_as_the_better_of_flash_attention_on_and_off(llama: ModuleType):
    seconds = {"off": 2.0, "on": 1.0}
    side = llama.LlamaCpp.__new__(llama.LlamaCpp)
    side.models, side.case, side._grow = list(seconds), (), lambda length: None
    assert side._fastest(("prefill", 4), 4, seconds.__getitem__) == 1.0
    assert side.models == ["on", "off"]


def test_the_benchmarks_and_the_peers_are_listed():
    told = subprocess.run([sys.executable, "-m", "benchmarks"], capture_output=True, text=True, cwd=process.ROOT)
    assert told.returncode == 0
    for name in ("torch_decode", "crane bench", "transformers", "mlx_lm", "llama_cpp"):
        assert name in told.stdout
