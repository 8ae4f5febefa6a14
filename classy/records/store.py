"""
What a record store can do, and which one a URL names.

It imports no database: a store's own packages come with its first use, for they are the slowest imports of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from classy.errors import RecordsFailed
from classy.records.values import Classification, ModelVersion, Page, Query
from classy.settings import BadSetting

if TYPE_CHECKING:
    from graphpipe_fn.transports.aws_access import AwsAccess

SQL = ("sqlite:////", "postgresql://", "mariadb://", "mysql://")
DYNAMODB = "dynamodb:"
EXTRAS = {"psycopg": "postgresql", "pymysql": "mariadb", "boto3": "aws"}  # by package; all others are in `records`


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

    def missing(self, model_ref: str, *, after: str = "", limit: int = 50) -> Page:
        """
        Return pictures that one version of a model has not seen: of each its newest record, by whichever model.

        A picture that was refused for good (no file, or none that can be read) by every model is none of them: its
        only records are refusals.

        Args:
            model_ref: NAME@VERSION.
            after: The `next` of the page before. Pages go through all pictures in a fixed order, so that a later page
                neither repeats nor skips any, though records are written meanwhile.

        Raises:
            BadRequest: `after` is no cursor.
            RecordsFailed: as put() does.
        """
        ...

    def count_missing(self, model_ref: str) -> int:
        """
        Return how many pictures missing() would return in all its pages.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def models(self) -> tuple[ModelVersion, ...]:
        """
        Return every model version that has a record, by name and version.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def delete_picture(self, picture: str) -> int:
        """
        Forget a picture: every record of it, and of every other source that held the same bytes.

        Args:
            picture: See Classification.picture.

        Returns:
            How many records there were.

        Raises:
            RecordsFailed: as put() does.
        """
        ...

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        ...


def open_records(url: str, aws: AwsAccess | None = None) -> RecordStore:
    """
    Return the store that a URL names; nothing is opened or created before its first use.

    Args:
        url: `sqlite:////FOLDER/records.db`, `postgresql://USER:PASSWORD@HOST/DATABASE`, `mariadb://` or `mysql://`
            likewise, or `dynamodb:TABLE`.
        aws: Where DynamoDB is and who asks; what is left out, boto3's own chain finds.

    Raises:
        BadSetting: no URL of a store.
        RecordsFailed: the package that it needs is not installed.
    """
    try:
        if url.startswith(DYNAMODB):
            from classy.records.dynamodb import DynamoRecords

            return DynamoRecords(url.removeprefix(DYNAMODB), aws)
        if url.startswith(SQL):
            from classy.records.sql import SqlRecords

            return SqlRecords(url)
    except ImportError as missing:
        name = missing.name or str(missing)
        extra = EXTRAS.get(name.partition(".")[0], "records")
        raise RecordsFailed(f"records need the package {name}; install classy-fn[{extra}]") from missing
    raise BadSetting(
        f"{url.partition(':')[0]}: is no record store; it takes sqlite:////FOLDER/records.db, "
        "postgresql://USER:PASSWORD@HOST/DATABASE, mariadb://…, mysql://… or dynamodb:TABLE"
    )
