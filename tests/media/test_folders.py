"""What is in a folder, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from crane_app.media.folders import documents_in, natural


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, **limits: int) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in documents_in(folder, **limits)[0]]


def test_pages_are_in_the_order_in_which_they_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "page 10.png", "page 9.png", "Page 1.PNG", "b/2.pdf", "b/1.pdf", "a.jpeg")
    assert found(tmp_path) == ["a.jpeg", "b/1.pdf", "b/2.pdf", "Page 1.PNG", "page 9.png", "page 10.png"]


def test_only_pictures_and_pdfs_that_are_not_hidden_are_taken(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "notes.txt", "film.mp4", ".hidden.png", ".git/a.png", "drawing.svg", "b")
    assert found(tmp_path) == ["a.png"]


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path)
    assert found(tmp_path) == ["in/a.png"]


def test_more_than_enough_is_counted_and_left_out(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.png" for number in range(30)))
    files, more = documents_in(tmp_path, most=12)
    assert [path.name for path in files] == [f"{number}.png" for number in range(12)]
    assert more == 18


@pytest.mark.parametrize("names", [["a1b2", "a1b10"], ["", "1", "a"], ["2", "10", "x", "x2", "x10"], ["٣", "12"]])
def test_numbers_within_names_count_as_numbers(names: list[str]) -> None:
    shuffled = names[::-1]
    assert sorted(shuffled, key=natural) == names
