"""The local agent: every failure as Fn's server answers it, processes under load, and nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from local_agents import (
    APP,
    FUNCTIONS,
    Answer,
    Running,
    children,
    descendants,
    eventually,
    gone,
    kill,
    process_state,
    running,
    specs,
)

from classy.local.ids import make_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; the agent's signals are Linux's")

FUNCTION_FAILED = (502, "function failed")
NO_RESPONSE = (502, "error receiving function response")
TIMED_OUT = (504, "Timed out")
# From Python 3.12 on, a server that closes waits for its connections, so fdk's process waits for our call's.
SYSTEM_EXIT = NO_RESPONSE if sys.version_info < (3, 12) else TIMED_OUT
LATEST_FDK = "please ensure you are using the latest fdk and check the logs"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    hasty = ("fails", "slow_import")
    functions = [replace(spec, timeout_s=1 if spec.name in hasty else 5) for spec in specs()]
    with running(tmp_path_factory.mktemp("logs"), functions) as started:
        yield started


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.mark.parametrize(
    ("function", "body", "expected"),
    [
        pytest.param("fails", b"raise", FUNCTION_FAILED, id="handler raises"),
        pytest.param("fails", b"timeout", TIMED_OUT, id="handler raises TimeoutError"),
        pytest.param("fails", b"exit", NO_RESPONSE, id="process exits"),
        pytest.param("fails", b"sysexit", SYSTEM_EXIT, id="handler raises SystemExit"),
        pytest.param("fails", b"kill", NO_RESPONSE, id="process is killed"),
        pytest.param("fails", b"hang up", NO_RESPONSE, id="process closes the connection"),
        pytest.param("fails", b"memory", NO_RESPONSE, id="over the memory limit"),
        pytest.param("fails", b"sleep", TIMED_OUT, id="over the timeout"),
        pytest.param("broken_import", b"", FUNCTION_FAILED, id="import error"),
        pytest.param("no_handler", b"", FUNCTION_FAILED, id="no such handler"),
        pytest.param("slow_import", b"", TIMED_OUT, id="import longer than the timeout"),
        pytest.param(
            "dies_at_start", b"", (502, f"Container failed to initialize, {LATEST_FDK}"), id="ends before the socket"
        ),
        pytest.param(
            "no_socket", b"", (504, f"Container initialization timed out, {LATEST_FDK}"), id="no socket in 5 s"
        ),
        pytest.param("nobody", b"", (404, "Fn not found"), id="unknown function"),
    ],
)
def test_failure(agent: Running, function: str, body: bytes, expected: tuple[int, str]) -> None:
    """A failing call is answered with the real server's status and words, and nothing of the detail."""
    answer = agent.invoke(function, body)
    assert expected == (answer.status, answer.message)
    assert {"message"} == set(answer.json)


def test_error_answers_carry_the_call_id_of_their_log_lines(agent: Running) -> None:
    """An error's answer names the call, under which the log has what the answer must not tell."""
    answer = agent.invoke("fails", b"raise")
    lines = [line for line in agent.log("fails").splitlines() if "the detail that belongs to the log" in line]
    assert answer.headers["Fn-Call-Id"] in [line.split()[1] for line in lines]


def test_a_process_outlives_its_handlers_exception(agent: Running) -> None:
    """A handler that raises keeps its process; a process that takes too long is replaced."""
    first = agent.invoke("fails", b"pid").body
    agent.invoke("fails", b"raise")
    assert first == agent.invoke("fails", b"pid").body
    agent.invoke("fails", b"sleep")
    assert first != agent.invoke("fails", b"pid").body


def test_the_memory_limit_is_named_in_the_log(agent: Running) -> None:
    """What exceeds its memory is killed with the reason in the log."""
    agent.invoke("fails", b"memory")
    assert "over its limit of 128 MB" in agent.log("fails")


def test_more_threads_than_fn_allows_are_named_in_the_log(agent: Running) -> None:
    """What would fail in a container works here, and the log says so, once."""
    assert agent.invoke("fails", b"threads").status == 200
    warned = "threads; Fn starts no more than 50"
    assert agent.log("fails").count(warned) == 1


