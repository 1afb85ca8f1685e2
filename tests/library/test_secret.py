"""A number that is made once and only this user can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crane_app.errors import CraneError
from crane_app.library.secret import SIZE, lasting_secret, secret_path

only_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")


def test_it_is_made_once(tmp_path):
    path = tmp_path / "crane" / "secret"
    first = lasting_secret(path)
    assert len(first) == SIZE
    assert lasting_secret(path) == first
    assert lasting_secret(tmp_path / "other") != first
    assert [found.name for found in path.parent.iterdir()] == ["secret"]


def test_of_two_programs_that_make_it_at_once_both_have_the_first_ones(tmp_path, monkeypatch):
    path, link, first = tmp_path / "secret", os.link, []

    def late(fresh: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        first.append(lasting_secret(path))
        link(fresh, target)

    monkeypatch.setattr(os, "link", late)
    assert [lasting_secret(path)] == first
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


@only_posix
def test_only_this_user_can_read_it(tmp_path):
    lasting_secret(tmp_path / "secret")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("harm", ["short", *(pytest.param(h, marks=only_posix) for h in ("open", "link"))])
def test_one_that_others_may_know_is_refused_with_what_to_do(tmp_path, harm):
    path = tmp_path / "secret"
    known = lasting_secret(path)
    if harm == "short":
        path.write_bytes(known[:-1])
    elif harm == "open":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CraneError, match="Remove it"):
        lasting_secret(path)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(CraneError, match="No secret can be kept"):
        lasting_secret(tmp_path / "file" / "secret")


def test_the_usual_place_is_where_crane_keeps_its_data():
    assert secret_path().parts[-2:] == ("crane", "secret")
