"""Tries a packed Crane as a stranger would: another folder, an empty home, no Python, no environment.

    python packaging/smoke.py ARTEFACT [--picture FILE.png]

This script runs from the source, for the tiny model and the expected words; the program it starts sees neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "crane_app" / "assets" / "demo"
PATIENCE_S = 120.0  # a cold start of a loaded machine reads hundreds of MB
LINGER_S = 30.0  # the engine stays ten seconds after its last client
STRANGE = "packed Crane 🪶"  # a space and an emoji
PLAIN = ("--max-tokens", "24", "--temperature", "0", "--device", "cpu", "--dtype", "float32")
SYSTEMS_OWN = (
    "fontconfig",
    "mesa_shader_cache",
    "Caches",
    "Saved Application State",
)  # what the system's libraries keep
FOREIGN = ("site-packages", ".venv", ".pyenv", str(ROOT))  # no program's memory may hold a file of these


class Failed(Exception):
    """What was expected of the packed program and did not come."""


class Packed:
    """An unpacked artefact in `room`, and the bare environment it is run in."""

    def __init__(self, artefact: Path, room: Path):
        self.folder, self.home, self.temporary = room / STRANGE, room / "home", room / "tmp"
        self.desk, run = room / "desk", room / "run"  # the desk: what the checks themselves make
        for path in (self.folder, self.home, self.temporary, self.desk, run):
            path.mkdir(mode=0o700)
        unpack(artefact, self.folder)
        inner = next(self.folder.iterdir())
        names = {"darwin": "Crane.app/Contents/MacOS/Crane", "win32": "crane-cli.exe"}
        self.program = inner / names.get(sys.platform, "crane")
        self.env = {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temporary),
            "XDG_RUNTIME_DIR": str(run),
        }
        if sys.platform == "win32":
            kept = {name: os.environ[name] for name in ("SYSTEMROOT", "PATH", "PATHEXT", "COMSPEC")}
            mine = dict.fromkeys(("APPDATA", "LOCALAPPDATA", "USERPROFILE"), str(self.home))
            self.env = {**kept, **mine, "TEMP": str(self.temporary), "TMP": str(self.temporary)}

    def ask(self, *words: str, typed: str = "") -> str:
        """What a command prints when it is given `typed`. Failed for any status but 0."""
        given = {"input": typed.encode(), "capture_output": True, "timeout": PATIENCE_S}
        try:
            done = subprocess.run([str(self.program), *words], cwd=self.home, env=self.env, check=False, **given)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"'{' '.join(words)}' took more than {PATIENCE_S:.0f} s") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-600:]
            raise Failed(f"'{' '.join(words)}' ended with {done.returncode}: {said}")
        return done.stdout.decode("utf-8", "replace")

    def living(self) -> dict[int, str]:
        """Processes of this very program: id -> command line."""
        if sys.platform == "win32":
            ask = 'Get-CimInstance Win32_Process | % { "$($_.ProcessId) $($_.CommandLine)" }'
            listing = ["powershell", "-NoProfile", "-Command", ask]
        else:
            listing = ["ps", "-axww", "-o", "pid=,command="]
        env = {**os.environ, "LC_ALL": "C.UTF-8"}  # else ps has question marks for an emoji
        told = subprocess.run(listing, env=env, capture_output=True, encoding="utf-8", errors="replace", check=True)
        rows = (line.strip().split(maxsplit=1) for line in told.stdout.splitlines())
        mine = (f"{self.folder}", f'"{self.folder}')
        return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[1].startswith(mine)}

    def engines(self) -> list[int]:
        return [pid for pid, command in self.living().items() if "--engine" in command]

    @property
    def backend(self) -> str:
        return "mlx" if next(self.folder.rglob("libmlx*"), None) else "torch"

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


def unpack(artefact: Path, into: Path) -> None:
    if artefact.suffix != ".zip":
        subprocess.run(["tar", "-xf", str(artefact), "-C", str(into)], check=True)
    elif sys.platform == "darwin":  # keeps links, modes and signatures, which Python's zipfile does not
        subprocess.run(["ditto", "-x", "-k", str(artefact), str(into)], check=True)
    else:
        shutil.unpack_archive(artefact, into)


def says_what_it_is(packed: Packed) -> str:
    said = packed.ask("version").strip()
    expect("crane" in said.lower(), f"'version' says {said!r}")
    return said.splitlines()[0]


def reads_the_picture(packed: Packed) -> str:
    """The sample page, word by word."""
    found, wanted = packed.ask("ocr", str(DEMO / "page.png")), (DEMO / "page.txt").read_text("utf-8")
    expect(found.split() == wanted.split(), f"the sample page reads {found[:200]!r}")
    return f"{len(found.split())} words, all right"


def speaks(packed: Packed) -> str:
    """A sentence by the system's voice, as samples that are not silent."""
    import numpy as np
    import soundfile

    target = packed.desk / "crane.wav"
    packed.ask("say", "Cranes stand in shallow water.", "--out", str(target))
    samples, rate = soundfile.read(target)
    loudness = float(np.sqrt(np.mean(samples**2)))
    expect(len(samples) > rate and loudness > 0.01, f"{len(samples) / rate:.2f} s of loudness {loudness:.4f}")
    return f"{len(samples) / rate:.1f} s of sound"