def test_a_function_gets_fns_environment_and_nothing_else(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process sees its configuration and what Fn sets, never this machine's environment or home."""
    monkeypatch.setenv("A_SECRET_OF_THE_HOST", "1")
    assert agent.invoke("status", b"200").status == 200
    seen = agent.seen()
    expected = {
        "HOME": "/home/fn",
        "FN_APP_ID": make_id(APP),
        "FN_FN_ID": make_id(APP, "echo"),
        "FN_MEMORY": "128",
        "FN_TYPE": "sync",
        "FN_FORMAT": "http-stream",
        "FROM_APP": "1",
    }
    assert expected == {name: seen["env"].get(name) for name in expected}
    ours = {*expected, "FN_LISTENER", "PATH", "HOSTNAME", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert ours == set(seen["env"]) - {"LC_CTYPE"}  # Python's own
    assert str(FUNCTIONS / "echo") == seen["cwd"]
    assert len(seen["env"]["FN_LISTENER"]) < 107 - len("phony")


def test_headers_of_a_call(agent: Running) -> None:
    """A function gets the caller's end-to-end headers, an id and a deadline of ours, and a chunked body."""
    sent = {"X-Own": "1", "Fn-Call-Id": "forged", "Fn-Deadline": "forged", "Connection": "close, X-Hop", "X-Hop": "1"}
    before = time.time()
    seen = agent.seen({**sent, "fn-intent": "cloudevent", "Content-Type": "text/plain", "Keep-Alive": "1"})
    names = {"x-own", "what", "accept-encoding", "fn-intent", "content-type", "fn-call-id", "fn-deadline", "host",
             "transfer-encoding"}  # fmt: skip
    assert names == set(seen["headers"]) - {"connection"}  # which speaks of our own connection to the process
    assert (seen["headers"]["transfer-encoding"], seen["headers"]["host"]) == ("chunked", "localhost")
    assert (len(seen["call_id"]), seen["headers"]["fn-intent"]) == (26, "cloudevent")
    deadline = time.strptime(seen["deadline"], "%Y-%m-%dT%H:%M:%SZ")
    assert before < int(time.mktime(deadline) - time.timezone) <= time.time() + 5


def test_headers_of_an_answer(agent: Running) -> None:
    """The caller gets the function's headers and the call's id, and none of the connection's."""
    answer = agent.invoke("status", b"404", {"fn-intent": "cloudevent"})
    names = {"X-Own", "Content-Type", "Fn-Call-Id", "Fn-Fdk-Version", "Fn-Fdk-Runtime", "Content-Length", "Date"}
    assert names == set(answer.headers)
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"body", "text/x-own")


@pytest.mark.parametrize(
    ("wanted", "expected"), [(200, 200), (201, 201), (404, 404), (418, 418), (502, 502), (504, 504), (500, 502)]
)
def test_a_trigger_answers_with_the_functions_own_status(agent: Running, wanted: int, expected: int) -> None:
    """Through a trigger a function's status is the caller's, but for a 5xx that only the server may use."""
    answer = agent.send("POST", f"/t/{APP}/status", str(wanted).encode())
    if wanted in (502, 504):  # FDK passes these to the server, which answers in its own words
        assert expected == answer.status
    else:
        assert (expected, b"body", "1") == (answer.status, answer.body, answer.headers["X-Own"])
        assert {"X-Own", "Content-Type", "Fn-Call-Id", "Content-Length", "Date"} == set(answer.headers)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_trigger_tells_the_function_what_was_asked(agent: Running, method: str) -> None:
    """A function behind a trigger sees the caller's method, URL and headers, which can't forge Fn's own."""
    sent = {"X-Own": "1", "What": "seen", "Content-Type": "text/x-own", "Fn-Http-Method": "FORGED"}
    answer = agent.send(method, f"/t/{APP}/echo?a=1&b=%20", b"", sent)
    seen = answer.json
    assert (200, method) == (answer.status, seen["method"])
    assert f"{agent.agent.url}/t/{APP}/echo?a=1&b=%20" == seen["url"]
    assert (seen["headers"]["x-own"], seen["headers"]["content-type"]) == ("1", "text/x-own")
    assert "host" not in seen["headers"] or seen["headers"]["host"] == "localhost"


def test_an_unknown_trigger_is_refused(agent: Running) -> None:
    """A path without a trigger, and an app that is not there, are told apart."""
    assert _status_and_message(agent.send("GET", f"/t/{APP}/nowhere")) == (404, "Trigger not found")
    assert _status_and_message(agent.send("GET", "/t/nobody/echo")) == (404, "App not found")


def test_a_detached_call_is_answered_at_once_and_done_later(logs: Path) -> None:
    """A detached invoke is answered empty before the function has finished, which it then does."""
    with running(logs, specs("work", config={"WORK_S": "0.5"})) as agent:
        agent.invoke("work")  # so that a process is there
        before = time.monotonic()
        answer = agent.invoke("work", b"x", {"Fn-Invoke-Type": "detached"})
        assert (answer.status, answer.body, len(answer.headers["Fn-Call-Id"])) == (200, b"", 26)
        assert time.monotonic() - before < 0.4
        (pid,) = agent.pids("work")
        assert eventually(lambda: process_state(pid) == "T", timeout_s=3)  # it worked, then idled, then froze


@pytest.mark.parametrize("count", [0, 1, 65_536, 6_100_000, 30_000_000])
def test_bodies_arrive_whole(agent: Running, count: int) -> None:
    """Any bytes in and out, of any length, arrive as they were sent."""
    body = random.Random(count).randbytes(count)
    answer = agent.invoke("echo", body)
    assert (200, str(count)) == (answer.status, answer.headers["Content-Length"])
    assert body == answer.body


@pytest.mark.slow
def test_a_body_of_120_mb_arrives_whole(agent: Running) -> None:
    """A body far over what is kept in memory reaches the function whole, and leaves no file behind."""
    body = random.Random(1).randbytes(120_000_000)
    expected = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert expected == agent.invoke("big", body).body.decode()
    assert [path for path in agent.run_dir.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("length", ["with its length", "chunked"])
@pytest.mark.parametrize("function", ["echo", "fails"])
def test_a_body_that_no_process_can_hold_is_refused_before_it_costs_one(
    agent: Running, function: str, length: str
) -> None:
    """A body of 300 MB for a function of 128 MB is a 413, and neither process nor disk is touched."""
    before = agent.invoke("fails", b"pid").body
    pieces = [b"x" * 1_000_000] * 300
    connection = http.client.HTTPConnection("127.0.0.1", agent.agent.port, timeout=60)
    headers = {"Content-Length": "300000000"} if length != "chunked" else {"Transfer-Encoding": "chunked"}
    try:
        with contextlib.suppress(ConnectionError):  # it hangs up once it has said so
            connection.request(
                "POST",
                f"/invoke/{make_id(APP, function)}",
                iter(pieces),
                headers,
                encode_chunked=length == "chunked",
            )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (413, {"message": "Request content too large"})
    finally:
        connection.close()
    assert before == agent.invoke("fails", b"pid").body
    assert [path for path in agent.run_dir.iterdir() if path.is_file()] == []


def test_ten_megabytes_of_output_are_cut_and_marked(agent: Running) -> None:
    """A function that prints 10 MB is answered, and leaves 1 MB in the log, every line with the call's id."""
    answer = agent.invoke("noisy", b"10000000")
    assert (answer.status, answer.body) == (200, b"printed")
    log = agent.log("noisy")
    assert len(log) < 2_500_000
    call_id = answer.headers["Fn-Call-Id"]
    lines = [line for line in log.splitlines() if "xxx" in line or "red" in line or "dropped" in line]
    assert {call_id} == {line.split()[1] for line in lines}
    assert "more bytes of output were dropped" in lines[-1]
    assert lines[0].endswith("\\x1b[31mred\\x1b[0m")
    assert not any(character < " " for line in log.splitlines() for character in line)


def test_an_idle_process_is_frozen_and_thawed(agent: Running) -> None:
    """A process is stopped soon after its call, and goes on with the next one."""
    pid = agent.seen()["pid"]
    assert eventually(lambda: process_state(pid) == "T")
    assert pid == agent.seen()["pid"]


def test_an_idle_process_ends_after_its_idle_timeout(logs: Path) -> None:
    """A process without calls is gone after its idle timeout, and the next call starts another."""
    with running(logs, specs("echo", idle_timeout_s=1)) as agent:
        pid = agent.seen()["pid"]
        assert eventually(lambda: gone(pid), timeout_s=4)
        assert pid != agent.seen()["pid"]
        assert "idle for 1 s" in agent.log("echo")


def test_processes_grow_with_the_load_up_to_the_limit(logs: Path) -> None:
    """Calls at the same time get processes of their own, up to the limit; the others wait for their turn."""
    with running(logs, specs("work", config={"WORK_S": "0.3"}), processes=3) as agent, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: agent.invoke("work", b"%d" % number), range(8)))
        assert [hashlib.sha256(b"%d" % number).hexdigest() for number in range(8)] == [
            answer.body.decode() for answer in answers
        ]
        assert len(agent.pids("work")) == 3


