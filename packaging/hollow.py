"""Makes libraries hollow that OpenCV is linked with and Crane never calls: what decodes films, AVIF and algebra.

A hollow library has the name, the versions and the functions that OpenCV asks for when it is loaded, and each function
ends the process. Crane reads pictures by Pillow and calls OpenCV's arithmetic on pixels alone. Linux only.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

UNCALLED = ("libavcodec", "libavformat", "libavutil", "libswscale", "libavif", "libopenblas")
Symbols = dict[str, str]  # name -> version, "" for none


def hollow(user: Path, folder: Path) -> list[Path]:
    """Empties the libraries of UNCALLED in `folder` for `user`, which is linked with them.

    What only they need is dropped and returned.
    """
    asked = _symbols(user, "--undefined-only")
    for name in UNCALLED:
        (library,) = folder.glob(f"{name}*")
        offered = _symbols(library, "--defined-only")
        _write(library, {symbol: offered[symbol] for symbol in asked if symbol in offered})
    needed = set(_needed(user))
    dropped = [path for path in folder.iterdir() if path.name not in needed and not _serves(path, folder, needed)]
    for path in dropped:
        path.unlink()
    return dropped


def _serves(path: Path, folder: Path, needed: Iterable[str]) -> bool:
    """Whether a library that is needed needs this one in turn."""
    return any(path.name in _needed(folder / name) for name in needed if (folder / name).exists())


def _symbols(library: Path, which: str) -> Symbols:
    told = _told("nm", "-D", which, str(library))
    words = [line.split()[-1].partition("@") for line in told.splitlines()]
    return {name: version.lstrip("@") for name, _, version in words}


def _needed(library: Path) -> list[str]:
    lines = _told("readelf", "-dW", str(library)).splitlines()
    return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]


def _write(library: Path, symbols: Symbols) -> None:
    versions: dict[str, list[str]] = defaultdict(list)
    for name, version in symbols.items():
        versions[version].append(name)
    named = {version: names for version, names in versions.items() if version}
    code = "".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in symbols)
    script = "".join(f"{version} {{ global: {'; '.join(names)}; }};\n" for version, names in named.items())
    with tempfile.TemporaryDirectory(prefix="crane-hollow-") as work:
        source, map_ = Path(work, "hollow.c"), Path(work, "hollow.map")
        source.write_text(code, "utf-8")
        map_.write_text(script, "utf-8")
        flags = ["-shared", "-fPIC", "-nostdlib", "-fno-builtin", "-w", "-s", f"-Wl,-soname,{library.name}"]
        flags += [f"-Wl,--version-script,{map_}"] if named else []
        subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
