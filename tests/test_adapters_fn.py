"""The Fn adapter in the real FDK's process, called as Fn's agent calls it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from roads import FnProcess, fn_deadline, fn_process

from graphpipe_fn.codec import decode_response
from graphpipe_fn.server_timing import parse_server_timing

# A function whose answer does what the body says, so that each habit of the FDK is met.
PROBE = """
import json
import logging
import time

from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.messages import Timing
from graphpipe_fn.model import Reply


def answer(body, call):
    what, _, detail = bytes(body[:40]).decode().partition(" ")
    if what == "call":
        left_s = None if call.deadline_s is None else call.deadline_s - time.monotonic()
        told = {"id": call.id, "left_s": left_s, "trace": call.traceparent, "type": call.content_type}
        return Reply([json.dumps(told).encode()], content_type="application/json")
    if what == "sleep":
        time.sleep(float(detail))
    if what == "raise":
        raise RuntimeError("the password is swordfish")
    if what == "status":
        return Reply([b"as asked"], int(detail), "text/plain", headers=(("retry-after", "7"),))
    if what == "failed":
        return Reply([b"as asked"], int(detail), "text/plain", failed=True)
    if what == "headers":
        bad = "1\\r\\nX-Evil: 1\\r\\n\\r\\nbody"
        timings = (Timing("a\\r\\nX-Evil: 3", 0.5),)
        return Reply([b"ok"], 200, "text/plain\\r\\nX-Evil: 2", timings, (("retry-after", bad),))
    if what == "pieces":
        return Reply([b"a" * 100_000, bytearray(b"b" * 50_000), memoryview(b"c" * 7)])
    if what == "log":
        logging.getLogger("PIL").debug("a line that nobody wants")
        logging.getLogger("stage").info("a line that somebody wants")
    if what == "nothing":
        return Reply([b""])
    return Reply([b"ok"], content_type="text/plain")


handler = fn_handler(answer, limit_bytes=1_000)
"""

AGENT = {"Fn-Call-Id": "01CALLID", "Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def function() -> Iterator[FnProcess]:
    """The probe, started by fdk."""
    with fn_process(PROBE) as process:
        yield process


def ask(function: FnProcess, body: bytes, left_s: float = 30, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Call with so many seconds to go."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return function.call(body, {**AGENT, "Fn-Deadline": fn_deadline(left_s), **sent})


def test_the_call_is_what_fn_and_the_caller_said(function: FnProcess) -> None:
    """Fn's call id names a call that brings no id of its own; the deadline is Fn's."""
    _, _, body = ask(function, b"call", traceparent="00-a-b-01", Content_Type="image/png")
    told = json.loads(body)
    assert 28 < told.pop("left_s") <= 30
    assert told == {"id": "01CALLID", "trace": "00-a-b-01", "type": "image/png"}
    _, _, body = ask(function, b"call", X_Request_Id="from-the-caller")
    assert json.loads(body)["id"] == "from-the-caller"


def test_without_a_deadline_the_fdks_own_half_minute_counts(function: FnProcess) -> None:
    """The FDK invents one; it is taken."""
    _, _, body = function.call(b"call", AGENT)
    assert 28 < json.loads(body)["left_s"] <= 30


def test_a_passed_deadline_is_answered_504_at_once(function: FnProcess) -> None:
    """Nothing is begun for a caller who is gone."""
    started = time.monotonic()
    status, headers, body = ask(function, b"sleep 5", left_s=-3)
    assert time.monotonic() - started < 1
    assert (status, headers["graphpipe-status"]) == (504, "504")
    assert decode_response(body).errors[0].code == 50400


def test_work_that_outlasts_the_deadline_is_answered_504_in_time(function: FnProcess) -> None:
    """The FDK enforces no deadline; the answer comes when it passes, and the function goes on serving."""
    started = time.monotonic()
    status, _, body = ask(function, b"sleep 4", left_s=1.5)
    assert time.monotonic() - started < 1.5 + 0.3
    assert status == 504
    assert decode_response(body).errors[0].code == 50400
    assert ask(function, b"ok")[2] == b"ok"


def test_a_slow_answer_does_not_hold_up_others(function: FnProcess) -> None:
    """The work is done beside the FDK's event loop, so two slow calls take the time of one."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: ask(function, b"sleep 0.6")[2], range(2)))
    assert answers == [b"ok", b"ok"]
    assert time.monotonic() - started < 1.1


