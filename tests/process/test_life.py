"""Who starts the engine, who finds it, and when it goes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crane_app.engine.process import logbook
from crane_app.engine.process import place as places
from crane_app.engine.process.client import Client
from crane_app.engine.process.place import Place
from crane_app.engine.process.reach import Start, own_command, tidy
from crane_app.engine.request import Job, Request
from crane_app.errors import CraneError, Unsupported
from tests.process.conftest import COMMAND, Connect, alive, wait_for

ROOT = Path(__file__).parents[2]
LONG = Request("any", text="w " * 10_000, template={"pause": 0.01})


def works(client: Client) -> bool:
    return "".join(piece.text for piece in client.submit(Request("any", text="yes"))) == "yes "


def test_the_first_client_starts_an_engine_and_the_second_attaches_to_it(join: Connect):
    first, second = join(), join()
    assert (first.attached, second.attached) == (False, True)
    assert first.peer == second.peer
    assert works(first)
    assert works(second)


def test_clients_that_come_at_the_same_moment_start_one_engine(join: Connect, place: Place):
    clients: list[Client] = []
    threads = [threading.Thread(target=lambda: clients.append(join())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({client.peer.pid for client in clients}) == 1
    assert [client.attached for client in clients].count(False) == 1
    assert place.folder.parent.joinpath("engine.log").read_text().count(" at /") == 1


def test_without_leave_to_start_nothing_is_started(join: Connect, place: Place):
    with pytest.raises(CraneError, match="No engine is running"):
        join(start=False)
    assert not place.folder.exists()


def test_an_engine_of_another_version_is_named_and_left_alone(
    join: Connect, how: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ECHO_VERSION", "9.9")
    newer = join(how=replace(how, version="9.9"))
    with pytest.raises(Unsupported, match=r"is Crane 9\.9, this is .*--new-engine"):
        join()
    assert works(newer)


def test_the_engine_goes_with_its_last_client(join: Connect, place: Place):
    first, second = join(), join()
    pid = first.peer.pid
    first.close()
    assert works(second)
    second.close()
    assert wait_for(lambda: not alive(pid))
    assert not place.address.exists()
    assert not place.key.exists()


def test_a_lingering_engine_is_found_again(join: Connect, how: Start):
    how = replace(how, linger=0.6)
    first = join(how=how)
    first.close()
    time.sleep(0.2)
    second = join(how=how)
    assert second.attached
    assert second.peer == first.peer
    time.sleep(0.8)  # whoever is here keeps it
    assert works(second)
    second.close()
    time.sleep(0.2)
    assert alive(first.peer.pid)
    assert wait_for(lambda: not alive(first.peer.pid))


def test_a_client_that_is_killed_counts_as_gone(join: Connect, place: Place, how: Start):
    parent = start_elsewhere(place, how, new_engine=False)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert wait_for(lambda: not alive(pid))


def start_elsewhere(place: Place, how: Start, new_engine: bool) -> subprocess.Popen[bytes]:
    """Another program with a client; it prints its engine's process and waits."""
    program = (
        "import time; from pathlib import Path\n"
        "from crane_app.engine.process.client import connect\n"
        "from crane_app.engine.process.place import Place\n"
        "from crane_app.engine.process.reach import Start\n"
        f"how = Start({how.command!r}, linger={how.linger}, log=Path({str(how.log)!r}))\n"
        f"client = connect({new_engine}, place=Place(Path({str(place.folder)!r})), how=how)\n"
        "print(client.peer.pid, flush=True); time.sleep(60)"
    )
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)


def test_an_engine_of_ones_own_is_shared_with_nobody(join: Connect, place: Place):
    shared, own = join(), join(new_engine=True)
    assert own.peer.pid != shared.peer.pid
    assert not own.attached
    assert join().peer == shared.peer
    assert works(own)
    own.close()
    assert not alive(own.peer.pid)
    assert works(shared)


def test_an_engine_of_ones_own_may_be_started_by_a_thread_that_ends(join: Connect):
    clients: list[Client] = []
    thread = threading.Thread(target=lambda: clients.append(join(new_engine=True)))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert works(clients[0])


@pytest.mark.parametrize("by_kernel", [True, False])
def test_an_engine_of_ones_own_dies_with_its_program(place: Place, how: Start, by_kernel: bool, tmp_path: Path):
    if not by_kernel:  # what is left where the system has no means of its own
        script = tmp_path / "echo.py"
        script.write_text(
            Path(COMMAND[2]).read_text().replace("class Echo", "import sys; sys.platform = 'other'\nclass Echo", 1)
        )
        how = replace(how, command=(*COMMAND[:2], str(script)))
    parent = start_elsewhere(place, how, new_engine=True)
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    assert wait_for(lambda: not alive(pid))
    if by_kernel:
        tidy(place)  # the kernel leaves it no time to tidy; the next start does
    assert wait_for(lambda: not list(place.folder.glob("own-*")))


