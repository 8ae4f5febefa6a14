"""A Docker engine of the check's own: its own folder and socket, no bridge, gone without a trace afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leftovers import hold, remove, sweep

from classy.local.launch import LAUNCHER

PACKAGES = {"dockerd": "docker.io", "docker": "docker.io", "debootstrap": "debootstrap"}
START_S, STOP_S, APT_S, COMMAND_S = 60.0, 30.0, 600.0, 300.0
POLL_S = 0.1
PREFIX = "fn-image-"
DRIVERS = ("overlay2", "vfs")  # vfs copies every layer, and runs on any file system


class NoEngine(Exception):
    """No Docker engine can run here; the message says why."""


class Engine:
    """A running engine; `docker()` is its command line."""

    def __init__(self, host: str, folder: Path) -> None:
        self.host, self.folder = host, folder

    def docker(
        self, *arguments: str, cwd: Path | None = None, check: bool = True, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one docker command; its output is text."""
        done = subprocess.run(
            ["docker", *arguments],
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check:
            assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def load(self, root: Path, image: str) -> None:
        """Make an image of a root file system in a tar file."""
        self.docker("import", str(root), image)

    def size(self, image: str) -> int:
        """Return an image's bytes."""
        return int(self.docker("image", "inspect", "--format", "{{.Size}}", image).stdout)

    def environment(self) -> dict[str, str]:
        """Return what the command line needs to reach it."""
        # The builder that every engine has: an engine of Debian 12 comes without BuildKit's client.
        return {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(self.folder),
            "DOCKER_HOST": self.host,
            "DOCKER_BUILDKIT": "0",
        }


@contextmanager
def engine() -> Iterator[Engine]:
    """
    Run an engine.

    Raises:
        NoEngine: we are not root, its package can't be had, or it does not start.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NoEngine("a Docker engine of its own and debootstrap need root on Linux")
    _install()
    sweep(list(Path("/tmp").glob(f"{PREFIX}*")))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    with hold(folder):
        try:
            process = _started(folder)
            try:
                yield Engine(_host(folder), folder)
            finally:
                _stop(process, folder)
        finally:
            remove(folder)


def _install() -> None:
    missing = sorted(
        {package for command, package in PACKAGES.items() if shutil.which(command, path=_path()) is None}
    )
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoEngine(f"{' and '.join(missing)} are missing, and there is no apt-get to install them")
    print(f"installing {' and '.join(missing)} with apt-get …", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, timeout=APT_S)
        if done.returncode:
            raise NoEngine(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _host(folder: Path) -> str:
    return f"unix://{folder}/docker.sock"


def _started(folder: Path) -> subprocess.Popen[bytes]:
    whys = []
    for driver in DRIVERS:
        process, why = _try(folder, driver)
        if process is not None:
            return process
        whys.append(f"with {driver}: {why}")
    raise NoEngine(f"dockerd does not start here {'; '.join(whys)}")


def _try(folder: Path, driver: str) -> tuple[subprocess.Popen[bytes] | None, str]:
    log = folder / f"dockerd-{driver}.log"
    options = {
        "data-root": folder / driver,
        "exec-root": folder / "run",
        "pidfile": folder / "dockerd.pid",
        "host": _host(folder),
        "storage-driver": driver,
        # Its containers share the host's network: no rule of the host's firewall and no interface is touched.
        "bridge": "none",
        "iptables": "false",
        "ip6tables": "false",
    }
    dockerd = shutil.which("dockerd", path=_path())
    with log.open("wb") as output:
        process = subprocess.Popen(
            # The launcher ends it should this process be killed.
            [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), "0", str(dockerd)]
            + [f"--{name}={value}" for name, value in options.items()],
            env={"PATH": _path(), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + START_S
    probe = Engine(_host(folder), folder)
    while process.poll() is None and time.monotonic() < deadline_s:
        if probe.docker("version", check=False).returncode == 0:
            return process, ""
        time.sleep(POLL_S)
    _stop(process, folder)
    return None, (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        probe = Engine(_host(folder), folder)
        found = probe.docker("ps", "--all", "--quiet", check=False).stdout.split()
        if found:
            probe.docker("rm", "--force", "--volumes", *found, check=False)
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