def test_calls_wait_in_the_order_in_which_they_came(logs: Path) -> None:
    """With one process, calls are served first come, first served."""
    served: list[int] = []
    with running(logs, specs("work", config={"WORK_S": "0.15"}), processes=1) as agent:

        def call(number: int) -> None:
            agent.invoke("work")
            served.append(number)

        agent.invoke("work")
        threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
            time.sleep(0.03)  # so that they do arrive one after the other; this is the input, not a wait
        for thread in threads:
            thread.join()
    assert served == [0, 1, 2, 3, 4]


def test_a_call_that_finds_no_process_in_time_is_told_to_retry(logs: Path) -> None:
    """A call for which nothing becomes free is answered 503, not kept for ever."""
    with (
        running(logs, specs("fails", timeout_s=2), processes=1, queue_s=1.0) as agent,
        ThreadPoolExecutor(2) as pool,
    ):
        assert agent.invoke("fails", b"pid").status == 200  # the process is there
        answers = list(pool.map(lambda _: _status_and_message(agent.invoke("fails", b"sleep")), range(2)))
        assert sorted(answers) == [(503, "Timed out - server too busy"), TIMED_OUT]


def test_functions_that_call_functions_do_not_starve(logs: Path) -> None:
    """Many callers of a function that calls another through the same agent all get their answer."""
    with running(logs, specs("echo", "relay")) as agent, ThreadPoolExecutor(40) as pool:
        config = {"RELAY_TO": agent.agent.invoke_url(APP, "echo")}
        assert agent.api("PUT", f"/v2/fns/{make_id(APP, 'relay')}", {"config": config}).status == 200
        answers = list(pool.map(lambda number: agent.invoke("relay", b"%d" % number), range(80)))
        assert [b"%d" % number for number in range(80)] == [answer.body for answer in answers]


