"""What several test modules share: the default model in a local folder, and one local cloud with all functions."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from clouds import Cloud, running_cloud
from default_model import default_model
from record_stores import record_address, record_store, store_server, store_servers

from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in a shell's background: what the tests start would ignore ^C too, and they wait for its end.
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["record_address", "record_store", "store_server", "store_servers"]  # fixtures; see record_stores


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a store on disk that holds the default model."""
    uri = tmp_path_factory.mktemp("models").as_uri()
    publish(default_model()[0], ModelStore(ObjectStorage(Storage()), uri))
    return uri


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Run one local cloud for the whole test run."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as started:
        yield started
