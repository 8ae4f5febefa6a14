"""
Transports: bytes → bytes, one road to a peer per module, and the table that finds it by a URI's scheme.

Each is imported when its scheme is first used: the other roads' imports are no part of a cold start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from graphpipe_fn.client import Client
from graphpipe_fn.codec import DEFAULT_LIMITS, Limits
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.model import Transport
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    import ssl

    from graphpipe_fn.handover import Handover
    from graphpipe_fn.transports.aws_access import AwsAccess


@dataclass(frozen=True, slots=True)
class _Options:
    tls: ssl.SSLContext | None
    limit_bytes: int
    connections: int
    fn_api_url: str
    aws: AwsAccess | None
    handover: Handover | None


def connect(
    uri: str,
    *,
    name: str = "",
    timeout_s: float | None = 30.0,
    retries: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    tls: ssl.SSLContext | None = None,
    limit_bytes: int = 256 << 20,
    connections: int = 16,
    fn_api_url: str = "",
    aws: AwsAccess | None = None,
    handover: Handover | None = None,
) -> Client:
    """
    Return the model behind a URI; nothing is sent yet.

    Args:
        uri: `http://…`, `https://…`, `http+unix://%2Fsocket/path`, `fn:APP/FUNCTION` or `lambda:NAME[:ALIAS]`.
        name, timeout_s, retries, limits: See Client.
        tls: For https; the system's certificates unless given.
        limit_bytes: The largest answer that is accepted.
        connections: How many are kept open while nobody uses them.
        fn_api_url: Where Fn's API is, for `fn:`.
        aws: Region, credentials and endpoint for `lambda:`; what it leaves out, boto3's own chain finds.
        handover: Where messages wait that are too large for `lambda:`.

    Raises:
        BadConfig: not such a URI.
    """
    scheme, colon, _ = uri.partition(":")
    road = _ROADS.get(scheme.lower()) if colon else None
    if road is None:
        raise BadConfig(f"{uri[:200]!r} has no scheme that is known here; use one of {', '.join(_ROADS)}")
    transport = road(uri, _Options(tls, limit_bytes, connections, fn_api_url, aws, handover))
    return Client(transport, name=name or uri, timeout_s=timeout_s, retries=retries, limits=limits)


def _http(uri: str, options: _Options) -> Transport:
    from graphpipe_fn.transports.http import HttpTransport

    return HttpTransport(uri, tls=options.tls, limit_bytes=options.limit_bytes, idle_connections=options.connections)


def _fn(uri: str, options: _Options) -> Transport:
    from graphpipe_fn.transports.fn import FnTransport

    return FnTransport(
        uri,
        api_url=options.fn_api_url,
        tls=options.tls,
        limit_bytes=options.limit_bytes,
        idle_connections=options.connections,
    )


def _aws_lambda(uri: str, options: _Options) -> Transport:
    from graphpipe_fn.transports.aws_access import AwsAccess
    from graphpipe_fn.transports.aws_lambda import LambdaTransport

    return LambdaTransport(
        uri,
        access=options.aws or AwsAccess(),
        tls=options.tls,
        limit_bytes=options.limit_bytes,
        idle_connections=options.connections,
        handover=options.handover,
    )


_ROADS: dict[str, Callable[[str, _Options], Transport]] = {
    "http": _http,
    "https": _http,
    "http+unix": _http,
    "fn": _fn,
    "lambda": _aws_lambda,
}
