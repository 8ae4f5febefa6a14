"""
What the page needs to run models itself: onnxruntime-web, fetched once from npm's registry into the state folder.

It is 14 MB that most never use, so neither a checkout nor a function's package holds it. It knows archives and
integrities; which page uses the files, and how, is page.py's and static/browser-worker.js's.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from classy.errors import ModelSpoilt
from classy.models.files import write_whole
from graphpipe_fn.errors import TransportFailed

COMMAND = "classy web-assets"
REGISTRY = "https://registry.npmjs.org"  # npm's own default
FOLDER = "web-assets"  # of the state folder
TIMEOUT_S = 60.0  # of silence
ARCHIVE_BYTES = 200_000_000  # the whole package is 33 MB: it brings every variant along
MEMBER_BYTES = 64_000_000
_SETTING = re.compile(r"^\s*registry\s*=\s*[\"']?([^\s\"']+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """
    A pinned npm package.

    Args:
        integrity: Of its archive, as npm's lock files have it: "sha512-" and base64.
        members: The files that are kept, by their paths in the archive.
    """

    name: str
    version: str
    integrity: str
    members: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Return the name of its folder, which holds the version: what lies there never changes."""
        return f"{self.name}-{self.version}"


# The variant that computes in WebAssembly alone, and the module that holds its loader: 2 files of 100.
RUNTIME = Package(
    name="onnxruntime-web",
    version="1.30.0",
    integrity="sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    members=("package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"),
)

NAMES = frozenset(Path(member).name for member in RUNTIME.members)


def size(folder: Path, package: Package = RUNTIME) -> int:
    """Return how many bytes of an installed package a page loads."""
    return sum((folder / Path(member).name).stat().st_size for member in package.members)


def installed(root: Path, package: Package = RUNTIME) -> Path | None:
    """Return the package's folder, None where it was not fetched."""
    folder = root / package.folder
    return folder if all((folder / Path(member).name).is_file() for member in package.members) else None


def registry(environ: Mapping[str, str], home: Path) -> str:
    """Return npm's registry as npm itself is told: NPM_CONFIG_REGISTRY in either case, then ~/.npmrc."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if environ.get(name):
            return environ[name].rstrip("/")
    try:
        found = _SETTING.findall((home / ".npmrc").read_text(errors="replace"))
    except OSError:
        found = []
    return (found[-1] if found else REGISTRY).rstrip("/")


def fetch(root: Path, *, registry_url: str = "", archive: Path | None = None, package: Package = RUNTIME) -> Path:
    """
    Fetch a package, check it, and keep its files.

    Args:
        root: Gets a folder with the package's name and version.
        registry_url: Where it is fetched, unless there is an archive.
        archive: The file that `npm pack` wrote.

    Returns:
        The folder.

    Raises:
        TransportFailed: the registry does not answer, or with less than the whole.
        ModelSpoilt: it is another package than the pinned.
        OSError: the archive can't be read, or the folder can't be written.
    """
    if archive is None:
        data, source = _downloaded(registry_url, package), str(urlsplit(registry_url).hostname)
    else:
        with archive.open("rb") as file:
            data, source = file.read(ARCHIVE_BYTES), str(archive)
    _check(data, package, source)
    try:
        files = _members(data, package)
    except (tarfile.TarError, EOFError, OSError, KeyError) as exc:
        raise ModelSpoilt(f"{package.folder} of {source} can't be unpacked ({exc}); fetch it again") from exc
    folder = root / package.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    return folder


def _downloaded(registry_url: str, package: Package) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        parts = urlsplit(registry_url)
    except ValueError:  # an unclosed bracket
        parts = urlsplit("")
    place = parts.netloc.rpartition("@")[2]  # a name and a password are npm's own affair
    url = f"{parts.scheme}://{place}{parts.path.rstrip('/')}/{package.name}/-/{package.folder}.tgz"
    pack = f"npm pack {package.name}@{package.version}"
    remedy = f"set npm's registry, or run `{pack}` elsewhere and give its file to --from"
    if parts.scheme not in ("http", "https") or not place:
        raise TransportFailed(f"npm's registry is set to {registry_url!r}, which is no http or https URL; {remedy}")
    try:
        with urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310 - http or https
            data: bytes = reply.read(ARCHIVE_BYTES)
            left: int = reply.length or 0  # of what Content-Length promised
    except (OSError, HTTPException, ValueError) as exc:
        if isinstance(exc, HTTPError):
            exc.close()
        raise TransportFailed(f"{package.folder} can't be fetched from {place} ({exc}); {remedy}") from exc
    if left and len(data) < ARCHIVE_BYTES:
        raise TransportFailed(
            f"{place} broke off after {len(data):,} bytes of {package.folder}; try again, or {remedy}"
        )
    return data


def _check(data: bytes, package: Package, source: str) -> None:
    found = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.integrity:
        raise ModelSpoilt(
            f"the archive of {package.folder} from {source} has the integrity {found}, not {package.integrity}; "
            "nothing of it was kept, take it from another place"
        )


def _members(data: bytes, package: Package) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        files = {}
        for member in package.members:
            entry = archive.getmember(member)
            file = archive.extractfile(entry)
            if file is None or entry.size > MEMBER_BYTES:
                raise KeyError(member)
            files[Path(member).name] = file.read()
        return files
