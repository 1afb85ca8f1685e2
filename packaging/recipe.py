"""What goes into the packed program on each system: one table for the spec, the build and their tests.

Looks at files and at the metadata of installed packages; imports neither Crane nor PyInstaller.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "crane_app"
IDENTITY = "app.crane.Crane"
SENTENCE = "Private, fast, local AI"
COPYRIGHT = "MIT licence"
SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}  # sys.platform -> its name in an artefact's
BACKENDS = ("torch", "mlx")
MOST_MB = {"torch": 400, "mlx": 150}  # of the compressed artefact, in 10^6 bytes

NATIVE = "crane_app.backends.torch._native"  # built in place by make install, and loaded by ctypes
# mlx's C++ imports the first two by itself, where no analysis sees it; without them the frozen program dies.
MLX = ("mlx._reprlib_fix", "mlx.__array_api_info", "mlx.core", "mlx.nn", "mlx.utils", "mlx.optimizers")
READER_MODELS = (
    "PP-OCRv6_det_small.onnx",
    "PP-OCRv6_rec_small.onnx",
    "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
)
# What the import graph reaches and no way through Crane does: tools of developers, and other frameworks' adapters.
NEVER = (
    "IPython",
    "_pytest",
    "hf_xet",
    "hypothesis",
    "matplotlib",
    "mypy",
    "onnxruntime.quantization",
    "onnxruntime.tools",
    "onnxruntime.transformers",
    "openai",
    "pandas",
    "pip",
    "pydantic",
    "pytest",
    "pytestqt",
    "rapidocr.inference_engine.mnn",
    "rapidocr.inference_engine.openvino",
    "rapidocr.inference_engine.paddle",
    "rapidocr.inference_engine.pytorch",
    "rapidocr.inference_engine.tensorrt",
    "rich",
    "ruff",
    "scipy",
    "sentencepiece",
    "setuptools",
    "starlette",
    "tensorboard",
    "tkinter",
    "triton",
    "torch.utils.tensorboard",
    "uvicorn",
    "PySide6.QtOpenGL",
    "PySide6.QtQml",
    "PySide6.QtQuick",
)
# Files that hooks collect and Crane never opens. Names are within the program's folder, with forward slashes.
UNUSED = (
    "PySide6/*translations/*",
    "PySide6/*qml/*",
    "*/plugins/egldeviceintegrations/*",
    "*/plugins/generic/*",
    "*/plugins/networkinformation/*",
    "*/plugins/tls/*",
    "*/plugins/platforminputcontexts/*virtualkeyboard*",
    "*/plugins/platforms/*eglfs*",
    "*/plugins/platforms/*linuxfb*",
    "*/plugins/platforms/*minimalegl*",
    "*/plugins/platforms/*vkkhrdisplay*",
    "*/plugins/platforms/*vnc*",
    "*/plugins/platformthemes/*gtk3*",
    "*/plugins/imageformats/*qpdf*",
    *(f"PySide6/*Qt{six}{name}*" for six in ("6", "") for name in ("EglFS", "OpenGL", "Pdf", "Qml", "Quick")),
    *(f"libQt6{name}*" for name in ("EglFS", "OpenGL", "Pdf", "Qml", "Quick")),  # links to those
    "PySide6/*VirtualKeyboard*",
    "PySide6/opengl32sw.dll",
    "cv2/opencv_videoio_ffmpeg*",  # on Windows it is looked for when a film is opened
    "torch/bin/[!t]*",
    "torch/bin/test_*",
    "torch/include/*",
    "torch/share/*",
    "torch/test/*",
    "torch/testing/*",
    "torch/lib/libaoti_custom_ops*",
    "torch/lib/libbackend_with_compiler*",
    "torch/lib/libjitbackend_test*",
    "torch/lib/libtorchbind_test*",
    "mlx/include/*",
    "mlx/share/*",
)
DOCUMENTS = ("public.png", "public.jpeg", "public.tiff", "org.webmproject.webp", "com.adobe.pdf")


@dataclass(frozen=True)
class Plan:
    """The contents for one system. Pairs are (file here, folder in the program); modules are dotted names."""

    system: str  # of SYSTEMS
    backend: str  # of BACKENDS
    hidden: tuple[str, ...]
    excluded: tuple[str, ...]
    datas: tuple[tuple[str, str], ...]

    def keeps(self, name: str) -> bool:
        """Whether a collected file, by its name in the program's folder, is worth its room."""
        path = name.replace("\\", "/")
        # A second libmlx would look for its metallib beside itself, where there is none.
        if "/" not in path and path.startswith("libmlx"):
            return False
        return not any(fnmatch(path, pattern) for pattern in UNUSED)


