"""What all tests share: a home of their own, and each backend in each dtype.

A test that takes `backend` runs on every installed backend in every dtype; one that needs a single dtype says
`@pytest.mark.parametrize("dtype", ["float32"])`.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from crane_app.contract import Backend
from tests.skips import Skips

pytest_plugins = ["pytester"]
settings.register_profile("crane", deadline=None, derandomize=True, database=None, print_blob=False)
settings.register_profile("soak", settings.get_profile("crane"), derandomize=False, print_blob=True, max_examples=1000)

LIBRARIES = {"mlx": "mlx.core", "torch": "torch"}
HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
XDG = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Set before any test module is imported, since paths may be read at import."""
    settings.load_profile("soak" if _soaking(config) else "crane")
    # A job started in the background ignores Ctrl-C, and so would every process that a test wants to stop by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Waiting threads of OpenMP spin, and take the processor from the one they wait for where other programs work too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        # Each of them, and each engine that it starts, would else take every core for itself.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    # Triton looks at this when it is imported: without a GPU its kernels are interpreted.
    if os.environ.get("CRANE_TEST_DEVICE", "cpu") != "cuda":
        os.environ["TRITON_INTERPRET"] = "1"
    folder = tempfile.TemporaryDirectory(prefix="crane-")
    config.add_cleanup(folder.cleanup)
    kept = {name: os.environ.get(name) for name in (*HOMES, *XDG)}
    config.add_cleanup(lambda: _restore(kept))
    for name in HOMES:
        os.environ[name] = folder.name
    for name in XDG:
        path = Path(folder.name, name.lower())
        path.mkdir(mode=0o700)
        os.environ[name] = str(path)
    if not hasattr(config, "workerinput"):  # only who hears from all workers can judge
        config.pluginmanager.register(Skips(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms are run only where they are asked for."""
    if _soaking(config):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)


def _soaking(config: pytest.Config) -> bool:
    return "soak" in config.option.markexpr


def _restore(kept: dict[str, str | None]) -> None:
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(params=["mlx", "torch"])
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each backend whose library is here; torch on one thread unless the test says otherwise."""
    library = pytest.importorskip(LIBRARIES[request.param], exc_type=ImportError)
    if request.param == "torch":
        library.set_num_threads(1)
    return request.param


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kv_cache() -> str:
    """How the backend keeps keys and values; a test that wants it another way says so as it does of the dtype."""
    return "auto"


@pytest.fixture
def backend(backend_name: str, dtype: str, kv_cache: str) -> Backend:
    from crane_app.backends import choose

    device = os.environ.get("CRANE_TEST_DEVICE", "cpu")
    if device == "cuda" and kv_cache != "auto":
        pytest.skip("8-bit keys and values do not run on CUDA yet")
    return choose(backend_name, device=device, dtype=dtype, kv_cache=kv_cache)
