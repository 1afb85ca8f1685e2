"""What goes through a real engine process: answers, big things, many things, and clients that misbehave."""

from __future__ import annotations

import contextlib
import queue
import socket
import time

import numpy as np
import pytest

from crane_app.engine.process import visitor
from crane_app.engine.process.link import Gone
from crane_app.engine.process.place import Place
from crane_app.engine.process.protocol import ANSWERS, MAGIC, PREFIX, encode
from crane_app.engine.process.reach import attach
from crane_app.engine.request import End, Job, Part, Piece, Request, Stream
from crane_app.errors import BadInput, Cancelled, CraneError, ModelNotFound
from tests.process.conftest import Connect, wait_for


def text_of(stream: Stream) -> str:
    return "".join(event.text for event in stream)


def words(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


def test_an_answer_comes_piece_by_piece(join: Connect):
    stream = join().submit(Request("any", text="one two", id="mine"))
    assert list(stream) == [Piece("one ", (0,)), Piece("two ", (1,))]
    assert stream.end == End("stop")
    assert stream.id == "mine"


def test_two_clients_may_choose_the_same_id(join: Connect):
    streams = [join().submit(Request("any", text="a b", id="same", template={"pause": 0.05})) for _ in range(2)]
    assert [text_of(stream) for stream in streams] == ["a b ", "a b "]


def test_an_error_in_the_engine_is_raised_with_its_class(join: Connect):
    stream = join().submit(Request("any", text="a b", template={"fail_at": 1}))
    pieces = []
    with pytest.raises(BadInput, match="not for echoing"):
        pieces.extend(stream)
    assert pieces == [Piece("a ", (0,))]


def test_questions_are_answered_and_their_errors_raised(join: Connect):
    client = join()
    (card,) = [event.value for event in client.load("/models/good", device="cpu") if isinstance(event, Part)]
    assert client.models() == [card]
    assert client.stats().pid == client.peer.pid
    client.flush()
    client.unload("good")
    assert client.models() == []
    with pytest.raises(ModelNotFound, match="good"):
        client.unload("good")


def test_a_cancelled_answer_ends_as_cancelled(join: Connect):
    stream = join().submit(Request("any", text=words(10_000), template={"pause": 0.005}))
    assert stream.get() == Piece("w0 ", (0,))
    stream.cancel()
    assert len(list(stream)) < 1000
    assert stream.end == End("cancelled")


def test_a_request_of_10_mb_arrives(join: Connect):
    text = "é" * 5_000_000
    assert text_of(join().submit(Request("any", text=text, template={"count_only": True}))) == "5000000"


def test_arrays_and_bytes_go_there_and_back(join: Connect):
    inputs = {"pixels": np.arange(5_000_000, dtype=np.uint8).reshape(1000, 5000), "raw": b"\x00" * 1000}
    (part,) = list(join().open(Job("back", inputs)))
    np.testing.assert_array_equal(part.value["pixels"], inputs["pixels"])
    assert part.value["raw"] == inputs["raw"]


@pytest.mark.parametrize("job", [Job("back", object()), Job("strange")])
def test_what_cannot_travel_ends_its_stream_with_a_sentence(join: Connect, job: Job):
    client = join()
    with pytest.raises(BadInput, match="no form on the wire"):
        list(client.open(job))
    assert text_of(client.submit(Request("any", text="a"))) == "a "


def test_an_unknown_kind_of_job_fails_alone(join: Connect):
    client = join()
    with pytest.raises(CraneError):
        list(client.open(Job("unheard-of")))
    assert text_of(client.submit(Request("any", text="a"))) == "a "


def test_a_hundred_streams_at_once_each_get_their_own(join: Connect):
    client = join()
    template = {"pause": 0.01}
    streams = [client.submit(Request("any", text=f"s{n} {words(5)}", template=template)) for n in range(100)]
    assert [text_of(stream) for stream in streams] == [f"s{n} {words(5)} " for n in range(100)]


def test_what_libraries_print_goes_to_the_log_and_not_between_the_messages(join: Connect, place: Place):
    client = join()
    assert list(client.open(Job("noise"))) == [Part("done")]
    assert text_of(client.submit(Request("any", text="still here"))) == "still here "
    log = place.folder.parent.joinpath("engine.log").read_bytes()
    assert b"a library says hello" in log
    assert b"native noise" in log


def test_a_stream_is_sent_only_as_far_as_its_reader_reads(join: Connect):
    client = join()
    job = Job("blocks", options={"count": 40, "nbytes": 1 << 20})
    stream, other = client.open(job), client.open(job)
    time.sleep(0.3)
    assert stream._events.qsize() < 10
    assert [event.value[0] for event in other] == list(range(40))
    assert [event.value[0] for event in stream] == list(range(40))


def test_a_part_may_be_larger_than_what_waits_at_the_reader(join: Connect):
    stream = join().open(Job("blocks", options={"count": 10, "nbytes": 3 * visitor.WINDOW}))
    assert [event.value[-1] for event in stream] == list(range(10))


def test_a_stream_that_nobody_reads_is_stopped_before_it_fills_the_memory(
    join: Connect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ECHO_BACKLOG", str(16 << 20))
    client = join()
    forgotten = client.open(Job("blocks", options={"count": 400, "nbytes": 1 << 20}))
    assert wait_for(lambda: client.stats().running == 0)
    assert text_of(client.submit(Request("any", text="others go on"))) == "others go on "
    with pytest.raises(Cancelled, match="nobody took"):
        list(forgotten)


def test_a_cancelled_stream_ends_though_its_reader_left_much_unread(join: Connect):
    stream = join().open(Job("blocks", options={"count": 40, "nbytes": 1 << 20}))
    time.sleep(0.1)
    stream.cancel()
    assert wait_for(lambda: stream._closed.is_set())


def test_a_client_that_stops_reading_is_left_after_a_while_and_disturbs_no_other(
    join: Connect, place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ECHO_PATIENCE", "0.5")
    client = join()
    link, _ = attach(place)
    for number in range(1, 4):
        link.write([encode("open", number, job=Job("blocks", options={"count": 3, "nbytes": 1 << 20}))])
    link.write([encode("submit", 9, request=Request("any", text=words(100_000), template={"pause": 0.01}))])
    assert wait_for(lambda: client.stats().running == 1)
    assert text_of(client.submit(Request("any", text=words(20), template={"pause": 0.01}))) == words(20) + " "
    assert wait_for(lambda: client.stats().running == 0)  # its last request was cancelled
    link.close()


def test_a_client_that_is_gone_has_its_requests_cancelled(join: Connect):
    stays, leaves = join(), join()
    leaves.submit(Request("any", text=words(100_000), template={"pause": 0.01}))
    assert wait_for(lambda: stays.stats().running == 1)
    leaves.close(drain=False)
    assert wait_for(lambda: stays.stats().running == 0)


@pytest.mark.parametrize(
    "said",
    [
        b"".join(encode("unheard").parts),
        b"".join(encode("beat", phase="x").parts),
        PREFIX.pack(MAGIC, 1 << 31, 0),
        bytes(64),
    ],
)
def test_nonsense_costs_a_client_its_own_connection_and_no_more(join: Connect, place: Place, said: bytes):
    client = join()
    link, _ = attach(place)
    link._socket.sendall(said)
    link.patience(5)
    with pytest.raises(Gone, match=r"closed|reset"):
        _ = [link.read(ANSWERS) for _ in range(100)]  # a beat may come before
    link.close()
    assert text_of(client.submit(Request("any", text="fine"))) == "fine "


def test_strangers_at_the_door_harm_nobody(join: Connect, place: Place):
    client = join()
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100_000)):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(place.address))
            with contextlib.suppress(OSError):
                stranger.sendall(said)
    assert text_of(client.submit(Request("any", text="fine"))) == "fine "