def hears(packed: Packed) -> str:
    """Where the sample recording has speech."""
    found = packed.ask("vad", str(DEMO / "speech.ogg")).strip().splitlines()
    expect(bool(found), "no speech in the sample recording")
    return f"{len(found)} lines"


def answers(packed: Packed) -> str:
    """A tiny model, in the command's own process; the text is the one that the source makes."""
    model = tiny_model(packed)
    found = packed.ask("generate", "--model", model, "--prompt", "The crane is", *PLAIN)
    wanted = from_source(packed, "generate", "--model", model, "--prompt", "The crane is", *PLAIN)
    expect(len(found.split()) > 0 and found == wanted, f"it says {found!r}, the source says {wanted!r}")
    return f"{len(found.strip())} signs, as from the source"


def converses(packed: Packed) -> str:
    """The tiny model again, in an engine that is a process of the packed program."""
    model = tiny_model(packed)
    found = packed.ask("chat", "--model", model, *PLAIN, typed="Hello\n")
    engines = packed.engines()
    expect(len(engines) == 1, f"one engine should be left, and there are {engines}")
    _watch_memory(engines[0])
    memory = _memory(engines[0])
    wanted = from_source(packed, "chat", "--model", model, *PLAIN, typed="Hello\n")
    expect(len(found.split()) > 0 and found == wanted, f"it says {found!r}, the source says {wanted!r}")
    return f"{len(found.strip())} signs, as from the source; by an engine of {memory}"


def tiny_model(packed: Packed) -> str:
    """Random weights and a byte-level tokenizer, written once."""
    folder = packed.desk / "tiny"
    if not folder.exists():
        sys.path.insert(0, str(ROOT))
        from tests.chat_checkpoint import write_chat

        write_chat(folder)
    return str(folder)


def from_source(packed: Packed, *words: str, typed: str = "") -> str:
    """What the same command prints when the source runs it, with the packed program's backend."""
    command = [sys.executable, "-m", "crane_app", *words, "--backend", packed.backend, "--new-engine"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, input=typed.encode(), capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def leaves(packed: Packed) -> str:
    """The engine goes after its last client."""
    start = time.monotonic()
    until(lambda: not packed.living(), LINGER_S, lambda: f"still there: {packed.living()}")
    return f"after {time.monotonic() - start:.1f} s"


def shows_a_window(packed: Packed, picture: Path | None = None) -> str:
    """The window comes, its engine comes, and a polite kill ends both."""
    errors = packed.desk / "window.log"
    with screen() as display, errors.open("wb") as log:
        env = {**packed.env, **display, "CRANE_DEBUG": "1"}
        start = time.monotonic()
        window = subprocess.Popen([str(packed.program)], cwd=packed.home, env=env, stdout=log, stderr=log)
        try:
            until(
                lambda: window.poll() is not None or b"can be used" in errors.read_bytes(),
                PATIENCE_S,
                lambda: "no window",
            )
            expect(window.poll() is None, f"it ended: {errors.read_text('utf-8', 'replace')[-600:]}")
            usable = time.monotonic() - start
            until(lambda: packed.engines(), PATIENCE_S, lambda: "no engine")
            _watch_memory(window.pid)
            memory = _memory(window.pid)
            if picture is not None and display and shutil.which("import"):
                time.sleep(3)  # for the picture alone: what comes after the first frame
                subprocess.run(["import", "-window", "root", str(picture)], env={**os.environ, **display}, check=True)
        finally:
            window.terminate()
        status = window.wait(PATIENCE_S)
        expect(status == 0 or sys.platform == "win32", f"the window ended with {status}")
    phases = re.findall(r"(\w+ \d+ ms)", errors.read_text("utf-8"))
    return f"usable after {usable:.2f} s ({', '.join(phases)}); {memory}"


def examines_itself(packed: Packed) -> str:
    """The doctor finds everything that was packed, times each phase of a start, and never sends to pip."""
    with screen() as display:
        packed.env |= display
        try:
            told = packed.ask("doctor", "--json")
        finally:
            for name in display:
                del packed.env[name]
    found = json.loads(told)
    lacking = [one["name"] for one in found["findings"] if "damaged" in one["mend"]]
    expect(not lacking, f"it lacks {', '.join(lacking)}")
    expect(not found["broken"], f"phases of a start: {found['broken']}")
    expect("pip install" not in told, "it sends to pip")
    expect("no kernels" not in told, "it has no kernels of Crane's own")
    names = {one["name"] for one in found["findings"]}
    expect({"screen", "font: emoji"} <= names, f"it looked at {sorted(names)} only")
    wrong = [check for check in found["checks"] if not check["ok"]]
    expect(bool(found["checks"]) and not wrong, f"self-test: {wrong}")
    return ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in found["phases"].items())


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Failed(otherwise)


