"""One exchange: whatever bytes come back, the fetch ends in an answer or in an error of ours."""

from __future__ import annotations

import gzip
import random
import threading

import pytest
from hostile.servers import CHUNKED, PICTURE, Case, Peer, Server, chunk, head

from classy.download import DownloadLimits, Fetcher
from classy.networks import Opened

ANSWERS = [
    head(f"Content-Length: {len(PICTURE)}", "Content-Type: image/png") + PICTURE,
    CHUNKED + chunk(PICTURE[:3000]) + chunk(PICTURE[3000:]) + b"0\r\nX-Sum: 1\r\n\r\n",
    head("Content-Encoding: gzip") + gzip.compress(PICTURE, mtime=0),
    head("Content-Encoding: gzip", "Transfer-Encoding: chunked")
    + chunk(gzip.compress(PICTURE, mtime=0))
    + b"0\r\n\r\n",
    head("Link: </a.css>", status="103 Early Hints") + head("Content-Length: 2") + b"ok",
    head("Location: /next.png", "Content-Length: 0", status="302 Found"),
    head("Content-Type: text/html", status="404 Not Found") + b"<html>",
]


def mutated(rng: random.Random) -> bytes:
    """Return an answer with a few bytes turned, cut out, doubled or put elsewhere, most of them in its head."""
    data = bytearray(rng.choice(ANSWERS))
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(min(len(data), rng.choice((40, 200, len(data)))))
        end = place + rng.randrange(1, 30)
        match rng.randrange(6):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.randrange(256)
            case 2:
                del data[place:end]
            case 3:
                data[place:place] = data[place:end] * rng.randrange(1, 50)
            case 4:
                data[place:place] = rng.choice(
                    (b"\r\n", b"\n", b"\0", b": ", b"9", b"-", b"\xff", b"0\r\n\r\n", b" " * 70_000)
                )
            case _:
                del data[place:]
        if not data:
            return b""
    return bytes(data)


def fetch_mutations(seed: int, count: int) -> dict[str, int]:
    """Fetch mutated answers and return how often each way of ending was met."""
    rng = random.Random(seed)
    lock = threading.Lock()

    def behave(peer: Peer) -> None:
        peer.request()
        with lock:
            data = mutated(rng)
        peer.send(data)

    server = Server(Case("mutations", behave, ()))
    fetcher = Fetcher(
        limits=DownloadLimits(timeout_s=5.0, limit_bytes=100_000), opened=Opened.parse(f"127.0.0.1:{server.port}")
    )
    ends: dict[str, int] = {}
    for number in range(count):
        (outcome,) = fetcher.fetch_all([f"{server.url}?{number}"])
        if isinstance(outcome, bytes):
            assert 0 < len(outcome) <= 100_000
            end = "bytes"
        else:
            assert outcome.message.isprintable()
            assert 400 <= outcome.status < 500, outcome  # a bug would be an InternalError
            end = type(outcome).__name__
        ends[end] = ends.get(end, 0) + 1
    server.close()
    return ends


def test_spoilt_answers_end_in_our_errors() -> None:
    """Of hundreds of mutated answers, each is fetched within the limit or fails by an error about the server."""
    ends = fetch_mutations(1, 600)
    assert {"bytes", "SourceFailed", "SourceNotFound"} <= set(ends)
    assert min(ends["bytes"], ends["SourceFailed"]) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_spoilt_answers_end_in_our_errors(seed: int) -> None:
    """What holds for hundreds holds for tens of thousands."""
    fetch_mutations(seed, 5000)
