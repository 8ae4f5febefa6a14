"""What functions print: in lines, under the right call, bounded, harmless."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from classy.local.output import LINE_BYTES, LogFile, Output


def _written(tmp_path: Path, pieces: list[bytes], *, call_bytes: int = 1 << 20) -> list[str]:
    """Return the log lines, without their times, of one call that prints these pieces."""

    async def play() -> None:
        log = LogFile(tmp_path / "log")
        output = Output(log, call_bytes=call_bytes)
        end = os.dup(output.write_fd)
        output.started(7)
        output.begin("CALL")
        for piece in pieces:
            os.write(end, piece)
            output.drain()
        output.end()
        os.write(end, b"between calls\n")
        os.close(end)
        output.close()
        log.close()

    asyncio.run(play())
    return [line.partition(" ")[2] for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([b"a\n", b"b\n"], ["a", "b"], id="lines"),
        pytest.param([b"a", b"b\nc"], ["ab", "c"], id="pieces of lines, and no end"),
        pytest.param([b"a\r\n\n"], ["a", ""], id="carriage returns and empty lines"),
        pytest.param(["ü\n".encode()[:1], "ü\n".encode()[1:]], ["ü"], id="a character in two pieces"),
        pytest.param([b"\xff\n"], ["\ufffd"], id="no UTF-8"),
        pytest.param([b"a\x1b[2J\x00\x85b\tc\n"], ["a\\x1b[2J\\x00\ufffdb\tc"], id="control characters"),
        pytest.param(["\u0085\n".encode()], ["\\x85"], id="a control character of Unicode"),
        pytest.param([b"x" * (LINE_BYTES + 1) + b"\n"], ["x" * LINE_BYTES, "x"], id="a long line"),
    ],
)
def test_lines(tmp_path: Path, pieces: list[bytes], expected: list[str]) -> None:
    """Each line stands under its call and its process; nothing printed can forge another or steer a terminal."""
    assert _written(tmp_path, pieces) == [*(f"CALL [7] {line}" for line in expected), "- [7] between calls"]


def test_a_call_over_its_share_is_cut(tmp_path: Path) -> None:
    """What a call prints over its share is counted, not kept; the next one has a share of its own."""
    lines = _written(tmp_path, [b"a" * 9 + b"\n"] * 10, call_bytes=25)
    assert lines == ["CALL [7] aaaaaaaaa"] * 2 + [
        "CALL [7] … 80 more bytes of output were dropped",
        "- [7] between calls",
    ]


def test_a_log_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """A full log file becomes the old one, of which there is one."""
    log = LogFile(tmp_path / "log", limit_bytes=1000)
    for number in range(200):
        log.write("CALL", f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith("line 199")
    again = LogFile(tmp_path / "log", limit_bytes=1000)
    again.write("", "after a restart")
    again.close()
    assert "line 199" in (tmp_path / "log").read_text() + (tmp_path / "log.1").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_costs_lines_and_not_calls(tmp_path: Path) -> None:
    """What can't be written is counted, and the count is written when there is room again."""
    (tmp_path / "log").symlink_to("/dev/full")
    log = LogFile(tmp_path / "log", limit_bytes=200)
    log.write("CALL", "lost")
    log.write("CALL", "lost too")
    log.write("CALL", "x" * 300)  # begins a new file, on a disk with room
    log.close()
    lines = [line.partition(" ")[2] for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    lost = "- … 2 lines before the last one were lost: there was no room for them"
    assert lines in ([f"CALL {'x' * 300}", lost], [lost])  # the second line may have begun a file of its own
