"""A download comes through, whatever the hub does, or says why not; what came is never asked for again."""

from __future__ import annotations

import email.utils
import errno
import json
import threading
import time
from pathlib import Path

import filelock
import pytest

from crane_app.errors import BadInput, Cancelled, CraneError, ModelNotFound
from crane_app.library import downloads, hub_cache, notes, transfer
from crane_app.library.downloads import Download, Progress, verify
from crane_app.library.hub import Place, place
from crane_app.library.models import found
from tests.library.hub import CONFIG, Drop, Hold, Hub, Say, Send, WrongPart, sha1, sha256

REPO = "Qwen/Qwen3-0.6B"
WEIGHTS = bytes(range(256)) * 2048  # 512 KiB
NAME = "model.safetensors"
FILES = {"config.json": CONFIG, "tokenizer.json": b'{"a": 1}', NAME: WEIGHTS}


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(downloads, "TELL_S", 0.0)


@pytest.fixture
def hub():
    with Hub() as made:
        made.put(REPO, dict(FILES))
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def download(hub: Hub, cache: Path, repo: str = REPO, stall: float = 10.0, **how) -> Download:
    return Download(
        repo, where=Place(hub.address, stall=stall), cache=cache, pauses=how.pop("pauses", (0.0,) * 5), **how
    )


def run(steps) -> tuple[Path, list[Progress]]:
    """The result and all news."""
    news = []
    while True:
        try:
            news.append(next(steps))
        except StopIteration as done:
            return done.value, news


def bring(hub: Hub, cache: Path, **how) -> Path:
    return run(download(hub, cache, **how).steps())[0]


def waits(news: list[Progress]) -> list[str]:
    """What a person was told while it waited."""
    return [each.words for each in news if each.doing == "waiting"]


def failure(hub: Hub, cache: Path, **how) -> str:
    with pytest.raises(CraneError) as caught:
        bring(hub, cache, **how)
    return str(caught.value)


def part(cache: Path) -> Path:
    return hub_cache.folder_of(cache, REPO) / "blobs" / f"{sha256(WEIGHTS)}{hub_cache.INCOMPLETE}"


def begin(cache: Path, body: bytes) -> None:
    """As if a download had come so far."""
    part(cache).parent.mkdir(parents=True)
    part(cache).write_bytes(body)


# Where all is well


def test_a_model_comes_whole_and_every_program_of_the_cache_finds_it(hub, cache):
    folder, news = run(download(hub, cache).steps())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert (news[-1].done, news[-1].total) == (sum(map(len, FILES.values())),) * 2
    # huggingface_hub itself reads it without a network
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    assert snapshot_download(REPO, cache_dir=cache, local_files_only=True) == str(folder)
    assert try_to_load_from_cache(REPO, NAME, cache_dir=cache) == str(folder / NAME)
    [entry] = found([], cache)
    assert (entry.name, entry.problem, entry.nbytes) == (REPO, "", len(WEIGHTS))


def test_progress_never_goes_back_and_knows_the_whole_from_the_start(hub, cache):
    _, news = run(download(hub, cache).steps())
    dones = [each.done for each in news if each.doing == "downloading"]
    assert dones == sorted(dones)
    assert {each.total for each in news if each.doing == "downloading"} == {sum(map(len, FILES.values()))}


def test_what_is_there_is_not_asked_for_again(hub, cache):
    bring(hub, cache)
    sent = dict(hub.sent)
    bring(hub, cache)
    assert dict(hub.sent) == sent


def test_only_the_files_a_model_needs_come(hub, cache):
    extra = {
        "README.md": b"---\nlicense: mit\n---",
        "LICENSE": b"MIT License",
        "tokenizer.model": b"t",
        "chat_template.jinja": b"j",
        "merges.txt": b"m",
    }
    unneeded = {
        "pytorch_model.bin": b"b" * 999,
        "consolidated.safetensors": WEIGHTS,
        "original/model.safetensors": WEIGHTS,
        "onnx/model.onnx": b"o",
        "model.onnx": b"o",
        "modeling_x.py": b"evil",
        ".gitattributes": b"g",
        "image.png": b"p",
        "adapter_model.safetensors": b"a",
    }
    hub.put(REPO, FILES | extra | unneeded)
    assert {path.name for path in bring(hub, cache).iterdir()} == set(FILES | extra)


