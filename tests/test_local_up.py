"""The local cloud's life: up in the background, one at a time, found again, stopped, and cleaned up when killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from local_agents import APP, descendants, eventually, gone, kill

from classy.local.functions import AppSpec
from classy.local.ids import invoke_url
from classy.local.local_cloud import AGENT_PORT, CloudSettings, LocalCloud
from classy.local.ports import free_port, listen
from classy.local.state import STATE_FILE, AlreadyRunning, CloudState, Lock, locked, read_state, write_state
from classy.local.storage import LocalStorage
from classy.local.up import detach, down, status

PROGRAM = Path(__file__).with_name("local_cloud_under_test.py")


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    down(tmp_path / "state")
    with contextlib.suppress(ChildProcessError):  # the one in the background is our child here
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _up(state_dir: Path) -> CloudState:
    assert detach([sys.executable, str(PROGRAM), str(state_dir)], state_dir, os.environ) == 0
    state = read_state(state_dir)
    assert state is not None
    return state


def _post(url: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", parts.path, body, headers or {})
        return connection.getresponse().read()
    finally:
        connection.close()


def _upload(state: CloudState, key: str) -> None:
    parts = urlsplit(state.storage_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("PUT", f"/inbox/{key}", b"x")
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def test_up_and_down(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is up answers invokes and uploads, refuses a second start, and leaves nothing after `down`."""
    state = _up(state_dir)
    assert "ready" in capsys.readouterr().out
    assert (state.ready, state.app, state.functions) == (True, APP, ("echo", "receiver"))
    assert status(state_dir) == 0
    assert state.agent_url in capsys.readouterr().out

    echo = invoke_url(state.agent_url, APP, "echo")
    seen = json.loads(_post(echo, b"", {"What": "seen"}))
    assert seen["env"]["AWS_ENDPOINT_URL"] == state.storage_url
    _upload(state, "a.jpg")
    notes = state_dir / "notes"
    assert eventually(lambda: notes.exists() and "a.jpg" in notes.read_text(), timeout_s=15)

    with pytest.raises(AlreadyRunning, match=f"pid {state.pid}.*{state.agent_url}"):
        detach([sys.executable, str(PROGRAM), str(state_dir)], state_dir, os.environ)
    with pytest.raises(AlreadyRunning):
        LocalCloud(CloudSettings(state_dir=state_dir))
    assert _post(echo, b"still there") == b"still there"

    everything = [state.pid, *descendants(state.pid)]
    assert len(everything) >= 5  # ourselves, the reaper, the storage, two functions
    assert down(state_dir) == 0
    assert [pid for pid in everything if not gone(pid)] == []  # at once: `down` has waited for it
    assert not Path(state.run_dir).exists()
    assert (locked(state_dir), read_state(state_dir)) == (False, None)
    assert status(state_dir) == 1
    assert down(state_dir) == 0


def test_a_killed_cloud_is_cleaned_up(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After SIGKILL nothing runs on, and the next start finds objects and no obstacle."""
    state = _up(state_dir)
    _upload(state, "before.jpg")
    left = descendants(state.pid)
    kill(state.pid)
    os.waitpid(state.pid, 0)
    assert eventually(lambda: all(gone(pid) for pid in left))
    assert eventually(lambda: not Path(state.run_dir).exists())
    capsys.readouterr()
    assert status(state_dir) == 1
    assert "nothing runs" in capsys.readouterr().out
    again = _up(state_dir)
    assert any("cleaned up" in note for note in again.notes)
    assert "cleaned up" in capsys.readouterr().out
    parts = urlsplit(again.storage_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("GET", "/inbox/before.jpg")
    assert connection.getresponse().read() == b"x"
    connection.close()


def test_of_two_starts_at_once_one_wins_and_the_other_says_so(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither waits for the other in vain, and the loser's words are its own."""

    def start(_: int) -> int:
        try:
            return detach([sys.executable, str(PROGRAM), str(state_dir)], state_dir, os.environ)
        except AlreadyRunning:
            return 1

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(start, range(2))) == [0, 1]
    said = capsys.readouterr()
    assert said.out.count("ready") == 1
    assert said.err == "" or "runs already" in said.err
    assert status(state_dir) == 0


