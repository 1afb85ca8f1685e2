"""The system libraries that Qt needs on Linux beyond its wheel, and how to get them; never imports Qt.

Qt ends the process when a library of its X11 side is missing, with a misleading message; so look before.
"""

import ctypes
from collections.abc import Iterable

from crane_app.errors import Unsupported

# Shared library -> Debian package, of PySide6-Essentials 6.11.
ALWAYS = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libX11.so.6": "libx11-6",
    "libxkbcommon.so.0": "libxkbcommon0",
}
PLATFORM = {
    "xcb": {
        "libX11-xcb.so.1": "libx11-xcb1",
        "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
        "libxcb-cursor.so.0": "libxcb-cursor0",
        "libxcb-icccm.so.4": "libxcb-icccm4",
        "libxcb-image.so.0": "libxcb-image0",
        "libxcb-keysyms.so.1": "libxcb-keysyms1",
        "libxcb-randr.so.0": "libxcb-randr0",
        "libxcb-render.so.0": "libxcb-render0",
        "libxcb-render-util.so.0": "libxcb-render-util0",
        "libxcb-shape.so.0": "libxcb-shape0",
        "libxcb-shm.so.0": "libxcb-shm0",
        "libxcb-sync.so.1": "libxcb-sync1",
        "libxcb-util.so.1": "libxcb-util1",
        "libxcb-xfixes.so.0": "libxcb-xfixes0",
        "libxcb-xkb.so.1": "libxcb-xkb1",
        "libxcb.so.1": "libxcb1",
    },
    "wayland": {
        "libwayland-client.so.0": "libwayland-client0",
        "libwayland-cursor.so.0": "libwayland-cursor0",
    },
}


def require(platforms: Iterable[str]) -> None:
    """Raise unless Qt itself and at least one of `platforms` find their libraries."""
    lacking = missing(ALWAYS)
    choices = [missing(PLATFORM.get(name, {})) for name in platforms]
    if choices and all(choices):
        lacking |= choices[-1]
    if lacking:
        raise Unsupported(
            f"The window needs system libraries that are missing here: {', '.join(sorted(lacking))}. "
            f"On Debian or Ubuntu: sudo apt-get install -y {' '.join(sorted(set(lacking.values())))}"
        )


def missing(table: dict[str, str]) -> dict[str, str]:
    return {library: package for library, package in table.items() if _load(library) is None}


def x11_answers() -> bool:
    """Does the X server of DISPLAY let us in? True when only a library is missing, which `require` tells."""
    xcb = _load("libxcb.so.1")
    if xcb is None:
        return True
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    xcb.xcb_connection_has_error.argtypes = xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(None, None)
    refused = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    return not refused


def _load(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
