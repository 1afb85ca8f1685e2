"""A random number of this user that outlives the program: nobody else can make what is derived from it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from crane_app.errors import CraneError

SIZE = 32  # bytes


def secret_path() -> Path:
    """Where this user's is."""
    from platformdirs import user_data_path

    return user_data_path("crane", appauthor=False) / "secret"


def lasting_secret(path: Path | None = None) -> bytes:
    """SIZE random bytes, made at the first time. CraneError where they cannot be kept, or others can read them."""
    path = path or secret_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        found = path.lstat()
        others = sys.platform != "win32" and (found.st_uid != os.getuid() or found.st_mode & 0o077)
        known = path.read_bytes() if stat.S_ISREG(found.st_mode) and not others else b""
    except OSError as error:
        raise CraneError(f"No secret can be kept at {path}: {error.strerror}. Allow writing there.") from error
    if len(known) != SIZE:
        raise CraneError(f"{path} is not a secret of this user alone. Remove it; Crane then makes another one.")
    return known


def _make(path: Path) -> None:
    """Whole or not at all, and of two programs that do it at once both have the first one's."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
