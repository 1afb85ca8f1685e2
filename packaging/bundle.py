"""Packs Crane for this system into dist/, measures it, and fails where it has grown too large.

    python packaging/bundle.py [--without-torch] [--keep FOLDER]

PyInstaller works in a folder of its own that goes afterwards; the source tree gets nothing but dist/'s artefact.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import hollow
import icons
import recipe

HERE = Path(__file__).parent
MB = 10**6
LEVEL = "-12"  # of zstd: -19 is 5 % smaller and takes ten times as long
TOOLS = ("cc", "strip")  # a compiler's and its linker's packages have all that is used of them
LINKED = "opencv_python_headless.libs"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pack Crane for this system.")
    parser.add_argument("--without-torch", action="store_true", help="With MLX in its place, as on macOS")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Leave the unpacked program there as well")
    args = parser.parse_args(argv)
    plan = recipe.plan(backend="mlx" if args.without_torch else "")
    if lacking := recipe.lacking(plan):
        raise SystemExit(f"This bundle is made of packages that are missing here: {', '.join(lacking)}.")
    if plan.system == "linux" and plan.backend == "torch" and not importlib.metadata.version("torch").endswith("+cpu"):
        raise SystemExit("The torch here carries CUDA, gigabytes of it. Install the one of PyTorch's CPU index.")
    if plan.system == "linux" and (absent := [tool for tool in TOOLS if shutil.which(tool) is None]):
        raise SystemExit(f"Packing needs {' and '.join(absent)}: apt-get install gcc binutils")
    with tempfile.TemporaryDirectory(prefix="crane-bundle-") as work:
        folder = build(plan, Path(work))
        tell(folder)
        made = pack(plan, folder, recipe.ROOT / "dist")
        if args.keep is not None:
            shutil.copytree(folder, args.keep / folder.name, symlinks=True)
    return judge(plan, made)


def build(plan: recipe.Plan, work: Path) -> Path:
    """The program's folder, under the name that it has in the artefact."""
    icons.write(work / "icons")
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--distpath", str(work / "dist"), "--workpath", str(work / "build"), str(HERE / "crane.spec")]
    more = {"CRANE_BACKEND": plan.backend, "CRANE_ICONS": str(work / "icons"), "PYTHONPATH": str(recipe.ROOT)}
    subprocess.run(command, cwd=work, env={**os.environ, **more}, check=True)
    folder = work / recipe.artefact(plan, machine())
    if plan.system == "darwin":
        folder.mkdir()
        shutil.move(work / "dist" / "Crane.app", folder)
    else:
        shutil.move(work / "dist" / "crane", folder)
    if plan.system == "linux":
        _slim_linux(folder / "_internal")
        _add_linux(folder, work / "icons")
    return folder


def pack(plan: recipe.Plan, folder: Path, into: Path) -> Path:
    """The folder as one file in `into`, there only when it is whole, with its SHA-256 in a file beside it."""
    into.mkdir(exist_ok=True)
    made = folder.with_name(f"{folder.name}{'.tar.' + _tar(plan) if plan.system == 'linux' else '.zip'}")
    if plan.system == "linux":
        code = "--x86" if machine() == "x86_64" else ""  # prepares jumps, which makes programs a tenth smaller
        squeeze = f"zstd -T0 -q {LEVEL}" if _tar(plan) == "zst" else f"xz -T0 {code} --lzma2=preset=6"
        command = ["tar", "--owner=0", "--group=0", f"--use-compress-program={squeeze}", "-cf", made, folder.name]
        subprocess.run(command, cwd=folder.parent, check=True)
    elif plan.system == "darwin":  # a zip that keeps links and signatures
        subprocess.run(["ditto", "-c", "-k", "--keepParent", folder, made], check=True)
    else:
        shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    with made.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (into / f"{made.name}.sha256").write_text(f"{digest}  {made.name}\n", "utf-8")
    return Path(shutil.move(made, into / made.name))


def tell(folder: Path) -> None:
    """What takes the room, unpacked."""
    sizes: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            sizes[_part(path.relative_to(folder))] += path.stat().st_size
    print(f"{sum(sizes.values()) / MB:7.1f} MB unpacked, of which")
    for name, size in sizes.most_common(14):
        print(f"{size / MB:7.1f} MB {name}")


def judge(plan: recipe.Plan, made: Path) -> int:
    """0 if the artefact is within its limit, else 1."""
    size, most = made.stat().st_size / MB, recipe.MOST_MB[plan.backend]
    print(f"{size:7.1f} MB {made.name} (at most {most} MB)")
    if size > most:
        print(f"The artefact is {size - most:.1f} MB too large.", file=sys.stderr)
    return int(size > most)


def machine() -> str:
    """This processor's family, as artefacts name it."""
    return {"AMD64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _slim_linux(inner: Path) -> None:
    """Without the names of functions, which only debuggers read, and without what OpenCV is linked with in vain."""
    for path in inner.rglob("*.so*"):
        # auditwheel has moved parts of those in *.libs about, and strip does not always understand that.
        if path.is_file() and not path.is_symlink() and not path.parent.name.endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", path], check=True)
    if (inner / LINKED).is_dir():
        gone = {path.name for path in hollow.hollow(next(inner.glob("cv2/cv2*.so")), inner / LINKED)}
        for name in gone:
            (inner / name).unlink(missing_ok=True)  # a link to it


def _add_linux(folder: Path, drawn: Path) -> None:
    """share/, in the layout of ~/.local and /usr: the menu entry, the description for shops, the icons."""
    share = folder / "share"
    shutil.copytree(drawn / "hicolor", share / "icons" / "hicolor")
    for file, kind in (("crane.desktop", "applications"), (f"{recipe.IDENTITY}.metainfo.xml", "metainfo")):
        (share / kind).mkdir(parents=True)
        shutil.copy(HERE / "linux" / file, share / kind)


def _part(path: PurePosixPath | Path) -> str:
    """What a file of the program is counted with: its package, or itself."""
    parts = [part for part in path.parts if part not in ("_internal", "Crane.app", "Contents")]
    return parts[0] if len(parts) < 3 or parts[0] not in ("Frameworks", "Resources", "MacOS") else parts[1]


def _tar(plan: recipe.Plan) -> str:
    """How the tar is compressed: zstd unpacks ten times as fast as xz, which is a fifth smaller."""
    return "zst" if plan.backend == "torch" and shutil.which("zstd") else "xz"


if __name__ == "__main__":
    sys.exit(main())