def test_a_change_of_configuration_replaces_the_processes(logs: Path) -> None:
    """What the API changes holds from the next call on, without a restart of the agent."""
    with running(logs, specs("echo")) as agent:
        first = agent.seen()
        agent.api("PUT", f"/v2/fns/{make_id(APP, 'echo')}", {"config": {"OWN": "1"}, "memory": 256})
        second = agent.seen()
        agent.api("PUT", f"/v2/apps/{make_id(APP)}", {"config": {"FROM_APP": "", "ALL": "1"}})
        third = agent.seen()
        agent.api("PUT", f"/v2/fns/{make_id(APP, 'echo')}", {"image": "local/status:0.0.1"})
        assert [seen["env"].get("FROM_APP") for seen in (first, second, third)] == ["1", "1", None]
        assert [seen["env"].get("OWN") for seen in (first, second, third)] == [None, "1", "1"]
        assert [seen["env"]["FN_MEMORY"] for seen in (first, second, third)] == ["128", "256", "256"]
        assert len({seen["pid"] for seen in (first, second, third)}) == 3
        assert eventually(lambda: all(gone(seen["pid"]) for seen in (first, second, third)))
        answer = agent.invoke("echo", b"200")
        assert (answer.status, answer.message[:20]) == (502, "Failed to pull image")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"K=V": "x"}, id="a name with ="),
        pytest.param({"K": "a\0b"}, id="a value with NUL"),
        pytest.param({"PYTHONHOME": "/nonexistent"}, id="what breaks Python"),
    ],
)
def test_a_configuration_that_no_process_can_be_started_with_is_answered_at_once(
    agent: Running, config: dict[str, str]
) -> None:
    """It ends one call, in Fn's words, instead of one start after the other until the call gives up."""
    fn_id = make_id(APP, "status")
    assert agent.api("PUT", f"/v2/fns/{fn_id}", {"config": config}).status == 200
    try:
        begun_s = time.monotonic()
        answer = agent.invoke("status", b"200")
        assert (answer.status, answer.message.partition(",")[0]) == (502, "Container failed to initialize")
        assert time.monotonic() - begun_s < 5
    finally:
        agent.api("PUT", f"/v2/fns/{fn_id}", {"config": dict.fromkeys(config, "")})
    assert agent.invoke("status", b"200").body == b"body"