def plan(system: str = "", backend: str = "") -> Plan:
    """The contents for `system` (sys.platform's words; this one). Without a backend: MLX on macOS, torch elsewhere."""
    system = system or sys.platform
    if system not in SYSTEMS:
        raise SystemExit(f"Crane is packed for {', '.join(SYSTEMS.values())}; this system calls itself {system}.")
    backend = backend or ("mlx" if system == "darwin" else "torch")
    if backend not in BACKENDS or (system, backend) in (("darwin", "torch"), ("win32", "mlx")):
        raise SystemExit(f"Crane is not packed with {backend} on {SYSTEMS[system]}.")
    other = BACKENDS[1 - BACKENDS.index(backend)]
    hidden = [*own_modules(other), *_mlx(system)] if backend == "mlx" else [*own_modules(other), "torch", NATIVE]
    absent = (other, f"crane_app.backends.{other}", *(("transformers", "mlx_lm") if system != "darwin" else ()))
    return Plan(
        system=system,
        backend=backend,
        hidden=tuple(hidden),
        excluded=(*NEVER, *absent),
        datas=(*_assets(), *_reader(), *_metadata(system, other), *(_metallib() if backend == "mlx" else ())),
    )


def version() -> str:
    """Crane's, read from its file."""
    found = re.search(r'VERSION = "([^"]+)"', (PACKAGE / "version.py").read_text("utf-8"))
    assert found is not None
    return found[1]


def artefact(plan: Plan, machine: str) -> str:
    """The name of the packed folder; the one without torch says so where torch is the rule."""
    kind = "-mlx" if plan.backend == "mlx" and plan.system != "darwin" else ""
    return f"crane-{version()}-{SYSTEMS[plan.system]}-{machine}{kind}"


def own_modules(without: str) -> Iterator[str]:
    """Crane's modules: verbs, views, models and voices are imported by name, where no analysis sees it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[1:3] != ("backends", without) and parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def info_plist() -> dict[str, object]:
    """macOS's Info.plist: what the app opens, may ask for, and needs."""
    return {
        "CFBundleName": "Crane",
        "CFBundleDisplayName": "Crane",
        "CFBundleIdentifier": IDENTITY,
        "CFBundleShortVersionString": version(),
        "CFBundleVersion": version(),
        "LSApplicationCategoryType": "public.app-category.productivity",
        "LSMinimumSystemVersion": "14.0",
        "LSArchitecturePriority": ["arm64"],
        "NSHighResolutionCapable": True,
        "NSHumanReadableCopyright": COPYRIGHT,
        "NSMicrophoneUsageDescription": "Crane turns what you say into text, on this Mac. No sound leaves it.",
        "CFBundleDocumentTypes": [
            {
                "CFBundleTypeName": "Pictures and PDFs with text",
                "CFBundleTypeRole": "Viewer",
                "LSHandlerRank": "Alternate",
                "LSItemContentTypes": list(DOCUMENTS),
            }
        ],
    }


