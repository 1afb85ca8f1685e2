"""`crane ocr` on real files with a stand-in for the reader, and once with the real one."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crane_app.cli import ocr
from crane_app.demo import FOLDER
from crane_app.errors import CraneError
from crane_app.media.reader import Line, Reader

pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow, on damaged files


@pytest.fixture(autouse=True)
def _reads_the_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(self: Reader, image: np.ndarray) -> list[Line]:
        height, width = image.shape[:2]
        return [Line(f"{width} * {height}", ((0, 0), (width, 0), (width, height), (0, height)), 0.5)]

    if "real" not in request.node.name:
        monkeypatch.setattr(Reader, "lines", lines)


def picture(path: Path, width: int, format: str = "PNG") -> str:
    Image.new("L", (width, 10), "white").save(path, format)
    return str(path)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    ocr.add_flags(parser)
    return ocr.run(parser.parse_args(words))


def test_one_file_is_its_text_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(picture(tmp_path / "a b.png", 33)) == 0
    assert capsys.readouterr() == ("33 * 10\n", "")


def test_several_files_have_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = picture(tmp_path / "a.png", 33), picture(tmp_path / "b.png", 44)
    assert run(a, b) == 0
    assert capsys.readouterr().out == f"==> {a} <==\n\n33 * 10\n\n==> {b} <==\n\n44 * 10\n"
    assert run("--format", "markdown", a, b) == 0
    assert capsys.readouterr().out.splitlines()[2::4] == ["33 \\* 10", "44 \\* 10"]


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    assert run(str(empty), str(tmp_path / "none.pdf"), picture(tmp_path / "a.png", 33)) == 1
    out, err = capsys.readouterr()
    assert out.endswith("33 * 10\n")
    assert "Traceback" not in err
    assert [line.endswith(".") for line in err.splitlines()] == [True, True]


def damaged(path: Path) -> str:
    """A PDF of three pages, the second of which is none."""
    page, none = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d 9]>>", b"<</Type/Nothing>>"
    bodies = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 3/Kids[3 0 R 4 0 R 5 0 R]>>"]
    bodies += [page % 36, none, page % 72]
    path.write_bytes(b"%PDF-1.7\n" + b"".join(b"%d 0 obj%s endobj\n" % each for each in enumerate(bodies, 1)))
    with path.open("ab") as file:
        file.write(b"trailer<</Size 6/Root 1 0 R>>")
    return str(path)


def test_a_bad_page_costs_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, out = damaged(tmp_path / "scan.pdf"), tmp_path / "out.txt"
    assert run(scan) == 1
    told = capsys.readouterr()
    assert told.out == "100 * 25\n\n200 * 25\n"
    assert told.err == f"crane: Page 2 of '{scan}' is damaged. Save the PDF again.\n"
    assert run(scan, "--format", "json") == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert [page["page"] for page in file["pages"]] == [1, 3]
    assert run(scan, "--out", str(out)) == 1
    assert out.read_text() == told.out


def test_the_header_stands_before_the_first_page_that_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(self: Reader, image: np.ndarray) -> list[Line]:
        if image.shape[1] == 100:
            raise CraneError("The reader failed on this picture.")
        return [Line("text", ((0, 0), (9, 0), (9, 9), (0, 9)), 0.5)]

    monkeypatch.setattr(Reader, "lines", lines)
    scan, other = damaged(tmp_path / "scan.pdf"), picture(tmp_path / "a.png", 33)
    assert run(scan, other) == 1
    assert capsys.readouterr().out == f"==> {scan} <==\n\ntext\n\n==> {other} <==\n\ntext\n"


def test_json_has_the_files_that_could_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = picture(tmp_path / "a.png", 33)
    assert run("--format", "json", str(tmp_path / "none.png"), a) == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["file"] == a
    assert file["pages"][0]["regions"][0]["text"] == "33 * 10"


def test_a_dash_reads_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(picture(tmp_path / "a.png", 33)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("-") == 0
    assert capsys.readouterr().out == "33 * 10\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert run("-") == 1
    assert "'standard input' is empty" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    monkeypatch.setattr(ocr, "MOST_INPUT", 5)
    assert run("-") == 1
    assert "Save it to a file" in capsys.readouterr().err


def test_out_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.txt"
    out.write_text("old")
    if os.name == "posix":
        out.chmod(0o640)
    assert run(str(tmp_path / "none.png"), "--out", str(out)) == 1
    assert out.read_text() == "old"
    assert run(picture(tmp_path / "a.png", 33), "--out", str(out)) == 0
    assert out.read_bytes() == b"33 * 10\n"
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "out.txt"]
    if os.name == "posix":
        assert out.stat().st_mode & 0o777 == 0o640
        (tmp_path / "link").symlink_to(out)
        assert run(picture(tmp_path / "a.png", 44), "--out", str(tmp_path / "link")) == 0
        assert (tmp_path / "link").is_symlink()
        assert out.read_bytes() == b"44 * 10\n"
        assert run(str(tmp_path / "a.png"), "--out", os.devnull) == 0
        assert not Path(os.devnull).is_file()


def test_an_interrupted_run_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.txt"
    out.write_text("old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "lines", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(picture(tmp_path / "a.png", 33), "--out", str(out))
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    a = picture(tmp_path / "a.png", 33)
    for out, why in [
        (tmp_path, "folder"),
        (tmp_path / "no" / "x", "no folder"),
        (a, "one of the files to read"),
    ]:
        with pytest.raises(CraneError, match=why):
            run(a, "--out", str(out))


def test_signs_that_the_terminal_lacks_become_question_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))
    monkeypatch.setattr(Reader, "lines", lambda *_: [Line("Łódź é", box, 1.0)])
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1", newline="\n"))
    assert run(picture(tmp_path / "a.png", 33)) == 0
    assert raw.getvalue().decode("latin-1") == "?ód? é\n"


SCRIPT = "import argparse, sys; from crane_app.cli import ocr; p = argparse.ArgumentParser(); ocr.add_flags(p)\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    frames = [Image.new("L", (33, 10)) for _ in range(3)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    script = (
        "import sys; from crane_app.cli.main import main; from crane_app.media.reader import Line, Reader\n"
        "Reader.lines = lambda *_: [Line('x' * 100_000, ((0, 0), (9, 0), (9, 9), (0, 9)), 1.0)]\n"
        "sys.exit(main(['ocr', *sys.argv[1:]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a.tiff")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(20) == 0


def test_asking_for_help_loads_nothing_heavy() -> None:
    script = SCRIPT + "p.format_help(); assert not {'numpy', 'PIL', 'rapidocr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_real_reader_keeps_the_lines_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(FOLDER / "page.png"), "--keep-lines") == 0
    out = capsys.readouterr().out
    assert out.startswith("Where the cranes rest in autumn\n\nEvery October the cranes come down to\nthe shallow")
    assert "Binocu-\nlars help" in out