def test_a_part_that_hangs_is_named(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A storage whose process is there and answers nothing is no storage that runs."""
    state = _up(state_dir)
    (storage,) = (pid for pid in descendants(state.pid) if b"ministack" in _command(pid))
    capsys.readouterr()
    os.kill(storage, signal.SIGSTOP)
    try:
        assert status(state_dir) == 1
    finally:
        os.kill(storage, signal.SIGCONT)
    said = capsys.readouterr().out
    assert f"trouble: {state.storage_url} does not answer" in said
    assert status(state_dir, room_bytes=1 << 60) == 1
    assert "MB are free" in capsys.readouterr().out
    assert f"trouble: {state.agent_url}" not in said
    assert eventually(lambda: status(state_dir) == 0)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("text", ["{", *(pytest.param(text, marks=pytest.mark.slow) for text in ("", '{"pid": 1}'))])
def test_a_spoilt_state_file_does_not_keep_down_from_its_work(
    state_dir: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock says whose it is too."""
    state = _up(state_dir)
    everything = [state.pid, *descendants(state.pid)]
    (state_dir / STATE_FILE).write_text(text)
    capsys.readouterr()
    assert status(state_dir) == 1
    assert f"(pid {state.pid}); `classy down` stops it" in capsys.readouterr().out
    assert down(state_dir) == 0
    assert [pid for pid in everything if not gone(pid)] == []
    assert (locked(state_dir), status(state_dir)) == (False, 1)


def test_queued_uploads_survive_the_storage(state_dir: Path) -> None:
    """A storage that is killed under a running cloud is back, and no upload was forgotten."""
    state = _up(state_dir)
    notes = state_dir / "notes"
    (storage,) = (pid for pid in descendants(state.pid) if b"ministack" in _command(pid))
    keys = [f"{number}.jpg" for number in range(30)]
    for key in keys:
        _upload(state, key)
    os.killpg(storage, signal.SIGKILL)
    assert eventually(lambda: notes.exists() and all(f'{key}\\"' in notes.read_text() for key in keys), timeout_s=30)
    assert status(state_dir) == 0


@pytest.mark.parametrize(
    "after_s",
    [0.3, *(pytest.param(after_s, marks=pytest.mark.slow) for after_s in (0.05, 0.15, 0.5, 0.7, 1.0, 1.3, 1.7, 2.2))],
)
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing(
    state_dir: Path, number: signal.Signals, after_s: float
) -> None:
    """Whoever changes their mind is obeyed at once, and can start again."""
    before = set(Path("/tmp").glob("classy-*"))
    with subprocess.Popen([sys.executable, PROGRAM, state_dir], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        time.sleep(after_s)  # this is the input, not a wait
        left = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(20) in (0, 1, 130, -number)  # before Python handles signals it dies of them
    assert eventually(lambda: all(gone(pid) for pid in left))
    assert eventually(lambda: set(Path("/tmp").glob("classy-*")) <= before)
    assert not locked(state_dir)


def test_a_storage_that_ends_is_started_again(tmp_path: Path) -> None:
    """The storage's death is noticed and mended, on the same port."""
    stop = threading.Event()
    settings = CloudSettings(state_dir=tmp_path, agent_port=free_port(), storage_port=free_port())
    with LocalCloud(settings) as cloud:
        cloud.start(AppSpec(name=APP), [])
        watch = threading.Thread(target=cloud.watch, args=(stop,))
        watch.start()
        try:
            pid, endpoint = cloud.storage.pid, cloud.storage.endpoint
            os.killpg(pid, signal.SIGKILL)
            assert eventually(lambda: cloud.storage.alive and cloud.storage.pid != pid)
            assert cloud.storage.endpoint == endpoint
            s3 = cloud.storage.s3()
            assert eventually(lambda: len(s3.list_buckets()["Buckets"]) == 3)
            s3.close()
        finally:
            stop.set()
            watch.join()


def test_a_storage_that_ends_again_and_again_ends_the_cloud(tmp_path: Path) -> None:
    """A cloud whose storage does not stay up gives up with status 1."""
    settings = CloudSettings(state_dir=tmp_path, agent_port=free_port(), storage_port=free_port())
    with LocalCloud(settings) as cloud, listen(cloud.storage.port):
        cloud.agent.start()
        assert cloud.watch(threading.Event()) == 1  # its storage never ran, and its port is another's by now
        assert cloud.agent.alive


def test_a_port_that_was_asked_for_is_kept_or_refused(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start on a taken port fails with the port's number; the reason reaches the caller's terminal."""
    with listen() as other:
        port = other.getsockname()[1]
        command = [sys.executable, str(PROGRAM), str(state_dir), str(port)]
        assert detach(command, state_dir, os.environ) == 1
        assert f"port {port} can't be used" in capsys.readouterr().err
    assert not locked(state_dir)
    with LocalCloud(CloudSettings(state_dir=state_dir, agent_port=port, storage_port=free_port())) as cloud:
        assert cloud.agent.url == f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_interrupting_it_in_the_foreground_stops_it(state_dir: Path) -> None:
    """^C ends a cloud in the foreground with status 0 and leaves nothing."""
    with subprocess.Popen([sys.executable, PROGRAM, state_dir], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("ready" in line for line in process.stdout)  # behind what there is to say of ports
        left = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "stopping" in process.stdout.read()
    assert eventually(lambda: all(gone(pid) for pid in left))


def test_down_never_kills_a_stranger(state_dir: Path) -> None:
    """A state file whose pid belongs to another process by now makes `down` clean up, not kill."""
    state_dir.mkdir()
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        state = CloudState(pid=stranger.pid, started="another time", run_dir="/tmp/classy-not-there", log_dir="")
        write_state(state_dir, state)
        assert down(state_dir) == 0
        assert not (state_dir / STATE_FILE).exists()
        assert not gone(stranger.pid)
        stranger.kill()


def test_a_usual_port_that_is_taken_is_passed_over_and_said(tmp_path: Path) -> None:
    """Without a port asked for, a taken one leads to another, and the user is told so."""
    with listen(AGENT_PORT), LocalCloud(CloudSettings(state_dir=tmp_path)) as cloud:  # by us, if not by another
        state = read_state(tmp_path)
    assert cloud.agent.port != AGENT_PORT
    assert state is not None
    assert f"port {AGENT_PORT} is taken, so the functions have {cloud.agent.port}" in state.notes


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "functions": null}', '{"unknown": 1}'])
def test_an_unreadable_state_file_is_none(tmp_path: Path, text: str) -> None:
    """A state file that can't be read counts as none."""
    (tmp_path / STATE_FILE).write_text(text)
    assert read_state(tmp_path) is None


def test_the_lock_is_for_one(tmp_path: Path) -> None:
    """A state folder's lock is held once, and free again after release."""
    lock = Lock(tmp_path)
    assert locked(tmp_path)
    with pytest.raises(AlreadyRunning):
        Lock(tmp_path)
    lock.release()
    assert not locked(tmp_path)


def test_environment_is_what_classys_settings_read() -> None:
    """The storage's environment has exactly the names that the settings know."""
    from classy.settings import Settings

    storage = LocalStorage.__new__(LocalStorage)
    storage.endpoint = "http://127.0.0.1:1"
    settings = Settings.from_env(storage.environment)
    assert (settings.s3_endpoint, settings.s3_region) == ("http://127.0.0.1:1", "us-east-1")
    assert (settings.s3_access_key_id, settings.s3_secret_access_key) == ("test", "test")
