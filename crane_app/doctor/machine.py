"""What this machine has and lacks, what each missing thing costs, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crane_app import backends
from crane_app.backends import processor
from crane_app.doctor import phases
from crane_app.errors import CraneError
from crane_app.library import fit, hub_cache
from crane_app.library.store import Store
from crane_app.version import VERSION

PACKAGES = ("mlx", "torch", "tokenizers", "safetensors", "PySide6_Essentials", "rapidocr", "onnxruntime", "numpy")
ROOM, LITTLE = 5 * 10**9, 4 * 10**9  # bytes: of free disk for a first model; of memory, below which few models fit
COMPILERS = ("cc", "gcc", "clang", "cl")
COMPILER = "Install a compiler for C (Debian and Ubuntu: apt-get install gcc), then Crane again."
AGAIN = "They were not built, though there is a compiler for C here: install Crane again (make install in a clone)."
SMALL = "Only the smallest models fit."
WHOLE = "It came with this program, which is damaged: unpack it again."
DRIVER = "Install the NVIDIA driver, and PyTorch as pytorch.org says for CUDA."
FROM_SOURCE = "This program has PyTorch for the processor alone; installed from its source, Crane can use the card."
# Module -> what cannot be done without it, and its package.
ESSENTIAL = {"numpy": "numpy", "tokenizers": "tokenizers", "safetensors": "safetensors", "jinja2": "jinja2"}
USEFUL = {
    "huggingface_hub": ("Models cannot be downloaded.", "huggingface_hub"),
    "rapidocr": ("Pictures cannot be read.", "rapidocr onnxruntime"),
    "pypdfium2": ("PDFs cannot be read.", "pypdfium2"),
    "soundfile": ("Sound files cannot be read or written.", "soundfile"),
    "PySide6": ("There is no window; the commands work.", "PySide6-Essentials==6.11.3"),
}
FONTS = {
    "Chinese": "fonts-noto-cjk",
    "Japanese": "fonts-noto-cjk",
    "Korean": "fonts-noto-cjk",
    "Arabic": "fonts-noto-core",
    "emoji": "fonts-noto-color-emoji",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked for: whether it is there and what was seen; what its absence costs, and what mends it.

    essential: nothing works without it.
    """

    name: str
    ok: bool
    seen: str
    costs: str = ""
    mend: str = ""
    essential: bool = False