@pytest.mark.parametrize("relative", [True, False])
def test_redirects_are_followed(hub, cache, relative):
    hub.relative = relative
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS


def test_an_empty_file_is_a_file_too(hub, cache):
    hub.put(REPO, FILES | {"added_tokens.json": b""})
    assert (bring(hub, cache) / "added_tokens.json").read_bytes() == b""


def test_a_new_version_brings_only_what_changed(hub, cache):
    old = bring(hub, cache)
    hub.put(REPO, FILES | {"config.json": CONFIG + b" "}, commit="d" * 40)
    new = bring(hub, cache)
    assert new != old
    assert hub.sent[NAME] == len(WEIGHTS)
    assert hub_cache.snapshot(hub_cache.folder_of(cache, REPO)) == new


def test_an_update_that_breaks_off_leaves_the_old_version_in_use(hub, cache):
    old = bring(hub, cache)
    hub.put(REPO, FILES | {NAME: WEIGHTS + b"new"}, commit="d" * 40)
    hub.next(NAME, *[Say(404)] * 9)
    failure(hub, cache)
    assert hub_cache.snapshot(hub_cache.folder_of(cache, REPO)) == old
    assert [entry.problem for entry in found([], cache)] == [""]


def test_where_links_are_not_allowed_the_files_themselves_lie_there(hub, cache, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = bring(hub, cache)
    assert not (folder / NAME).is_symlink()
    assert (folder / NAME).read_bytes() == WEIGHTS
    sent = hub.sent[NAME]
    bring(hub, cache)
    assert hub.sent[NAME] == sent


# Pausing and going on


def test_a_closed_generator_is_a_pause(hub, cache):
    # GIVEN a download of which something has come
    steps = download(hub, cache).steps()
    for news in steps:
        if news.file == NAME and news.doing == "downloading" and news.done < news.total:
            break
    steps.close()
    came = part(cache).stat().st_size
    assert 0 < came < len(WEIGHTS)
    # WHEN another goes on
    folder = bring(hub, cache)
    # THEN only the rest was asked for
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == ["", f"bytes={came}-"]


def test_stop_ends_a_read_that_waits_for_bytes(hub, cache):
    hub.next(NAME, Hold(1000))
    held = download(hub, cache, stall=60.0)
    came, errors = threading.Event(), []

    def drive():
        try:
            for news in held.steps():
                if news.file == NAME and news.doing == "downloading":
                    came.set()
        except CraneError as error:
            errors.append(error)

    thread = threading.Thread(target=drive)
    thread.start()
    assert came.wait(20)
    held.stop()
    thread.join(10)  # the hub would hold it for longer
    assert not thread.is_alive()
    assert isinstance(errors[0], Cancelled)
    # AND what came is kept
    hub.let()
    assert bring(hub, cache)
    assert hub.gets(NAME)[-1] == "bytes=1000-"


def test_a_dropped_connection_goes_on_where_it_broke(hub, cache):
    hub.next(NAME, Drop(1000), Drop(2000), Drop(0))
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == ["", "bytes=1000-", "bytes=3000-", "bytes=3000-"]
    assert hub.sent[NAME] == len(WEIGHTS)


def test_tries_begin_anew_whenever_bytes_come(hub, cache):
    hub.next(NAME, *[Drop(100)] * 20)
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS


def test_a_hub_that_sends_nothing_is_given_up_with_a_sentence(hub, cache):
    hub.next(NAME, *[Drop(0)] * 20)
    words = failure(hub, cache)
    assert words == f"The connection to {Place(hub.address).host} broke. Try again later; what has come is kept."
    assert len(hub.gets(NAME)) == 6


def test_a_stalled_connection_is_begun_anew(hub, cache):
    hub.next(NAME, Hold(1000))
    folder, news = run(download(hub, cache, stall=0.3, pauses=(0.01,)).steps())
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == ["", "bytes=1000-"]
    words = [each.words for each in news if each.doing == "waiting"]
    assert words == [f"{Place(hub.address).host} sent nothing for 0.3 seconds. Trying again in 1 s."]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_hub_in_trouble_is_asked_again(hub, cache, status):
    hub.next("api", Say(status))
    hub.next(NAME, Say(status), Say(status))
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS


def test_a_hub_that_asks_to_wait_is_given_the_time(hub, cache):
    hub.next(NAME, Say(429, {"Retry-After": "1"}))
    _, news = run(download(hub, cache).steps())
    waits = [each for each in news if each.doing == "waiting"]
    assert waits[0].words == f"{Place(hub.address).host} asks to wait. Trying again in 1 s."


@pytest.mark.parametrize("said", ["-5", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 400])
def test_an_odd_retry_after_breaks_nothing(hub, cache, said, monkeypatch):
    from crane_app.library import hub as words

    monkeypatch.setattr(words, "LONGEST_PAUSE", 0.0)
    hub.next(NAME, Say(429, {"Retry-After": said}))
    assert bring(hub, cache)


def test_a_date_to_wait_for_is_understood():
    from crane_app.library.hub import _pause

    assert 50 < _pause(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert _pause("7") == 7.0


def test_a_hub_that_never_stops_asking_to_wait_is_given_up(hub, cache):
    hub.next("api", *[Say(429, {"Retry-After": "0"})] * 9)
    assert "asks to wait. Try again later" in failure(hub, cache)


# Parts that do not fit


def test_a_hub_that_cannot_go_on_begins_anew(hub, cache):
    begin(cache, WEIGHTS[:1000])
    hub.next(NAME, Send(WEIGHTS))
    folder, news = run(download(hub, cache, pauses=(0.01,) * 5).steps())
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == ["bytes=1000-", ""]
    assert not waits(news)  # it is no failure that a person must know of


def test_another_part_than_asked_for_is_thrown_away(hub, cache):
    begin(cache, WEIGHTS[:1000])
    hub.next(NAME, WrongPart())
    folder, news = run(download(hub, cache, pauses=(0.01,) * 5).steps())
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert "sent another part of model.safetensors than was asked for" in waits(news)[0]


def test_a_part_that_is_too_long_is_thrown_away(hub, cache):
    begin(cache, WEIGHTS + b"more")
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == [""]


def test_a_whole_part_is_checked_and_not_sent_again(hub, cache):
    begin(cache, WEIGHTS)
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    assert hub.sent[NAME] == 0


def test_a_wrong_part_is_found_by_its_checksum(hub, cache):
    begin(cache, b"x" * 1000)
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    assert hub.gets(NAME) == ["bytes=1000-", ""]


def test_416_begins_anew(hub, cache):
    begin(cache, WEIGHTS[:1000])
    hub.next(NAME, Say(416))
    folder, news = run(download(hub, cache, pauses=(0.01,) * 5).steps())
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert not waits(news)


def test_wrong_content_is_thrown_away_and_told_the_second_time(hub, cache):
    wrong = b"x" * len(WEIGHTS)
    hub.next(NAME, Send(wrong))
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    hub.put(REPO, FILES | {NAME: WEIGHTS[::-1]}, commit="d" * 40)
    hub.next(NAME, Send(wrong), Send(wrong))
    assert f"{NAME} came damaged" in failure(hub, cache)
    assert not list((hub_cache.folder_of(cache, REPO) / "blobs").glob("*.incomplete"))


def test_small_files_are_checked_too(hub, cache):
    hub.next("config.json", Send(b"x" * len(CONFIG)), Send(b"x" * len(CONFIG)))
    assert "config.json came damaged" in failure(hub, cache)


@pytest.mark.parametrize("body", [WEIGHTS[:-5], WEIGHTS + b"more", b""])
def test_another_size_than_announced_is_not_taken(hub, cache, body):
    hub.next(NAME, *[Send(body)] * 9)
    assert f"another size of {NAME}" in failure(hub, cache)
    assert not part(cache).exists()


def test_more_bytes_than_announced_are_not_taken(hub, cache):
    hub.next(NAME, *[Send(WEIGHTS + b"more", length=False)] * 9)
    assert f"another size of {NAME}" in failure(hub, cache)
    assert not part(cache).exists()


def test_a_body_without_a_length_is_taken(hub, cache):
    hub.next(NAME, Send(WEIGHTS, length=False))
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS


# What cannot be had


def test_a_model_that_is_not_there(hub, cache):
    with pytest.raises(ModelNotFound, match="There is no model no/such"):
        bring(hub, cache, repo="no/such")


def test_a_revision_that_is_not_there(hub, cache):
    with pytest.raises(ModelNotFound, match="has no revision 'v9'"):
        bring(hub, cache, revision="v9")


def test_a_gated_model_says_where_its_terms_are(hub, cache, monkeypatch):
    hub.token = "hf_mine"
    words = failure(hub, cache)
    assert f"accept its terms at {hub.address}/{REPO}" in words
    # AND with a token for that hub it comes
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    assert bring(hub, cache)


def test_a_token_goes_to_no_other_hub(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    bring(hub, cache)
    assert not any("Authorization" in headers for headers in hub.headers)


def test_a_file_that_is_gone(hub, cache):
    hub.next(NAME, Say(404))
    assert "There is no model" in failure(hub, cache)


def test_redirects_without_end(hub, cache):
    hub.next(NAME, *[Say(302, {"Location": f"/{REPO}/resolve/{'c' * 40}/{NAME}"})] * 20)
    assert "without end" in failure(hub, cache)


def test_a_redirect_to_no_address(hub, cache):
    hub.next(NAME, Say(302, {"Location": "file:///etc/passwd"}))
    assert "an address that is none" in failure(hub, cache)


@pytest.mark.parametrize("body", [b"<html>hello", b"", b"[]", b"{}", b'{"sha": 5, "siblings": []}', b"[" * 100_000])
def test_a_place_that_is_no_hub(hub, cache, body):
    hub.next("api", Say(200, body=body))
    assert "cannot be understood" in failure(hub, cache)


def test_a_model_without_safetensors(hub, cache):
    hub.put(REPO, {"config.json": CONFIG, "pytorch_model.bin": b"x"})
    assert failure(hub, cache) == f"{REPO} has no weights as safetensors in its top folder, so Crane cannot use it."


def test_no_way_to_the_hub_says_what_is_missing(hub, cache):
    # GIVEN a download that broke off
    hub.next(NAME, Drop(1000), Say(403))
    assert "(status 403)" in failure(hub, cache)
    # WHEN there is no network any more
    gone = Hub()
    gone._server.server_close()
    words = failure(gone, cache)
    # THEN it says so at once
    assert "cannot be reached. Check the internet connection, and the mirror and proxy in Settings." in words
    assert words.endswith(f"of {REPO} are here; missing: {NAME}.")


def test_offline_asks_nobody(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert failure(hub, cache) == "HF_HUB_OFFLINE is set, so nothing is downloaded."
    assert hub.requests == []


def test_a_proxy_is_used(hub, cache):
    where = place("http://models.invalid", proxy=hub.address)
    hub.relative = True
    folder, _ = run(Download(REPO, where=where, cache=cache).steps())
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert all(path.startswith("http://models.invalid/") for path, _ in hub.requests)


@pytest.mark.parametrize("address", ["ftp://x", "huggingface.co", "http://", "file:///x", "http://a:b", "http://x?y=1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadInput, match="is no address of a hub"):
        place(address)


def test_the_hub_is_the_one_named_else_that_of_the_environment(monkeypatch):
    assert place().endpoint == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert place().endpoint == "https://mirror.example"
    assert place("https://other.example").endpoint == "https://other.example"


@pytest.mark.parametrize("repo", ["", "a/b/c", "../x", "a/..", "a b", "a--b/c", "/a", "a/", "-a/b", "a/b.git", "ä/b"])
def test_what_cannot_be_an_id_is_refused(repo):
    with pytest.raises(BadInput, match="is no model's id"):
        Download(repo)


@pytest.mark.parametrize("revision", ["", "../x", "a..b", "-x", "a b", "x" * 200])
def test_what_cannot_be_a_revision_is_refused(revision):
    with pytest.raises(BadInput, match="is no branch"):
        Download(REPO, revision)


@pytest.mark.parametrize(
    "lie",
    [
        {"rfilename": "../../evil.json"},
        {"rfilename": "/etc/evil.json"},
        {"rfilename": "a\\evil.json"},
        {"rfilename": ".evil.json"},
        {"rfilename": 5},
        {"size": "9"},
        {"size": -1},
        {"size": True},
        {"size": 2**60},
        {"blobId": "../../evil"},
        {"blobId": None},
    ],
)
def test_a_listing_that_lies_brings_nothing_that_it_should_not(hub, cache, tmp_path, lie):
    hub.put(REPO, FILES | {"evil.json": b"evil"})
    hub.lies["evil.json"] = lie
    folder = bring(hub, cache)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert not list(tmp_path.rglob("*evil*"))


# The disk


def test_a_disk_without_room_is_told_before_anything_comes(hub, cache, monkeypatch):
    monkeypatch.setattr(transfer.fit, "free_disk", lambda _folder: 50)
    words = failure(hub, cache)
    assert words.startswith("The disk has too little room: 524 kB are still needed and 50 bytes are free.")
    assert hub.sent[NAME] == 0


def test_a_disk_that_fills_up_meanwhile_is_told_and_what_came_is_kept(hub, cache, monkeypatch):
    free = iter([10**12, 10**12, 10**12, 10**12, 50])
    monkeypatch.setattr(transfer, "LOOK", 1000)
    monkeypatch.setattr(transfer.fit, "free_disk", lambda _folder: next(free))
    assert "too little room" in failure(hub, cache)
    assert 0 < part(cache).stat().st_size < len(WEIGHTS)


def test_the_disk_is_looked_at_before_each_file(hub, cache, monkeypatch):
    free = iter([10**12, 10**12, 10**12, 50])
    monkeypatch.setattr(transfer.fit, "free_disk", lambda _folder: next(free))
    assert "too little room" in failure(hub, cache)
    assert hub.sent[NAME] == 0


def test_a_disk_that_is_full_at_a_write_keeps_what_came(hub, cache, monkeypatch):
    write, count = transfer._write, iter(range(100))

    def full(out, piece):
        if len(piece) > 1000 and next(count) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(out, piece)

    monkeypatch.setattr(transfer, "_write", full)
    assert failure(hub, cache).startswith(f"The disk became full while {NAME} came.")
    came = part(cache).stat().st_size
    assert 0 < came < len(WEIGHTS)
    monkeypatch.setattr(transfer, "_write", write)
    bring(hub, cache)
    assert hub.gets(NAME)[-1] == f"bytes={came}-"


def test_a_cache_that_cannot_be_written_is_a_sentence(hub, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert "cannot be written" in failure(hub, tmp_path / "file")


def test_two_programs_do_not_bring_the_same_model(hub, cache):
    lock = cache / ".locks" / "models--Qwen--Qwen3-0.6B" / "crane.lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        assert failure(hub, cache) == f"Another program is downloading {REPO} already. Wait for it, or stop it."
    assert bring(hub, cache)


def test_a_file_that_huggingface_hub_is_bringing_is_left_to_it(hub, cache):
    lock = cache / ".locks" / "models--Qwen--Qwen3-0.6B" / f"{sha256(WEIGHTS)}.lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        assert "Another program is downloading" in failure(hub, cache)


# Notes about what is not finished


def broken_off(hub, cache) -> None:
    hub.next(NAME, Drop(1000), Say(403))
    failure(hub, cache)


def test_what_is_not_finished_is_known_later(hub, cache):
    broken_off(hub, cache)
    total = sum(map(len, FILES.values()))
    [left] = notes.every(cache)
    assert left == notes.Unfinished(REPO, "main", total - len(WEIGHTS) + 1000, total, (NAME,))
    assert notes.every(cache / "another") == ()
    bring(hub, cache)
    assert notes.every(cache) == ()


def test_a_download_that_is_given_up_leaves_nothing(hub, cache):
    broken_off(hub, cache)
    notes.throw_away(cache, REPO)
    assert notes.every(cache) == ()
    assert not hub_cache.folder_of(cache, REPO).exists()
    notes.throw_away(cache, REPO)  # nothing left to do


def test_giving_up_an_update_keeps_the_version_in_use(hub, cache):
    old = bring(hub, cache)
    hub.put(REPO, FILES | {NAME: WEIGHTS + b"new"}, commit="d" * 40)
    broken_off(hub, cache)
    notes.throw_away(cache, REPO)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == FILES
    assert [path.name for path in old.parent.iterdir()] == ["c" * 40]
    assert not list((hub_cache.folder_of(cache, REPO) / "blobs").glob("*.incomplete"))


def test_giving_up_a_repair_keeps_what_is_whole(hub, cache):
    folder = bring(hub, cache)
    (folder / NAME).resolve().write_bytes(b"x" * len(WEIGHTS))
    run(verify(folder))
    broken_off(hub, cache)
    notes.throw_away(cache, REPO)
    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json"}
    assert (folder / "config.json").read_bytes() == CONFIG


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"files": 5}', "[" * 100_000])
def test_a_damaged_note_is_no_note(hub, cache, tmp_path, text):
    broken_off(hub, cache)
    [note] = (tmp_path / "state").rglob("*.json")
    note.write_text(text)
    assert notes.every(cache) == ()


@pytest.mark.parametrize("change", [{"name": "../../x"}, {"etag": "../../x"}, {"size": "9"}])
def test_a_note_that_points_elsewhere_is_no_note(hub, cache, tmp_path, change):
    broken_off(hub, cache)
    [note] = (tmp_path / "state").rglob("*.json")
    said = json.loads(note.read_text())
    said["files"][0] |= change
    note.write_text(json.dumps(said))
    assert notes.every(cache) == ()
    notes.throw_away(cache, REPO)
    assert hub_cache.folder_of(cache, REPO).exists()


# Checking what is there


def test_a_model_is_checked_without_the_hub(hub, cache):
    folder = bring(hub, cache)
    asked = len(hub.requests)
    damaged, news = run(verify(folder))
    assert damaged == ()
    assert news[-1].done == news[-1].total == sum(map(len, FILES.values()))
    assert len(hub.requests) == asked


def test_a_damaged_file_is_found_and_brought_anew(hub, cache):
    folder = bring(hub, cache)
    body = bytearray(WEIGHTS)
    body[1000] ^= 1
    (folder / NAME).resolve().write_bytes(body)
    assert run(verify(folder))[0] == (NAME,)
    assert not (folder / NAME).exists()
    assert (bring(hub, cache) / NAME).read_bytes() == WEIGHTS
    assert hub.sent["config.json"] == len(CONFIG)


def test_a_blob_that_is_gone_is_damaged(hub, cache):
    folder = bring(hub, cache)
    (folder / "config.json").resolve().unlink()
    assert run(verify(folder))[0] == ("config.json",)


def test_a_blob_that_is_shared_between_caches_is_no_damage(hub, cache, tmp_path):
    # huggingface_hub may keep blobs in one store for all models, under names that are no checksums
    folder = bring(hub, cache)
    blob = folder.parents[1] / "blobs" / sha256(WEIGHTS)
    blob.replace(tmp_path / ("e" * 64))
    blob.symlink_to(tmp_path / ("e" * 64))
    assert run(verify(folder))[0] == ()
    assert (folder / NAME).read_bytes() == WEIGHTS


def test_what_came_is_not_read_again_at_each_try(hub, cache, monkeypatch):
    hub.next(NAME, Drop(100_000), Drop(100_000))
    _, news = run(download(hub, cache).steps())
    assert [each for each in news if each.doing == "checking"] == []


def test_gits_checksum_is_that_of_git():
    # `printf 'hello\n' | git hash-object --stdin`
    from crane_app.library.hub import File

    digest = transfer.fresh(File("x", 6, "0" * 40))
    digest.update(b"hello\n")
    assert digest.hexdigest() == "ce013625030ba8dba906f756967f9e9ca394464a" == sha1(b"hello\n")
