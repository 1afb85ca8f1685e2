"""An engine that must not outlive the program it belongs to: each system's own means, and one that works everywhere.

Everywhere: the program holds the write end of the engine's standard input; its end of file is the program's end. It
needs a moment of the engine's Python, which a native library can withhold. On Linux the kernel ends the engine itself
(prctl(2), PR_SET_PDEATHSIG; it counts the death of the *thread* that started it), on Windows a job object does.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
LIMIT_INFORMATION, KILL_ON_JOB_CLOSE = 9, 0x2000  # JobObjectExtendedLimitInformation, its flag


def follow(lifeline: int, leave: Callable[[], None]) -> None:
    """In the engine: call `leave` at the end of file of descriptor `lifeline`, from a thread of its own."""

    def wait() -> None:
        while os.read(lifeline, 64):
            pass
        log.info("the program that this engine belongs to has ended")
        leave()

    threading.Thread(target=wait, name="crane-lifeline", daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def bind(process: subprocess.Popen[bytes]) -> object:
    """In the program: what must be kept as long as the engine may live."""
    if sys.platform != "win32":
        return None
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    # JOBOBJECT_EXTENDED_LIMIT_INFORMATION is 144 bytes on 64-bit Windows; LimitFlags is the DWORD at 16.
    limits = (ctypes.c_uint32 * 36)()
    limits[4] = KILL_ON_JOB_CLOSE
    kernel.SetInformationJobObject(job, LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits))
    kernel.AssignProcessToJobObject(job, ctypes.c_void_p(int(vars(process)["_handle"])))
    return job