def test_a_change_lets_running_calls_end(logs: Path) -> None:
    """A call that runs while its function is changed is answered by its old process."""
    with running(logs, specs("work", config={"WORK_S": "0.5"})) as agent, ThreadPoolExecutor(1) as pool:
        call = pool.submit(agent.invoke, "work", b"x")
        (pid,) = eventually(lambda: agent.pids("work")) or [0]
        time.sleep(0.3)  # into the call's half second; were it over, the assertions below still had to hold
        agent.api("PUT", f"/v2/fns/{make_id(APP, 'work')}", {"config": {"WORK_S": "0"}})
        assert (200, hashlib.sha256(b"x").hexdigest()) == (call.result().status, call.result().body.decode())
        assert eventually(lambda: gone(pid))


HEAD = b"HTTP/1.1 200 OK\r\n"
INVALID = (502, "invalid function response")
RUBBISH = {
    "nothing": (b"", "", NO_RESPONSE),
    "no HTTP": (b"\x00\xff no HTTP at all\r\n\r\n", "", NO_RESPONSE),
    "half a head": (HEAD, "", NO_RESPONSE),
    "half a body": (HEAD + b"Content-Length: 9\r\n\r\ncut", "", NO_RESPONSE),
    "a length below zero": (HEAD + b"Content-Length: -1\r\n\r\n", "", NO_RESPONSE),
    "a chunk of no size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", NO_RESPONSE),
    "a header without end": (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "", NO_RESPONSE),
    "NUL in a header": (HEAD + b"A: \x00\r\nContent-Length: 0\r\n\r\n", "", NO_RESPONSE),
    "a status of its own": (b"HTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n", "", INVALID),
    "another protocol": (b"HTTP/1.1 101 No\r\n\r\n", "", INVALID),
    "half a body and no end": (HEAD + b"Content-Length: 9\r\n\r\ncut", "1", TIMED_OUT),
    "only promises": (b"HTTP/1.1 100 Continue\r\n\r\n" * 99, "1", TIMED_OUT),
}


def test_functions_that_speak_rubbish(logs: Path) -> None:
    """Whatever comes out of a function's socket, its caller and the next one get one of Fn's answers in time."""
    (spec,) = specs("rubbish", timeout_s=3)
    functions = [
        replace(spec, name=f"rubbish-{number}", config={"RUBBISH": repr(said), "KEEP_OPEN": keep_open})
        for number, (said, keep_open, _) in enumerate(RUBBISH.values())
    ]
    with running(logs, functions) as agent, ThreadPoolExecutor(len(RUBBISH)) as pool:

        def answers(function: str) -> list[tuple[int, str]]:
            return [_status_and_message(agent.invoke(function, b"x")) for _ in range(2)]

        found = dict(zip(RUBBISH, pool.map(answers, [spec.name for spec in functions]), strict=True))
        assert {name: [expected] * 2 for name, (_, _, expected) in RUBBISH.items()} == found
        assert [path for path in agent.run_dir.iterdir() if path.is_file()] == []


def test_names_may_be_as_long_as_fns(logs: Path) -> None:
    """An app and a function of 255 characters each are invoked; logs of names that begin alike stay apart."""
    with running(logs, specs("echo")) as agent:
        app = agent.api("POST", "/v2/apps", {"name": "a" * 255}).json
        for name in ("f" * 255, "f" * 254 + "g"):
            fn = {"name": name, "app_id": app["id"], "image": "local/echo:0.0.1"}
            fn_id = agent.api("POST", "/v2/fns", fn).json["id"]
            assert agent.send("POST", f"/invoke/{fn_id}", b"whole").body == b"whole"
        assert len(list(logs.iterdir())) == 2


def test_deleting_a_function_ends_its_processes(logs: Path) -> None:
    """A deleted function is unknown at once, and its processes go."""
    with running(logs, specs("echo")) as agent:
        pid = agent.seen()["pid"]
        assert agent.api("DELETE", f"/v2/fns/{make_id(APP, 'echo')}").status == 204
        assert _status_and_message(agent.invoke("echo")) == (404, "Fn not found")
        assert eventually(lambda: gone(pid))


