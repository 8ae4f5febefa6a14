"""
MariaDB and PostgreSQL as Debian packages them: installed where they are missing, and run for a test alone.

A server has a folder of its own, a port of its own on 127.0.0.1, a user without privileges, a zone that is not UTC,
and a password that a URL must escape. It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

from record_stores import Address

from classy.local.ports import free_port

USER, PASSWORD = "classy", "pä:ss/w@rd %"
START_S, STOP_S, APT_S = 60.0, 30.0, 600.0
STARTS = 3  # a free port may be taken before the server has it
POLL_S = 0.02


class NoServer(Exception):
    """No database server can run here; the message says why."""


class DatabaseServer(ABC):
    """A server that can be killed and started again; every store gets a database of its own."""

    scheme: str
    package: str
    system_user: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._used: list[Address] = []

    def emptied(self) -> Address:
        """Return where a store without records is, one that was given back if there is one."""
        if not self._used:
            return self.fresh()
        address = self._used.pop()
        for table in ("records", "class_names"):
            self.empty(_database(address), table)
        return address

    def give_back(self, address: Address) -> None:
        """Let a store be emptied and used again."""
        self._used.append(address)

    def fresh(self) -> Address:
        """Return where a store is that nobody has opened."""
        database = f"records_{next(self._numbers)}"
        self.create(database)
        return Address(self.url(database))

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """Return the URL of a database, as a user writes it."""
        return f"{self.scheme}://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """
        Run the server, on the port that it had if it had one.

        Raises:
            NoServer: it does not start.
        """
        for _ in range(1 if self.port else STARTS):
            port = self.port or free_port()
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._as_system_user(*self.command(port)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if self._came_up(port):
                self.port = port
                return
        said = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        raise NoServer(f"{self.package} does not start: {' · '.join(said[-3:])}")

    @property
    def running(self) -> bool:
        """Return whether the server was started and neither stopped nor killed."""
        return self._process is not None

    def kill(self) -> None:
        """End the server as a crash does: without a word to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)
        self._process = None

    def stop(self) -> None:
        """End the server."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    stop_signal = signal.SIGTERM

    def run(self, *command: str) -> None:
        """Run a program of the server's as the server's user."""
        done = subprocess.run(self._as_system_user(*command), capture_output=True, text=True, cwd=self.folder)
        if done.returncode:
            raise NoServer(f"{command[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")

    @abstractmethod
    def read_only(self, address: Address) -> AbstractContextManager[None]:
        """Let nobody write to a store who connects from now on."""

    @abstractmethod
    def initialise(self) -> None:
        """Make the server's data."""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return what runs the server."""

    @abstractmethod
    def answers(self, port: int) -> bool:
        """Return whether the server is up."""

    @abstractmethod
    def create(self, database: str) -> None:
        """Create a database that USER may do anything with."""

    @abstractmethod
    def empty(self, database: str, table: str) -> None:
        """Delete a table's rows."""

    def _came_up(self, port: int) -> bool:
        assert self._process is not None
        deadline_s = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < deadline_s:
            if self.answers(port):
                return True
            time.sleep(POLL_S)
        self.stop()
        return False

    def _as_system_user(self, *command: str) -> list[str]:
        if os.geteuid():
            return list(command)
        who = [f"--reuid={self.system_user}", f"--regid={self.system_user}", "--clear-groups"]
        return ["setpriv", *who, "--pdeathsig=KILL", *command]


class PostgreSql(DatabaseServer):
    """PostgreSQL."""

    scheme, package, system_user = "postgresql", "postgresql", "postgres"
    stop_signal = signal.SIGINT  # disconnects whoever is still there

    def initialise(self) -> None:
        """Make a cluster whose users need their password."""
        (self.folder / "password").write_text(PASSWORD)
        _give(self.folder / "password", self.system_user)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        data, password = f"--pgdata={self.folder / 'data'}", f"--pwfile={self.folder / 'password'}"
        self.run(self._program("initdb"), data, password, "--username=admin", *options)

    def command(self, port: int) -> list[str]:
        """Return postgres itself; what only a power cut could lose is not waited for."""
        # fmt: off
        return [
            self._program("postgres"), "-D", str(self.folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", "",
            "-c", "fsync=off", "-c", "timezone=Asia/Tokyo",
            "-c", "shared_buffers=256MB", "-c", "maintenance_work_mem=256MB", "-c", "max_wal_size=4GB",
        ]
        # fmt: on

    def answers(self, port: int) -> bool:
        """Ask as an administrator, and let USER in at the first time."""
        import psycopg

        try:
            self._admin(port, f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        except psycopg.errors.DuplicateObject:
            return True
        except psycopg.OperationalError:
            return False
        return True

    def create(self, database: str) -> None:
        """Create a database."""
        self._admin(self.port, f"CREATE DATABASE {database} OWNER {USER}")

    def empty(self, database: str, table: str) -> None:
        """Delete a table's rows."""
        self._admin(self.port, f"TRUNCATE {table}", database)

    @contextmanager
    def read_only(self, address: Address) -> Iterator[None]:
        """Begin every transaction in that database as read-only."""
        self._admin(self.port, f"ALTER DATABASE {_database(address)} SET default_transaction_read_only = on")
        yield

    def _admin(self, port: int, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=port, user="admin", password=PASSWORD, dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement)

    def _program(self, name: str) -> str:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))  # Debian has them on nobody's path
        return str(found[-1]) if found else name


