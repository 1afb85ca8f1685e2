"""PortAudio, through which sound comes in and goes out: found in one place, and started anew as devices change.

It lists the devices once, when it starts; starting anew ends every stream, so it is told of each.
"""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any

from crane_app.errors import Unsupported

_streams: weakref.WeakSet[Any] = weakref.WeakSet()
_guard = threading.RLock()


def library() -> Any:
    """The module sounddevice. Unsupported where the library under it is missing or does not start."""
    try:
        import sounddevice
    except OSError as error:
        advice = "Install it (Debian and Ubuntu: libportaudio2)." if sys.platform == "linux" else "Install Crane again."
        raise Unsupported(f"The sound library PortAudio is missing. {advice}") from error
    except Exception as error:  # its own PortAudioError, from a module that is not there to be asked for it
        raise Unsupported(f"The sound system does not start ({why(error)}). Start it, or connect a device.") from error
    return sounddevice


def steady() -> AbstractContextManager[object]:
    """Within it the devices stay as they are listed: for looking one up and opening it."""
    return _guard


def keep(stream: Any) -> Any:
    """Remember a stream until it is closed, and give it back."""
    with _guard:
        _streams.add(stream)
    return stream


def refresh() -> bool:
    """List the devices anew; False where a stream is open, which this would end."""
    sound = library()
    with _guard:
        if not all(stream.closed for stream in _streams):
            return False
        sound._terminate()
        sound._initialize()
    return True


def why(error: BaseException) -> str:
    """What PortAudio says, without its numbers."""
    text = str(error.args[0] if error.args else error).partition(" [PaErrorCode")[0]
    what, _, reason = text.partition(": ")
    return reason if what.startswith("Error opening") and reason else text