def test_ctrl_c_does_not_reach_the_engine(join: Connect):
    client = join()
    os.kill(client.peer.pid, signal.SIGINT)
    assert os.getsid(client.peer.pid) != os.getsid(0)
    time.sleep(0.1)
    assert works(client)


def test_asked_to_end_it_lets_what_runs_come_to_its_end(join: Connect):
    client = join()
    pid = client.peer.pid
    stream = client.submit(Request("any", text="w " * 30, template={"pause": 0.01}))
    stream.get()
    os.kill(pid, signal.SIGTERM)
    assert len(list(stream)) == 29
    assert wait_for(lambda: not alive(pid))
    assert client.last_crash is None
    assert works(client)  # by an engine of its own
    assert client.peer.pid != pid


def test_asked_twice_it_ends_at_once(join: Connect):
    client = join()
    stream = client.submit(LONG)
    stream.get()
    for _ in range(2):
        os.kill(client.peer.pid, signal.SIGTERM)
        time.sleep(0.1)
    assert wait_for(lambda: not alive(client.peer.pid), 1.0)
    with pytest.raises(CraneError):
        list(stream)


def test_only_the_user_can_reach_it(join: Connect, place: Place):
    join()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (place.folder, place.address, place.key)}
    assert modes == {place.folder: 0o700, place.address: 0o600, place.key: 0o600}
    assert stat.S_IMODE(place.folder.parent.joinpath("engine.log").stat().st_mode) == 0o600


def test_what_a_dead_engine_left_is_replaced(join: Connect, place: Place):
    first = join()
    os.kill(first.peer.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(first.peer.pid))
    assert place.address.exists()
    second = join()
    assert not second.attached
    assert works(second)


def test_a_file_in_the_way_is_replaced(join: Connect, place: Place):
    place.open()
    place.address.write_text("not a socket")
    place.key.write_bytes(b"")
    assert works(join())


def test_a_folder_of_someone_else_is_not_used(place: Place):
    target = place.folder.parent / "theirs"
    target.mkdir()
    place.folder.symlink_to(target)
    with pytest.raises(CraneError, match="belongs to someone else"):
        place.open()
    place.folder.unlink()


def test_a_path_too_long_for_a_socket_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("long" * 25)))
    address = places.shared_place().own().address
    assert len(os.fsencode(address)) < 104
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert places.shared_place().folder == Path("/run/user/1/crane")


def test_where_there_are_no_local_sockets_a_port_of_this_machine_serves(join: Connect, place: Place):
    place = Place(place.folder, port=True)
    first, second = join(place=place), join(place=place)
    assert works(first)
    assert second.attached
    os.kill(first.peer.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(first.peer.pid))
    with socket.create_server(("127.0.0.1", 0)) as other:  # a program that got the dead engine's port and says nothing
        place.address.write_text(str(other.getsockname()[1]))
        assert works(join(place=place))
    first.close()
    second.close()


def test_no_module_is_taken_from_the_current_folder(
    join: Connect, how: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tmp_path.joinpath("json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHO_ENV", "passed on")
    (part,) = list(join().open(Job("modules")))
    assert not part.value["json"].startswith(str(tmp_path))
    assert part.value["folder"] != str(tmp_path)
    assert part.value["env"] == "passed on"
    assert "-P" in own_command()
    run = subprocess.run(
        [*own_command(), "--help"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert run.returncode == 0


def test_an_engine_that_does_not_start_is_explained_by_its_log(join: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECHO_BROKEN", "1")
    with pytest.raises(CraneError, match=r"did not start \(exit status 1\).*\n(.*\n)*.*libecho\.so\.1"):
        join()


def test_a_program_that_is_not_there_is_said_to_be_missing(join: Connect, how: Start):
    with pytest.raises(CraneError, match="could not be started"):
        join(how=replace(how, command=("/nowhere/python",)))


def test_the_log_begins_anew_when_it_is_full_and_three_files_are_kept(tmp_path: Path):
    path = tmp_path / "engine.log"
    program = (
        "import os, sys; from pathlib import Path; from crane_app.engine.process import logbook\n"
        "logbook.LIMIT = 1000; path = Path(sys.argv[1]); logbook.capture(path)\n"
        "for number in range(6):\n"
        "    print(f'turn {number}'); os.write(2, b'x' * 1000); logbook.rotate(path)\n"
        "print('the end')"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["engine.log", "engine.log.1", "engine.log.2"]
    assert logbook.tail(path) == "the end"
    assert path.with_name("engine.log.1").read_text().startswith("turn 5")