class MariaDb(DatabaseServer):
    """MariaDB."""

    scheme, package, system_user = "mariadb", "mariadb-server", "mysql"

    def initialise(self) -> None:
        """Make a data folder, and a user without any right of an administrator's."""
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db")
        statements = [
            f"CREATE USER IF NOT EXISTS admin@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';",
            "GRANT ALL ON *.* TO admin@'127.0.0.1';",
            f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';",
            f"GRANT ALL ON `records\\_%`.* TO {USER}@'127.0.0.1';",
        ]
        (self.folder / "init.sql").write_text("\n".join(statements))
        _give(self.folder / "init.sql", self.system_user)

    def command(self, port: int) -> list[str]:
        """Return mariadbd itself; what only a power cut could lose is not waited for."""
        folder = self.folder
        # fmt: off
        return [
            shutil.which("mariadbd", path=_path()) or "mariadbd", "--no-defaults", f"--datadir={folder / 'data'}",
            f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}", f"--init-file={folder / 'init.sql'}", "--skip-name-resolve",
            "--character-set-server=utf8mb4", "--default-time-zone=+09:00", "--innodb-flush-log-at-trx-commit=2",
            "--skip-innodb-doublewrite", "--innodb-buffer-pool-size=256M", f"--tmpdir={folder}",
        ]
        # fmt: on

    def answers(self, port: int) -> bool:
        """Ask as an administrator."""
        import pymysql

        try:
            self._admin(port, "SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def create(self, database: str) -> None:
        """Create a database whose own character set is not ours."""
        self._admin(self.port, f"CREATE DATABASE {database} CHARACTER SET latin1")

    def empty(self, database: str, table: str) -> None:
        """Delete a table's rows."""
        self._admin(self.port, f"TRUNCATE {database}.{table}")

    @contextmanager
    def read_only(self, address: Address) -> Iterator[None]:
        """Refuse writes to all that are no administrators."""
        self._admin(self.port, "SET GLOBAL read_only = ON")
        yield
        self._admin(self.port, "SET GLOBAL read_only = OFF")

    def _admin(self, port: int, statement: str) -> None:
        import pymysql

        with (
            pymysql.connect(host="127.0.0.1", port=port, user="admin", password=PASSWORD.encode()) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


@contextmanager
def started(kind: type[DatabaseServer]) -> Iterator[DatabaseServer]:
    """
    Run a server.

    Raises:
        NoServer: it is not installed and can't be, or does not start.
    """
    if sys.platform != "linux":
        raise NoServer(f"{kind.package} is run as Debian packages it")
    _install(kind)
    folder = Path(tempfile.mkdtemp(prefix=f"classy-{kind.scheme}-", dir="/tmp"))  # a socket's path must be short
    try:
        _give(folder, kind.system_user)
        server = kind(folder)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _install(kind: type[DatabaseServer]) -> None:
    found = {
        "mariadb-server": lambda: shutil.which("mariadbd", path=_path()) and shutil.which("mariadb-install-db"),
        "postgresql": lambda: list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb"),
    }[kind.package]()
    if found:
        return
    if os.geteuid() or shutil.which("apt-get") is None:
        raise NoServer(f"{kind.package} is not installed, and only root can: apt-get install {kind.package}")
    print(f"installing {kind.package} with apt-get …", flush=True)
    # The system's own service is not started: the tests run theirs.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", kind.package]):
        done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, timeout=APT_S)
        if done.returncode:
            raise NoServer(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _database(address: Address) -> str:
    return address.url.rpartition("/")[2]


def _give(path: Path, user: str) -> None:
    if os.geteuid() == 0:
        owner = pwd.getpwnam(user)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
