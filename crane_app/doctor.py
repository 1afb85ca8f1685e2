"""What this machine has and lacks, and what each missing thing costs. Prints only; changes nothing."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from crane_app import backends
from crane_app.errors import CraneError
from crane_app.version import VERSION

PACKAGES = ("mlx", "torch", "tokenizers", "safetensors", "PySide6_Essentials", "rapidocr", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Finding:
    """One thing looked for: whether it is there, what was seen, and what its absence costs and mends."""

    name: str
    ok: bool
    seen: str
    mend: str = ""


def run(as_json: bool = False) -> int:
    """Print the findings; 1 if Crane can do nothing at all here, else 0."""
    found = findings()
    if as_json:
        print(json.dumps({"versions": versions(), "findings": [asdict(f) for f in found]}, indent=2))
    else:
        for f in found:
            print(f"{'ok     ' if f.ok else 'missing'}  {f.name:18} {f.seen}")
            if f.mend:
                print(f"{'':9}{'':18} {f.mend}")
    return 0 if any(f.ok and f.name.startswith("backend") for f in found) else 1


def versions() -> dict[str, str | None]:
    """Versions of Crane, Python, the system and the packages; None for what is not installed."""
    facts: dict[str, str | None] = {
        "crane": VERSION,
        "commit": _commit(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in PACKAGES:
        try:
            facts[name.lower()] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name.lower()] = None
    names = backends.installed()
    facts["backend"] = names[0] if names else None
    facts["device"] = _device(names[0]) if names else None
    return facts


def findings() -> list[Finding]:
    """Everything worth telling, most important first."""
    disk = shutil.disk_usage(Path.home())
    return [
        Finding("python", sys.version_info[:2] == (3, 11), platform.python_version()),
        *(_backend(name) for name in backends.NAMES),
        _package("reader", "rapidocr", "Pictures cannot be read. pip install rapidocr onnxruntime"),
        _package("window", "PySide6", "No window; the commands work. pip install PySide6-Essentials==6.11.3"),
        _library("sound", "portaudio", "No microphone or speaker. Debian: apt-get install libportaudio2"),
        _program("system voice", _voice(), "Nothing can be read aloud."),
        Finding("disk", disk.free > 5e9, f"{disk.free / 1e9:.0f} GB free in the home folder"),
    ]


def _backend(name: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        hint = (
            "Needs Apple Silicon, or pip install 'mlx[cpu]' on Linux." if name == "mlx" else "pip install torch==2.13.0"
        )
        return Finding(f"backend {name}", False, "not installed", hint)
    try:
        backend = backends.choose(name)
    except CraneError as error:
        return Finding(f"backend {name}", False, str(error))
    seen = f"{backend.device.kind} ({backend.device.name}), {backend.dtype} by default"
    mend = "" if getattr(backend, "packs", True) else "Products of this type are not packed here, so it is slower."
    return Finding(f"backend {name}", True, seen, mend)


def _package(name: str, module: str, mend: str) -> Finding:
    found = importlib.util.find_spec(module) is not None
    return Finding(name, found, module if found else "not installed", "" if found else mend)


def _library(name: str, library: str, mend: str) -> Finding:
    bundled = sys.platform in ("darwin", "win32")  # inside sounddevice's wheel
    path = "bundled" if bundled else ctypes.util.find_library(library)
    return Finding(name, path is not None, path or f"{library} not found", "" if path else mend)


def _program(name: str, program: str, mend: str) -> Finding:
    path = shutil.which(program)
    hint = "" if path else f"{mend} Debian: apt-get install {program}" if sys.platform == "linux" else mend
    return Finding(name, path is not None, path or f"{program} not found", hint)


def _voice() -> str:
    return {"darwin": "say", "win32": "powershell"}.get(sys.platform, "espeak-ng")


def _device(name: str) -> str | None:
    try:
        return backends.choose(name).device.kind
    except CraneError:
        return None


def _commit() -> str | None:
    """The commit of a checkout; None for an installed package."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    told = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None
