"""A file opened to be read: what cannot be is a sentence that says what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from crane_app.errors import BadInput


def opened(source: str | os.PathLike[str], name: str, wanted: str) -> BinaryIO:
    """The file at `source`; BadInput with its `name` as it is to be shown. wanted: what to name in a folder instead."""
    try:
        path = Path(source)
        if path.is_dir():
            raise BadInput(f"{name} is a folder. Name {wanted} in it.")
        if path.exists() and not path.is_file():
            raise BadInput(f"{name} is not a file but a device or pipe. Save its content to a file first.")
        return path.open("rb")
    except FileNotFoundError as error:
        raise BadInput(f"There is no file {name}. Check its name and folder.") from error
    except PermissionError as error:
        raise BadInput(f"{name} may not be read by you. Change its permissions or copy it.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{name} cannot be opened ({reason}). Check its name and disk.") from error