def test_the_heartbeat_says_what_the_engine_is_doing(join: Connect):
    client = join()
    stream = client.open(Job("busy"))
    assert wait_for(lambda: client.phase == "thinking hard")
    stream.cancel()
    assert client.silent_s < 5


def test_a_slow_answer_to_a_question_is_given_up_with_a_sentence(join: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECHO_FLUSH", "3")
    monkeypatch.setattr("crane_app.engine.process.client.SLOW", 0.1)
    client = join()
    with pytest.raises(CraneError, match=r"not answered for .* \(idle\)"):
        client.flush()
    assert text_of(client.submit(Request("any", text="still here"))) == "still here "


def test_closing_with_drain_lets_what_runs_come_to_its_end(join: Connect):
    client = join()
    stream = client.submit(Request("any", text=words(20), template={"pause": 0.01}))
    client.close()
    assert text_of(stream) == words(20) + " "


def test_closing_at_once_ends_what_runs_as_cancelled(join: Connect):
    client = join()
    stream = client.submit(Request("any", text=words(2000), template={"pause": 0.01}))
    client.close(drain=False)
    list(stream)
    assert stream.end == End("cancelled")
    with pytest.raises(queue.Empty):
        stream.get(timeout=0.05)
    with pytest.raises(Cancelled, match="closed"):
        list(client.submit(Request("any", text="too late")))
