"""DynamoDB on MiniStack, signatures and rights checked: every store gets a table of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from lambda_runtime.emulator import Emulator, ministack
from record_stores import Address

from classy.records.dynamodb_table import create_table


class DynamoTables:
    """A running MiniStack and the tables in it."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._numbers = count(1)

    def fresh(self) -> Address:
        """Return where an empty store is."""
        address = Address(f"dynamodb:records-{next(self._numbers)}", self.emulator.access())
        create_table(address.url.removeprefix("dynamodb:"), address.aws)
        return address


@contextmanager
def started() -> Iterator[DynamoTables]:
    """Run the emulator and end it."""
    with ministack() as emulator:
        yield DynamoTables(emulator)
