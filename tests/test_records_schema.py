"""The tables: what the migrations make is what the schema says, from every version on and in every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from record_stores import SQL, Address, StoreServer
from small_records import EVERYTHING, REFUSAL, record

from classy.errors import RecordsFailed
from classy.records import migrations, rows, schema
from classy.records.servers import opened, parsed
from classy.records.values import Query, Source

pytestmark = pytest.mark.parametrize("store_server", SQL, indirect=True)


@pytest.fixture
def engine(record_address: Address) -> Iterator[sa.Engine]:
    """Return the engine of an empty database."""
    made = opened(parsed(record_address.url))
    yield made
    made.dispose()


def test_the_migrations_make_what_the_schema_says(engine: sa.Engine) -> None:
    """Every column, with its type and whether it may be empty."""
    migrations.migrate(engine)
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {*schema.metadata.tables, "schema_versions"}
    for name, table in schema.metadata.tables.items():
        made = {column["name"]: (_plain(column["type"], engine), column["nullable"]) for column in
                inspector.get_columns(name)}  # fmt: skip
        said = {
            c.name: (_plain(c.type.dialect_impl(engine.dialect), engine), bool(c.nullable)) for c in table.columns
        }
        assert made == said


def _plain(kind: sa.types.TypeEngine[object], engine: sa.Engine) -> str:
    """Return a type as the database writes it."""
    said = kind.compile(engine.dialect).replace("CHARACTER SET utf8mb4 ", "").replace("FLOAT", "DOUBLE PRECISION")
    return {"BIGINT(20)": "BIGINT", "INTEGER(11)": "INTEGER", "DOUBLE": "DOUBLE PRECISION"}.get(said, said)


def test_what_a_server_would_lose_is_asked_for_by_name(engine: sa.Engine) -> None:
    """Microseconds, and texts that differ by a capital or a blank; 64 bits where rows are counted."""
    migrations.migrate(engine)
    columns = {column["name"]: str(column["type"].compile(engine.dialect)) for column in
               sa.inspect(engine).get_columns("records")}  # fmt: skip
    expected = {
        "sqlite": ("INTEGER", "DATETIME", "VARCHAR(64)", "DOUBLE"),
        "postgresql": ("BIGINT", "TIMESTAMP WITHOUT TIME ZONE", "VARCHAR(64)", "DOUBLE PRECISION"),
        "mariadb": ("BIGINT(20)", "DATETIME(6)", "VARCHAR(64) COLLATE utf8mb4_nopad_bin", "DOUBLE"),
    }[engine.dialect.name]
    found = tuple(columns[name] for name in ("id", "classified_at", "identity", "longitude_deg"))
    assert tuple(kind.replace(" CHARACTER SET utf8mb4", "") for kind in found) == expected


OLD_ROWS = (
    EVERYTHING,
    record(1),
    record(2, source=Source("upload")),
    record(3, source=Source("url", "https://a/3"), picture_sha256="", refusal=REFUSAL),
)


def test_records_of_the_first_version_get_their_picture(record_address: Address, engine: sa.Engine) -> None:
    """What the second version keeps besides is computed from what is there, page after page."""
    migrations.migrate(engine, migrations.STEPS[:1])
    first = sa.Table("records", sa.MetaData(), autoload_with=engine)
    old = sa.table("records", *(sa.column(c.name, schema.records.c[c.name].type) for c in first.columns))
    numbers = range(10, 10 + migrations.PAGE)
    with engine.begin() as connection:
        for kept in (*OLD_ROWS, *map(record, numbers)):
            row = {name: value for name, value in rows.encoded(kept).items() if name in first.columns}
            connection.execute(sa.insert(old).values(row))
    migrations.migrate(engine)
    store = record_address.open()
    for kept in OLD_ROWS:
        found = store.get(kept.identity)
        assert found is not None
        assert (found.picture, found.country) == (kept.picture, "")
        assert len(store.query(Query(pictures=(kept.picture,))).records) == 1
    pictures = tuple(record(number).picture for number in numbers[-100:])
    assert len(store.query(Query(pictures=pictures, limit=100)).records) == 100
    store.close()


def _add_colour(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN colour VARCHAR(2)")


def _break_halfway(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN half VARCHAR(2)")
    raise RecordsFailed("broken off")


def test_an_older_database_is_brought_up_to_date(record_address: Address, engine: sa.Engine) -> None:
    """Its records stay, and each step runs once; one that breaks off leaves nothing behind, but on MariaDB."""
    store = record_address.open()
    store.put(EVERYTHING)
    with pytest.raises(RecordsFailed, match="broken off"):
        migrations.migrate(engine, [*migrations.STEPS, _add_colour, _break_halfway])
    halves = {"colour", "half"} if engine.dialect.name == "mariadb" else set()
    assert {column["name"] for column in sa.inspect(engine).get_columns("records")} & {"colour", "half"} == halves
    if not halves:
        for _ in range(2):
            migrations.migrate(engine, [*migrations.STEPS, _add_colour])
    assert "colour" in {column["name"] for column in sa.inspect(engine).get_columns("records")}
    assert store.get(EVERYTHING.identity) == EVERYTHING
    store.close()


@pytest.mark.parametrize(
    "made", [2, 11, 20, *(pytest.param(made, marks=pytest.mark.slow) for made in (1, 4, 9, 10, 15, 26))]
)
def test_a_migration_that_was_killed_goes_on(store_server: StoreServer, engine: sa.Engine, made: int) -> None:
    """After any of its statements: the next process makes what is missing, and nothing twice."""
    said: list[str] = []

    class Killed(Exception):
        pass

    def kill(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith(("CREATE", "ALTER", "INSERT INTO schema_versions")):
            said.append(statement)
            if len(said) > made:
                raise Killed

    sa.event.listen(sa.Engine, "before_cursor_execute", kill)
    try:
        migrations.migrate(engine)
    except Killed:
        pass
    else:
        pytest.fail("nobody killed it: it makes fewer statements than that")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", kill)
    engine.dispose()
    migrations.migrate(engine)
    undisturbed = opened(parsed(store_server.fresh().url))
    migrations.migrate(undisturbed)
    assert _indexes(engine) == _indexes(undisturbed)
    undisturbed.dispose()
    with engine.connect() as connection:
        versions = connection.exec_driver_sql("SELECT version FROM schema_versions ORDER BY version").scalars().all()
    assert versions == list(range(1, len(migrations.STEPS) + 1))


def _indexes(engine: sa.Engine) -> set[tuple[str, tuple[str | None, ...]]]:
    there = sa.inspect(engine)
    return {
        (str(index["name"]), tuple(index["column_names"]))
        for table in schema.metadata.tables
        for index in there.get_indexes(table)
    }


def test_a_later_classys_database_is_left_alone(record_address: Address, engine: sa.Engine) -> None:
    """Nobody guesses what columns mean that were not there yet."""
    migrations.migrate(engine, [*migrations.STEPS, _add_colour])
    store = record_address.open()
    with pytest.raises(RecordsFailed, match=r"has schema 3, and this Classy knows 2"):
        store.put(EVERYTHING)
    store.close()


def test_somebody_elses_database_is_left_alone(record_address: Address, engine: sa.Engine) -> None:
    """A table of our name that we did not make is neither used nor changed."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE records (id INTEGER PRIMARY KEY, something INTEGER)")
    store = record_address.open()
    for _ in range(2):
        with pytest.raises(RecordsFailed, match="table records already exists, and is not ours"):
            store.put(EVERYTHING)
    store.close()
    assert sa.inspect(engine).get_table_names() == ["records"]
    assert [column["name"] for column in sa.inspect(engine).get_columns("records")] == ["id", "something"]