def until(condition: Callable[[], object], seconds: float, otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, otherwise())
        time.sleep(0.05)


@contextlib.contextmanager
def screen() -> Iterator[dict[str, str]]:
    """An Xvfb, as variables; nothing where the system has a screen of its own."""
    if sys.platform != "linux":
        yield {}
        return
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield {"DISPLAY": f":{pipe.readline().strip()}"}
    finally:
        server.terminate()
        server.wait(10)


def _watch_memory(pid: int) -> None:
    """Failed where a process has a file of this checkout or of a virtual environment in its memory."""
    if sys.platform == "linux":
        maps = Path(f"/proc/{pid}/maps").read_text("utf-8", "replace")
        foreign = sorted({line.split(maxsplit=5)[-1] for line in maps.splitlines() if any(f in line for f in FOREIGN)})
        expect(not foreign, f"process {pid} uses {foreign[:3]}")


def _memory(pid: int) -> str:
    if sys.platform != "linux":
        return "memory not read"
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Try a packed Crane.")
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="Where the window is drawn to, on Linux")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="crane-smoke-") as room:
        packed = Packed(args.artefact.resolve(), Path(room))
        try:
            return _try(packed, args.picture.resolve() if args.picture else None)
        finally:
            for pid in packed.living():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _try(packed: Packed, picture: Path | None) -> int:
    def again(packed: Packed) -> str:
        return shows_a_window(packed, picture)

    once = (says_what_it_is, reads_the_picture, speaks, hears, answers, converses, leaves, examines_itself, leaves)
    checks = (*once, shows_a_window, leaves, again, leaves)
    before, failed = packed.files(), 0
    print(f"{len(before)} files in {packed.folder.name}", flush=True)
    for check in checks:
        start = time.monotonic()
        try:
            told, word = check(packed), "ok"
        except Failed as error:
            told, word = str(error), "FAILED"
            failed += 1
        print(f"{word:7} {check.__name__:20} {time.monotonic() - start:6.2f} s  {told}", flush=True)
    left = traces(packed, before)
    print(
        f"{'FAILED' if left else 'ok':7} {'leaves no trace':20}           {', '.join(left) or 'but in its own folders'}"
    )
    failed += bool(left)
    print(f"{len(checks) + 1 - failed} passed, {failed} failed")
    return int(bool(failed))


def traces(packed: Packed, before: list[str]) -> list[str]:
    """What is where nothing should be: in the program's folder, in the temporary one, in the home."""
    found = sorted({*packed.files()} ^ {*before})
    compiled = packed.temporary / "mlx"  # MLX keeps there what it has compiled, on a machine with a compiler
    found += [str(path) for path in packed.temporary.rglob("*") if path.is_file() and compiled not in path.parents]
    own = {"crane", *SYSTEMS_OWN}
    found += [str(path) for path in packed.home.rglob("*") if path.is_file() and not own & {*path.parts}]
    return found


if __name__ == "__main__":
    sys.exit(main())
