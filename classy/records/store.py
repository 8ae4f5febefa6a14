"""
What a record store can do, and which one a URL names.

It imports no database: a store's own packages come with its first use, for they are the slowest imports of all.
"""

from __future__ import annotations

from typing import Protocol

from classy.errors import RecordsFailed
from classy.records.values import Classification, Page, Query
from classy.settings import BadSetting

SQLITE = "sqlite:///"


class RecordStore(Protocol):
    """Keep records; safe to call from several threads, and beside other processes that do the same."""

    def put(self, record: Classification) -> bool:
        """
        Keep a record, unless its identity has one: a result is never replaced, a refusal gives way to a result.

        Returns:
            Whether it was written.

        Raises:
            RecordsFailed: the store can't be reached, is full, or refuses.
        """
        ...

    def get(self, identity: str) -> Classification | None:
        """
        Return the record of an identity.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def has(self, identity: str) -> bool:
        """
        Return whether there is a record of an identity.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def query(self, query: Query) -> Page:
        """
        Return a page of records, newest first.

        Raises:
            BadRequest: `after` is no cursor.
            RecordsFailed: as put() does.
        """
        ...

    def delete_picture(self, sha256: str) -> int:
        """
        Forget every record of a picture; return how many there were.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        ...


def open_records(url: str) -> RecordStore:
    """
    Return the store that a URL names; nothing is opened or created before its first use.

    Raises:
        BadSetting: no URL of a store.
        RecordsFailed: the package that it needs is not installed.
    """
    if not url.startswith(f"{SQLITE}/"):
        raise BadSetting(f"{url.partition(':')[0]}: is no record store; it takes {SQLITE}/FOLDER/records.db")
    try:
        from classy.records.sql import SqlRecords
    except ModuleNotFoundError as missing:
        raise RecordsFailed(f"records need the package {missing.name}; install classy-fn[records]") from missing
    return SqlRecords(url)