def test_a_caller_that_hangs_up_frees_what_worked_for_it(logs: Path) -> None:
    """A call whose caller is gone is stopped; the next caller gets a process of its own."""
    with running(logs, specs("fails"), processes=1) as agent:
        with socket.create_connection(("127.0.0.1", agent.agent.port)) as caller:
            head = f"POST /invoke/{make_id(APP, 'fails')} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
            caller.sendall(head.encode() + b"sleep")
            assert eventually(lambda: "falling asleep" in agent.log("fails"))
            (pid,) = agent.pids("fails")
        assert eventually(lambda: gone(pid))
        assert agent.invoke("fails", b"pid").body not in (b"", str(pid).encode())


def test_a_caller_that_hangs_up_half_way_takes_no_process(logs: Path) -> None:
    """A body that never arrives whole starts no process and leaves no file."""
    with running(logs, specs("echo")) as agent:
        with socket.create_connection(("127.0.0.1", agent.agent.port)) as caller:
            head = f"POST /invoke/{make_id(APP, 'echo')} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
            caller.sendall(head.encode() + b"x" * 3_000_000)
        assert agent.invoke("echo").status == 200
        assert agent.log("echo").count("started in") == 1
        assert [path for path in agent.run_dir.iterdir() if path.is_file()] == []


def _status_and_message(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.message


def _hammer(agent: Running, calls: int, seed: int) -> list[tuple[bool, int, str]]:
    """Call 8 at a time while a thread kills processes; return (right answer, status, message) of each call."""
    over = threading.Event()
    chance = random.Random(seed)

    def murder() -> None:
        while not over.wait(chance.uniform(0.05, 0.4)):
            if victims := agent.pids("work"):
                kill(chance.choice(victims))

    def call(number: int) -> tuple[bool, int, str]:
        body = b"%d" % number
        answer = agent.invoke("work", body)
        right = answer.body.decode() == hashlib.sha256(body).hexdigest()
        return right, answer.status, "" if answer.status == 200 else answer.message

    murderer = threading.Thread(target=murder)
    murderer.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(call, range(calls)))
    finally:
        over.set()
        murderer.join()


RETRYABLE = {(502, "error receiving function response"), (502, f"Container failed to initialize, {LATEST_FDK}")}


@pytest.mark.parametrize("calls", [pytest.param(60), pytest.param(200, marks=pytest.mark.slow)])
def test_calls_while_processes_are_killed(logs: Path, calls: int) -> None:
    """Each of many calls, while processes are killed at random, ends in the right answer or a retryable error."""
    with running(logs, specs("work", config={"WORK_S": "0.05"})) as agent:
        outcomes = _hammer(agent, calls, seed=calls)
        assert calls == len(outcomes)
        assert all(right for right, status, _ in outcomes if status == 200)
        assert {(status, message) for _, status, message in outcomes if status != 200} <= RETRYABLE
        assert sum(right for right, _, _ in outcomes) > calls / 3  # the killer does not win every time
        assert agent.log("work").count("ended by itself with status -9") > 0
        left = agent.pids("work")
    assert eventually(lambda: all(gone(pid) for pid in left))


def test_stopping_leaves_nothing(logs: Path) -> None:
    """A stopped agent leaves neither process, even of a function's own making, nor socket, nor file."""
    before = set(children())
    with running(logs, specs("echo", "parent", "fails", timeout_s=60)) as agent, ThreadPoolExecutor(1) as pool:
        agent.invoke("echo")
        grandchild = int(agent.invoke("parent").body)
        call = pool.submit(agent.invoke, "fails", b"sleep")
        assert eventually(lambda: agent.pids("fails"))
        run_dir = agent.run_dir
        agent.agent.stop()
        assert isinstance(call.exception(), OSError) or call.result().status >= 500
    assert eventually(lambda: set(children()) <= before)  # what other tests left running may end meanwhile
    assert eventually(lambda: gone(grandchild))
    assert not run_dir.exists()


def test_a_killed_agent_leaves_nothing(tmp_path: Path) -> None:
    """An agent that is killed outright leaves neither process, even of a function's own making, nor socket."""
    script = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from local_agents import running, specs
with running(Path(sys.argv[2]), specs("echo", "parent")) as agent:
    agent.invoke("echo")
    print(agent.invoke("parent").body.decode(), agent.run_dir, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild, run_dir = process.stdout.readline().split()
        left = descendants(process.pid)
        assert len(left) >= 4  # two functions, the grandchild, the reaper
        assert int(grandchild) in left
        process.kill()
    assert eventually(lambda: all(gone(pid) for pid in left))
    assert eventually(lambda: not os.path.lexists(run_dir))
