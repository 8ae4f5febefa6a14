"""Objects on a disk, by file:// URIs."""

from __future__ import annotations

import os
import pathlib
import threading
import time

import pytest

from classy import files
from classy.errors import SourceNotFound, StorageFailed, UnusableURL
from graphpipe_fn.errors import TooLarge


def test_what_is_written_is_read(tmp_path: pathlib.Path) -> None:
    """A file comes back whole, in pieces and by its size; folders are made on the way."""
    uri = (tmp_path / "ä folder" / "100%" / "cat #1.png").as_uri()
    assert files.write(uri, b"0123456789", if_absent=False) is True
    assert files.read(uri, limit_bytes=10) == b"0123456789"
    assert tuple(files.read_range(uri, start, length) for start, length in ((2, 3), (8, 9), (10, 5), (99, 5))) == (
        b"234",
        b"89",
        b"",
        b"",
    )
    assert files.size(uri) == 10
    assert abs(files.modified(uri) - time.time()) < 60


def test_a_file_is_replaced_or_left_alone(tmp_path: pathlib.Path) -> None:
    """A second write replaces the first; with if_absent it says False and changes nothing."""
    uri = (tmp_path / "a").as_uri()
    assert [files.write(uri, text, if_absent=True) for text in (b"one", b"two")] == [True, False]
    assert files.read(uri, limit_bytes=9) == b"one"
    assert files.write(uri, b"three", if_absent=False) is True
    assert files.read(uri, limit_bytes=9) == b"three"
    assert os.listdir(tmp_path) == ["a"]


def test_of_several_writers_one_wins(tmp_path: pathlib.Path) -> None:
    """Many threads create the same file: one of them is told that it did, and its bytes are there."""
    uri = (tmp_path / "a").as_uri()
    ready = threading.Barrier(16)
    won: list[int] = []

    def write(number: int) -> None:
        ready.wait()
        if files.write(uri, b"%d" % number, if_absent=True):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [files.read(uri, limit_bytes=9)] == [b"%d" % number for number in won]


def test_a_folder_is_listed(tmp_path: pathlib.Path) -> None:
    """All files below a folder are listed, as URIs that read() takes; unfinished ones and other folders are not."""
    for name in ("m/a/1", "m/b c/2", "m/3", "mm/4"):
        files.write((tmp_path / name).as_uri(), name.encode(), if_absent=False)
    (tmp_path / "m" / ".5.123.part").write_bytes(b"unfinished")
    root = tmp_path.as_uri()
    found = files.listed(f"{root}/m/")
    assert [f"{root}/m/3", f"{root}/m/a/1", f"{root}/m/b%20c/2"] == found
    assert [files.read(uri, limit_bytes=9) for uri in found] == [b"m/3", b"m/a/1", b"m/b c/2"]
    assert files.listed(f"{root}/none") == []


@pytest.mark.parametrize("uri", ["file://host/a", "file://a", "file://", "file:///a%00b"])
def test_what_names_no_file_is_refused(uri: str) -> None:
    """A URI of another host, or without an absolute path, is refused."""
    with pytest.raises(UnusableURL):
        files.read(uri, limit_bytes=9)


def test_errors_name_the_file(tmp_path: pathlib.Path) -> None:
    """What is missing, too large, no plain file or not ours is said by name; a pipe does not hang."""
    root = tmp_path.as_uri()
    files.write(f"{root}/big", bytes(11), if_absent=False)
    os.mkfifo(tmp_path / "pipe")
    for uri, kind in (
        (f"{root}/none", SourceNotFound),
        (f"{root}/big/none", SourceNotFound),
        (root, SourceNotFound),
        (f"{root}/pipe", SourceNotFound),
        ("file:///dev/zero", SourceNotFound),
        (f"{root}/big", TooLarge),
    ):
        with pytest.raises(kind) as caught:
            files.read(uri, limit_bytes=10)
        assert uri in str(caught.value)
    with pytest.raises(StorageFailed) as failed:
        files.write("file:///proc/none/file", b"", if_absent=False)
    expected = (
        "file:///proc/none/file can't be used (No such file or directory); check the folder and its permissions"
    )
    assert expected == failed.value.message