def test_a_body_over_the_limit_is_refused(function: FnProcess) -> None:
    """The FDK checks no size. Fn makes a 200 of the status, so it is in a header and in the message too."""
    status, headers, body = ask(function, b"x" * 1_001)
    assert (status, headers["graphpipe-status"]) == (200, "413")
    assert decode_response(body).errors[0].code == 41300
    assert ask(function, b"x" * 1_000)[2] == b"ok"


def test_an_exceptions_text_stays_in_the_log(function: FnProcess) -> None:
    """The FDK would send it to the caller."""
    status, headers, body = ask(function, b"raise")
    assert (status, headers["graphpipe-status"]) == (200, "500")
    assert decode_response(body).errors[0].message == "internal error, call 01CALLID"
    assert b"swordfish" not in body
    log = function.log.read_text()
    assert "the password is swordfish" in log
    assert "Traceback" in log


def test_no_header_can_be_smuggled_in(function: FnProcess) -> None:
    """The FDK writes headers as they come; ours are cleaned before."""
    status, headers, body = ask(function, b"headers")
    assert (status, body) == (200, b"ok")
    assert "x-evil" not in headers
    assert headers["content-type"] == "text/plain  X-Evil: 2"
    assert headers["retry-after"].startswith("1  X-Evil")
    assert [timing.name for timing in parse_server_timing(headers["server-timing"])] == ["a__X-Evil__3"]


def test_a_body_in_pieces_arrives_whole(function: FnProcess) -> None:
    """The FDK takes bytes only; what it would make of a memoryview is its repr."""
    status, headers, body = ask(function, b"pieces")
    assert (status, body) == (200, b"a" * 100_000 + b"b" * 50_000 + b"c" * 7)
    assert headers["content-length"] == "150007"


def test_an_empty_answer_and_an_empty_request_are_bodies_too(function: FnProcess) -> None:
    """Nothing in, nothing out, and no crash."""
    assert ask(function, b"nothing")[2] == b""
    assert ask(function, b"")[2] == b"ok"


@pytest.mark.parametrize("status", [200, 404, 429, 502, 504])
def test_a_triggers_caller_gets_the_real_status(function: FnProcess, status: int) -> None:
    """Behind an HTTP trigger the FDK puts status and headers under Fn's names."""
    _, headers, body = ask(
        function,
        b"status %d" % status,
        Fn_Intent="httprequest",
        Fn_Http_Method="POST",
        Fn_Http_Request_Url="/t/app/x",
        Fn_Http_H_X_Request_Id="outer",
    )
    assert body == b"as asked"
    assert headers["fn-http-status"] == str(status)
    assert headers["fn-http-h-retry-after"] == "7"
    assert headers["content-type"] == "text/plain"
    assert headers.get("fn-http-h-graphpipe-status", "200") == str(status)


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503, 504])
def test_a_direct_caller_gets_the_answer_whatever_its_status(function: FnProcess, status: int) -> None:
    """Fn would put "function failed" in the place of a 502's body, and "Timed out" in that of a 504's."""
    told, headers, body = ask(function, b"status %d" % status)
    assert (told, headers["graphpipe-status"], body) == (200, str(status), b"as asked")


@pytest.mark.parametrize(("status", "expected"), [(500, 502), (502, 502), (503, 502), (504, 504)])
def test_a_call_that_shall_count_as_failed_does(function: FnProcess, status: int, expected: int) -> None:
    """Only so is an event delivered again."""
    told, headers, _ = ask(function, b"failed %d" % status)
    assert (told, headers["graphpipe-status"]) == (expected, str(status))


def test_a_triggers_caller_can_not_buy_time(function: FnProcess) -> None:
    """A deadline among the outer request's headers is not Fn's."""
    _, _, body = ask(function, b"call", left_s=5, Fn_Intent="httprequest", Fn_Http_H_Fn_Deadline=fn_deadline(3_000))
    assert json.loads(body)["left_s"] <= 5
    _, _, body = ask(function, b"call", Fn_Intent="httprequest", Fn_Http_H_X_Request_Id="outer")
    assert json.loads(body)["id"] == "outer"


def test_debug_lines_of_libraries_stay_out_of_the_log(function: FnProcess) -> None:
    """The FDK sets the root logger to DEBUG; a function's log is paid for by the line."""
    ask(function, b"log")
    log = function.log.read_text()
    assert "a line that somebody wants" in log
    assert "nobody wants" not in log
    assert "01CALLID - stage - INFO" in log