def versions() -> dict[str, str | None]:
    """Versions of Crane, Python, the system and the packages; None for what is not installed."""
    facts: dict[str, str | None] = {
        "crane": VERSION,
        "commit": _commit(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    facts |= {name.lower(): _version(name) for name in PACKAGES}
    names = backends.installed()
    facts["backend"] = names[0] if names else None
    facts["device"] = _device(names[0]) if names else None
    return facts


def findings() -> list[Finding]:
    """Everything worth telling, most important first."""
    return [
        Finding("python", sys.version_info[:2] == (3, 11), platform.python_version(), mend=_python(), essential=True),
        *(_backend(name) for name in backends.NAMES),
        *_graphics(),
        *(_package(module, "Nothing works without it.", package, True) for module, package in ESSENTIAL.items()),
        *(_package(module, *what) for module, what in USEFUL.items()),
        *_sound(),
        _voice(),
        *_seen_by_qt(),
        *_room(),
    ]


def _python() -> str:
    return "" if sys.version_info[:2] == (3, 11) else "Install Python 3.11, and Crane for it."


def _backend(name: str) -> Finding:
    title = f"backend {name}"
    if importlib.util.find_spec(name) is None:
        return Finding(title, False, "not installed", "One of the two is enough.", _other_backend(name))
    try:
        backend = backends.choose(name)
    except CraneError as error:
        return Finding(title, False, str(error))
    except Exception as error:  # a library that is damaged raises what it likes
        seen = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding(title, False, seen, "It cannot compute.", WHOLE if _packed() else "Install it again.")
    seen = f"{backend.device.kind} ({backend.device.name}), {backend.dtype} by default"
    if name == "mlx" or backend.device.kind != "cpu":
        return Finding(title, True, seen)
    if speed := processor.remembered(name):
        seen += f" ({speed})"
    kernels = getattr(backend, "kernels", None)
    if kernels:
        return Finding(title, True, f"{seen}, kernels for {kernels}")
    return Finding(title, True, f"{seen}, no kernels of Crane's own", "Models run several times slower.", _compile())


def _compile() -> str:
    """How Crane's own kernels are had: a packed program came with them."""
    if _packed():
        return WHOLE
    return AGAIN if any(map(shutil.which, COMPILERS)) else COMPILER


def _other_backend(name: str) -> str:
    """How a backend is had that is not here: a packed program has the one that it was packed with."""
    if _packed():
        return "" if backends.installed() else WHOLE
    return "It needs Apple Silicon, or pip install 'mlx[cpu]' on Linux." if name == "mlx" else _get("torch==2.13.0")


def _graphics() -> Iterator[Finding]:
    """A card of NVIDIA's that the tensor library cannot use."""
    if shutil.which("nvidia-smi") is None or importlib.util.find_spec("torch") is None:
        return
    kind = _device("torch")
    costs = "" if kind == "cuda" else "Models run on the processor, many times slower."
    mend = "" if kind == "cuda" else FROM_SOURCE if _packed() else DRIVER
    yield Finding("NVIDIA GPU", kind == "cuda", "in use" if kind == "cuda" else "PyTorch does not see it", costs, mend)


def _package(module: str, costs: str, package: str, essential: bool = False) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(module, False, "not installed", costs, _get(package), essential)
    return Finding(module, True, _version(package.split("==")[0].split()[0]) or "installed", essential=essential)


def _sound() -> Iterator[Finding]:
    """PortAudio, and the devices that it lists."""
    if importlib.util.find_spec("sounddevice") is None:
        yield Finding("sound", False, "not installed", "No dictation; no sound.", _get("sounddevice"))
        return
    from crane_app.platform import microphone, speaker

    for name, listed, costs in (
        ("microphone", lambda: [one.name for one in microphone.devices()], "Nothing can be dictated; files can."),
        ("speaker", speaker.devices, "Speech cannot be heard, only saved."),
    ):
        try:
            found = list(listed())
        except CraneError as error:
            yield Finding(name, False, str(error), costs)
            continue
        seen = f"{len(found)}: {', '.join(found[:3])}" if found else "none"
        yield Finding(name, bool(found), seen, *(("", "") if found else (costs, "Connect one.")))


def _voice() -> Finding:
    from crane_app.platform import voices

    try:
        found = voices.find()
        count = len(found.voices())
    except CraneError as error:
        return Finding("system voice", False, str(error), "Nothing can be read aloud.")
    return Finding("system voice", count > 0, f"{found.name}, {count} voices", "" if count else "It has no voices.")


def _seen_by_qt() -> Iterator[Finding]:
    """The screen, and the fonts of scripts that a model may answer in; from a process of its own."""
    if importlib.util.find_spec("PySide6") is None:
        return
    try:
        problem = phases.told(["screen"])["problem"]
        yield Finding("screen", not problem, problem or "there", "The window does not open." if problem else "")
        for script, family in phases.told(["fonts"]).items():
            yield _font(script, family)
    except (OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as error:
        yield Finding("window", False, f"Qt does not start ({type(error).__name__})", "The window does not open.")


def _font(script: str, family: str) -> Finding:
    name = f"font: {script}"
    if family:
        return Finding(name, True, family)
    mend = f"Debian and Ubuntu: apt-get install {FONTS[script]}" if sys.platform == "linux" else "Install a font."
    return Finding(name, False, "none", "Its letters are empty boxes.", mend)


def _room() -> Iterator[Finding]:
    """Memory, disk, and the folder of downloaded models."""
    memory, cache = fit.memory(), hub_cache.root()
    yield Finding("memory", memory >= LITTLE, fit.human(memory), "" if memory >= LITTLE else SMALL)
    yield Finding("computed for conversations", True, f"{fit.human(Store().nbytes())} on disk")
    free = fit.free_disk(cache)
    low = free < ROOM
    yield Finding(
        "disk", not low, f"{fit.human(free)} free", *(("Few models can be kept.", "Free some.") if low else ())
    )
    count = sum(1 for _ in hub_cache.repos(cache))
    mend = "" if count else "Get one: crane models get Qwen/Qwen3-0.6B"
    yield Finding("downloaded models", count > 0, f"{count} in {cache}", "" if count else "Nothing to chat with.", mend)


def _get(package: str) -> str:
    """How a part is had that Crane needs: a packed program came with all of them."""
    return WHOLE if _packed() else f"pip install {package}"


def _packed() -> bool:
    return bool(getattr(sys, "frozen", False))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(name: str) -> str | None:
    try:
        return backends.choose(name).device.kind
    except CraneError:
        return None


def _commit() -> str | None:
    """The commit of a checkout; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    told = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None
