"""The spec as each system would run it, without PyInstaller."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.packaging.conftest import FOLDER, Evaluate

SYSTEMS = ("linux", "darwin", "win32")


def given(steps: Any, name: str = "Analysis") -> dict[str, Any]:
    (call,) = steps[name]
    return dict(call.words)


@pytest.mark.parametrize("system", SYSTEMS)
def test_upx_is_off_everywhere(evaluate: Evaluate, system: str) -> None:
    steps = evaluate(system)
    assert [call.words["upx"] for call in (*steps["EXE"], *steps["COLLECT"])] == [False] * (len(steps["EXE"]) + 1)


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_folder_with_the_programs_and_what_they_load(evaluate: Evaluate, system: str) -> None:
    steps = evaluate(system)
    assert all(call.words["exclude_binaries"] for call in steps["EXE"])
    (folder,) = steps["COLLECT"]
    (analysis,) = steps["Analysis"]
    assert folder.args == (*steps["EXE"], analysis.binaries, analysis.datas)
    assert Path(analysis.args[0][0]).name == "__main__.py"


@pytest.mark.parametrize("system", SYSTEMS)
def test_modules_that_are_imported_by_name_are_named(evaluate: Evaluate, system: str) -> None:
    hidden = given(evaluate(system))["hiddenimports"]
    assert {
        "crane_app.cli.ocr",
        "crane_app.engine.process.child",
        "crane_app.models.decoder",
        "crane_app.platform.voices.espeak",
        "crane_app.ui.chat.view",
        "crane_app.ui.settings.view",
    } <= set(hidden)
    assert "crane_app.__main__" not in hidden


def test_the_mac_has_mlx_with_what_its_c_code_imports_and_no_torch(evaluate: Evaluate) -> None:
    found = given(evaluate("darwin"))
    assert {"mlx._reprlib_fix", "mlx.__array_api_info", "mlx.core", "mlx_lm"} <= set(found["hiddenimports"])
    assert "crane_app.backends.mlx.backend" in found["hiddenimports"]
    assert not [name for name in found["hiddenimports"] if "torch" in name]
    assert {"torch", "crane_app.backends.torch"} <= set(found["excludes"])
    assert "transformers" not in found["excludes"]  # mlx-lm's tokenizers


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_elsewhere_it_is_torch_and_no_mlx(evaluate: Evaluate, system: str) -> None:
    found = given(evaluate(system))
    assert {"torch", "crane_app.backends.torch.backend"} <= set(found["hiddenimports"])
    assert not [name for name in found["hiddenimports"] if "mlx" in name]
    assert {"mlx", "mlx_lm", "transformers"} <= set(found["excludes"])


def test_the_kernels_go_in_with_torch_and_a_bundle_without_them_is_none(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = recipe.plan("linux")
    assert "crane_app.backends.torch._native" in plan.hidden
    kernels = tmp_path / "backends" / "torch" / "_native.cpython-311-x86_64-linux-gnu.so"
    monkeypatch.setattr(recipe, "PACKAGE", tmp_path)
    assert [name for name in recipe.lacking(plan) if "_native" in name] != []
    kernels.parent.mkdir(parents=True)
    kernels.touch()
    assert [name for name in recipe.lacking(plan) if "_native" in name] == []


def test_linux_without_torch_is_what_the_mac_has(evaluate: Evaluate) -> None:
    found = given(evaluate("linux", "mlx"))
    assert {"mlx._reprlib_fix", "mlx.__array_api_info"} <= set(found["hiddenimports"])
    assert "torch" in found["excludes"]


@pytest.mark.parametrize(("system", "backend"), [("darwin", "torch"), ("win32", "mlx"), ("linux", "jax")])
def test_a_backend_that_a_system_lacks_is_refused(recipe: ModuleType, system: str, backend: str) -> None:
    with pytest.raises(SystemExit, match=f"not packed with {backend}"):
        recipe.plan(system, backend)


def test_another_system_is_refused(recipe: ModuleType) -> None:
    with pytest.raises(SystemExit, match="freebsd14"):
        recipe.plan("freebsd14")


def test_the_mac_app_says_what_it_needs(evaluate: Evaluate) -> None:
    bundle = given(evaluate("darwin"), "BUNDLE")
    plist = plistlib.loads(plistlib.dumps(bundle["info_plist"]))
    assert bundle["bundle_identifier"] == plist["CFBundleIdentifier"] == "app.crane.Crane"
    assert bundle["name"] == "Crane.app"
    assert bundle["icon"].endswith("crane.icns")
    assert "No sound leaves it" in plist["NSMicrophoneUsageDescription"]
    assert plist["NSHighResolutionCapable"] is True
    assert plist["LSMinimumSystemVersion"] == "14.0"  # MLX's oldest
    (kind,) = plist["CFBundleDocumentTypes"]
    assert {"public.png", "com.adobe.pdf"} <= set(kind["LSItemContentTypes"])


def test_only_the_mac_gets_an_app(evaluate: Evaluate) -> None:
    assert "BUNDLE" not in evaluate("linux")


def test_the_mac_program_may_hear_and_run_what_python_makes(evaluate: Evaluate) -> None:
    (program,) = evaluate("darwin")["EXE"]
    allowed = plistlib.loads(Path(program.words["entitlements_file"]).read_bytes())
    assert allowed["com.apple.security.device.audio-input"] is True
    assert allowed["com.apple.security.cs.disable-library-validation"] is True
    assert program.words["target_arch"] == "arm64"


def test_windows_gets_a_windowed_program_and_one_for_its_terminals(evaluate: Evaluate) -> None:
    programs = evaluate("win32")["EXE"]
    assert [(call.words["name"], call.words["console"]) for call in programs] == [("Crane", False), ("crane-cli", True)]
    assert all(call.words["icon"].endswith("crane.ico") for call in programs)
    told = Path(programs[0].words["version"]).read_text("utf-8")
    made = eval(told, {name: lambda *args, **words: (args, words) for name in VERSION_WORDS})
    assert made[1]["ffi"][1]["filevers"] == (0, 1, 0, 0)
    assert "'ProductVersion', '0.1.0'" in told


VERSION_WORDS = (
    "VSVersionInfo",
    "FixedFileInfo",
    "StringFileInfo",
    "StringTable",
    "StringStruct",
    "VarFileInfo",
    "VarStruct",
)


def test_linux_has_one_program_that_can_write_to_a_terminal(evaluate: Evaluate) -> None:
    (program,) = evaluate("linux")["EXE"]
    assert (program.words["name"], program.words["console"]) == ("crane", True)


def test_unused_files_and_a_second_libmlx_are_left_out(evaluate: Evaluate) -> None:
    (analysis,) = evaluate("darwin")["Analysis"]
    assert [name for name, *_ in analysis.datas] == ["a/kept.txt"]
    assert [name for name, *_ in analysis.binaries] == ["mlx/lib/libmlx.dylib"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("PySide6/Qt/plugins/platforms/libqxcb.so", True),
        ("PySide6/Qt/plugins/platforms/libqwayland.so", True),
        ("PySide6/Qt/plugins/platforms/libqoffscreen.so", True),
        ("PySide6/Qt/plugins/imageformats/libqsvg.so", True),
        ("PySide6/Qt/plugins/platformthemes/libqxdgdesktopportal.so", True),
        ("PySide6/Qt/plugins/platformthemes/libqgtk3.so", False),
        ("PySide6\\translations\\qtbase_de.qm", False),
        ("PySide6/Qt/lib/libQt6Quick.so.6", False),
        ("PySide6/Qt/lib/QtQuick.framework/Versions/A/QtQuick", False),
        ("PySide6/opengl32sw.dll", False),
        ("libQt6OpenGL.so.6", False),
        ("libQt6Widgets.so.6", True),
        ("torch/lib/libtorch_cpu.so", True),
        ("torch/bin/protoc", False),
        ("torch/bin/test_api", False),
        ("torch/bin/torch_shm_manager", True),  # torch is not imported without it
        ("crane_app/assets/icon.svg", True),
    ],
)
def test_what_is_worth_its_room(recipe: ModuleType, name: str, kept: bool) -> None:
    assert recipe.plan("linux").keeps(name) is kept


def test_the_files_that_go_in_exist(recipe: ModuleType) -> None:
    plan = recipe.plan("linux")
    assert [source for source, _ in plan.datas if not Path(source).exists()] == []
    folders = {folder for _, folder in plan.datas}
    assert {"crane_app/assets", "."} <= folders
    assert {source for source, folder in plan.datas if folder == "rapidocr/models"} == {
        str(next(Path(source).parent for source, folder in plan.datas if folder == "rapidocr/models") / name)
        for name in recipe.READER_MODELS
    }


def test_the_reader_asks_for_the_models_that_go_in(recipe: ModuleType) -> None:
    source = (FOLDER.parent / "crane_app" / "media" / "reader.py").read_text("utf-8")
    assert set(re.findall(r'"([^"]+\.onnx)"', source)) == set(recipe.READER_MODELS)


def test_versions_and_licences_go_in(recipe: ModuleType) -> None:
    folders = [folder for _, folder in recipe.plan("linux").datas if folder.endswith(".dist-info")]
    assert any(folder.startswith("crane_app-") for folder in folders)
    assert any(folder.lower().startswith("pyside6") for folder in folders)


def test_artefacts_are_told_apart(recipe: ModuleType) -> None:
    names = [recipe.artefact(recipe.plan(*made), "x86_64") for made in (("linux",), ("linux", "mlx"), ("win32",))]
    version = recipe.version()
    assert names == [f"crane-{version}-{kind}" for kind in ("linux-x86_64", "linux-x86_64-mlx", "windows-x86_64")]
    assert recipe.artefact(recipe.plan("darwin"), "arm64") == f"crane-{version}-macos-arm64"
