"""Looking names up and trusting servers, on the machine as it is."""

from __future__ import annotations

import pathlib
import ssl
import subprocess
import sys

import pytest
from hostile.servers import CERTS, Case, Server

from classy.dialling import default_tls, system_resolve


def test_names_are_looked_up() -> None:
    """The system's own names lead to numbers."""
    assert {"127.0.0.1", "::1"} >= set(system_resolve("localhost", 80)) != set()
    assert system_resolve("93.184.216.34", 80) == ["93.184.216.34"]


def test_scopes_are_kept() -> None:
    """A link-local address keeps its interface, so that it can be refused for it."""
    assert system_resolve("fe80::1%1", 80) == ["fe80::1%1"]


def test_unknown_names_are_no_addresses() -> None:
    """A host that can't be is an OSError, and nothing else."""
    with pytest.raises(OSError):
        system_resolve("no.such.invalid", 80)


def test_servers_must_prove_who_they_are() -> None:
    """Certificates and host names are checked, with TLS 1.2 at least; the context is made once."""
    context = default_tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context is default_tls()


AUTHORITY_HASH = "243b4548.0"  # of the authority's name, which make.sh does not change: openssl x509 -subject_hash
AUTHORITIES = {
    "none-but-certifi's": {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"},
    "a-bundle-that-the-operator-names": {"SSL_CERT_FILE": str(CERTS / "ca.pem"), "SSL_CERT_DIR": "/nonexistent"},
    "a-folder": {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "{folder}"},
    "a-bundle-before-a-folder": {"SSL_CERT_FILE": str(CERTS / "ca.pem"), "SSL_CERT_DIR": "{folder}"},
}


@pytest.mark.parametrize("name", AUTHORITIES)
def test_authorities_are_found(name: str, tmp_path: pathlib.Path) -> None:
    """An image without any authorities trusts certifi's; a bundle or folder that there is is taken instead."""
    code = (
        "import socket, sys\n"
        "from classy.dialling import Allowance, TLS, Wire, default_tls\n"
        "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as sock:\n"
        "    try:\n"
        "        TLS(Wire(sock, Allowance(1e9, 10**6, 'x')), default_tls(), 'localhost')\n"
        "        print('trusted', end=' ')\n"
        "    except OSError as exc:\n"
        "        print(exc.verify_message, end=' ')\n"
        "print(len(default_tls().get_ca_certs()))\n"
    )
    (tmp_path / AUTHORITY_HASH).write_bytes((CERTS / "ca.pem").read_bytes())
    environ = {key: value.format(folder=tmp_path) for key, value in AUTHORITIES[name].items()}
    server = Server(Case("test", lambda peer: peer.answer(), (), certificate="honest"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(server.port)], env=environ, capture_output=True, text=True, check=True
    )
    server.close()
    verdict, _, count = done.stdout.rpartition(" ")
    if name.startswith("none"):
        assert verdict == "unable to get local issuer certificate"
        assert int(count) > 50
    else:
        assert (verdict, int(count)) == ("trusted", 1)
