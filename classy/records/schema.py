"""
The tables as this version of Classy reads and writes them, and column types that keep what they are given.

What a database really has is made by `migrations`; a test holds the two together. The types name what some servers
would lose: MariaDB's DATETIME drops microseconds and its FLOAT 40 m of a longitude unless told otherwise, and its
texts compare without regard to case.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

from classy.records.cells import COLUMNS as CELLS

MYSQL = ("mysql", "mariadb")


class Moment(TypeDecorator[datetime]):
    """An aware time, kept in UTC and with its microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the server's own type; MariaDB's must be told to keep fractions of a second."""
        if dialect.name in MYSQL:
            from sqlalchemy.dialects import mysql

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, without saying so: SQLite and MariaDB have no type with an offset."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time as aware again."""
        return None if value is None else value.replace(tzinfo=UTC)


class ExactText(TypeDecorator[str]):
    """A text that is compared letter by letter, with its emoji; long where no length is given."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the server's own type; MariaDB's must be told not to fold case."""
        length = getattr(self.impl, "length", None)
        if dialect.name in MYSQL:
            from sqlalchemy.dialects import mysql

            # Not utf8mb4_bin, which takes "cup" and "cup " for the same. The two servers have two names for it.
            collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
            exact = {"charset": "utf8mb4", "collation": collation}
            return dialect.type_descriptor(mysql.VARCHAR(length, **exact) if length else mysql.MEDIUMTEXT(**exact))
        return dialect.type_descriptor(String(length) if length else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text cut to its length and without what is none: NUL, and half a surrogate pair."""
        if value is None:
            return None
        text = value.encode("utf-8", "replace").decode().replace("\0", "�")  # PostgreSQL refuses NUL
        return text[: getattr(self.impl, "length", None)]


# SQLite counts rows in a column of exactly this type; the others get 64 bits.
RowId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("identity", ExactText(64), nullable=False),
    Column("picture", ExactText(64), nullable=False),
    Column("picture_sha256", ExactText(64), nullable=False),
    Column("source_kind", ExactText(10), nullable=False),
    Column("source_uri", ExactText, nullable=False),
    Column("uri_key", BigInteger, nullable=False),
    Column("bucket", ExactText(255), nullable=False),
    Column("object_key", ExactText, nullable=False),
    Column("object_version", ExactText, nullable=False),
    Column("taken_at", Moment),
    Column("taken_offset_s", Integer),
    Column("latitude_deg", Double),
    Column("longitude_deg", Double),
    Column("altitude_m", Double),
    Column("country", ExactText(2), nullable=False),
    *(Column(name, Integer) for name in CELLS),
    Column("classified_at", Moment, nullable=False),
    Column("model_name", ExactText(64), nullable=False),
    Column("model_version", ExactText(64), nullable=False),
    Column("model_sha256", ExactText(64), nullable=False),
    Column("class_key", ExactText(150), nullable=False),
    Column("top_k", ExactText, nullable=False),
    Column("error_code", Integer),
    Column("error_reason", ExactText, nullable=False),
    Column("timings", ExactText, nullable=False),
    Column("call_id", ExactText(200), nullable=False),
)
"""
One row per record; see Classification for `identity` and `picture`. `taken_at` is in UTC where `taken_offset_s` says
how far the camera's clock was from it, else what that clock showed. `uri_key` is a digest of `source_uri`, which is
too long for an index, and the cells are where the place is (classy.records.cells). `class_key` names the likeliest
class ("" for a refusal), `top_k` and `timings` are JSON.
"""

class_names = Table(
    "class_names",
    metadata,
    Column("class_key", ExactText(150), primary_key=True),
    Column("name", ExactText(500), primary_key=True),
)
"""How the likeliest classes of all records are called, case-folded: each language's name, and the class's id."""