def windows_version() -> str:
    """The version resource of the .exe, in the form that PyInstaller reads."""
    numbers = [int(part) for part in re.findall(r"\d+", version())[:3]]
    four = (*numbers, *[0] * (4 - len(numbers)))
    words = {
        "CompanyName": "Crane",
        "FileDescription": f"Crane: {SENTENCE}",
        "FileVersion": version(),
        "InternalName": "crane",
        "LegalCopyright": COPYRIGHT,
        "OriginalFilename": "Crane.exe",
        "ProductName": "Crane",
        "ProductVersion": version(),
    }
    table = ", ".join(f"StringStruct({name!r}, {value!r})" for name, value in words.items())
    return (
        f"VSVersionInfo(ffi=FixedFileInfo(filevers={four}, prodvers={four}, mask=0x3f, flags=0x0, OS=0x40004,"
        " fileType=0x1, subtype=0x0, date=(0, 0)),"
        f" kids=[StringFileInfo([StringTable('040904B0', [{table}])]),"
        " VarFileInfo([VarStruct('Translation', [1033, 1200])])])"
    )


def lacking(plan: Plan) -> list[str]:
    """The packages that this bundle is made of and that are not installed here."""
    wanted = ["PySide6", "rapidocr", "onnxruntime", "PyInstaller", plan.backend]
    wanted += ["mlx_lm"] if plan.system == "darwin" else []
    lacks = [name for name in wanted if importlib.util.find_spec(name) is None]
    if (plan.system, plan.backend) == ("linux", "torch") and not any(PACKAGE.glob("backends/torch/_native.*")):
        lacks.append(f"{NATIVE} (make install builds it where there is a compiler for C)")
    return lacks


def _mlx(system: str) -> Iterator[str]:
    yield from MLX
    if system == "darwin":
        yield "mlx_lm"
        # Chosen by the model_type of a checkpoint.
        for path in sorted(_folder("mlx_lm").glob("models/*.py")) if _installed("mlx_lm") else ():
            yield f"mlx_lm.models.{path.stem}"


def _assets() -> Iterator[tuple[str, str]]:
    yield str(PACKAGE / "assets"), "crane_app/assets"
    yield str(ROOT / "LICENSE"), "."


def _reader() -> Iterator[tuple[str, str]]:
    """RapidOCR's tables and the models that Crane names."""
    if not _installed("rapidocr"):
        return
    folder = _folder("rapidocr")
    for name in ("config.yaml", "default_models.yaml"):
        yield str(folder / name), "rapidocr"
    for name in READER_MODELS:
        yield str(folder / "models" / name), "rapidocr/models"


def _metallib() -> Iterator[tuple[str, str]]:
    """The compiled Metal kernels, beside the libmlx that looks for them (mlx/backend/metal/device.cpp)."""
    if _installed("mlx"):
        for path in sorted(_folder("mlx").glob("lib/*.metallib")):
            yield str(path), "mlx/lib"


def _metadata(system: str, other: str) -> Iterator[tuple[str, str]]:
    """The METADATA of Crane and of what it needs on `system`, for the versions and licences that it shows."""
    from packaging.requirements import Requirement

    here = {"sys_platform": system, "platform_machine": "arm64" if system == "darwin" else "x86_64", "extra": ""}
    seen: set[str] = {other}
    wanted = ["crane-app", *BACKENDS]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen or (folder := _dist_info(name)) is None:
            continue
        seen.add(name)
        yield str(folder / "METADATA"), folder.name
        for need in map(Requirement, importlib.metadata.distribution(name).requires or ()):
            if need.marker is None or need.marker.evaluate(here):
                wanted.append(need.name)


def _dist_info(name: str) -> Path | None:
    """A package's folder of metadata; None for one that is not installed."""
    begin = re.sub(r"[-_.]+", "_", name).lower()
    # Each place that knows the package: a source tree has an .egg-info, which says less.
    places = (Path(str(each.locate_file(""))) for each in importlib.metadata.distributions(name=name))
    folders = (folder for place in places for folder in place.glob("*.dist-info"))
    return next((path for path in folders if re.sub(r"[-.]+", "_", path.name.split("-")[0]).lower() == begin), None)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _folder(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))
