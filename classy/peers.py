"""
The other stages, by their URIs: how they are reached, what the road holds at once, and what a function hands on.

AWS Lambda's roads have limits (6 MB for a call that is waited for, 1 MB for one that is not); what is over them goes
in parts, or waits in object storage where the settings name a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classy.settings import Settings
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.messages import InferRequest
from graphpipe_fn.model import Model
from graphpipe_fn.routed import Routed

if TYPE_CHECKING:
    from classy.objects import ObjectStorage
    from graphpipe_fn.client import Client
    from graphpipe_fn.handover import Handover
    from graphpipe_fn.split import Split
    from graphpipe_fn.transports.aws_access import AwsAccess

LAMBDA = "lambda:"
# Of a message on its way to Lambda: base64 makes 6 MB of it, and the envelope takes some. Source: AWS, Lambda quotas.
MESSAGE_MAX = 4_700_000


def aws_access(settings: Settings) -> AwsAccess:
    """Return how AWS is reached."""
    from graphpipe_fn.transports.aws_access import AwsAccess

    return AwsAccess(
        region=settings.s3_region,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=settings.s3_secret_access_key,
        session_token=settings.s3_session_token,
        endpoint_url=settings.s3_endpoint,
    )


def handover(settings: Settings) -> Handover | None:
    """Return where messages over Lambda's limits wait, None where the settings name no place."""
    if not settings.handover:
        return None
    from classy.handed_over import ObjectHandover

    def storage() -> ObjectStorage:
        from classy.pipeline import object_storage

        return object_storage(settings)

    return ObjectHandover(storage, settings.handover)


def peer(uri: str, settings: Settings) -> Client | Split:
    """Return the stage behind a URI; nothing is sent yet."""
    from graphpipe_fn.transports import connect

    client = connect(uri, timeout_s=settings.hop_timeout_s, aws=aws_access(settings), handover=handover(settings))
    if not uri.lower().startswith(LAMBDA):
        return client
    from graphpipe_fn.split import Split

    return Split(client, limit_bytes=MESSAGE_MAX)


def served(stage: Model, settings: Settings) -> Model:
    """Return a stage as its function serves it: with whatever follows it by setting or by the request's route."""
    routed = Routed(
        stage,
        connect=lambda uri: peer(uri, settings),
        default=settings.next_hop,
        allowed=settings.allowed_hops,
    )
    if settings.topology != "continued":
        return routed
    from classy.continued import Continued

    return Continued(routed, stage, hand_on=Queue(settings).hand_on, allowed=settings.allowed_hops)


class Queue:
    """
    Send messages that nobody waits for.

    Args:
        settings: Say how AWS is reached, and where large messages wait.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[str, Client] = {}

    def hand_on(self, uri: str, request: InferRequest) -> None:
        """
        Send a message, and wait only until it is queued.

        Raises:
            BadConfig: the URI is of no function on AWS Lambda; no other platform queues a call and tries it again.
            GraphPipeError: it could not be queued.
        """
        from graphpipe_fn.codec import encode_request
        from graphpipe_fn.transports import connect
        from graphpipe_fn.transports.aws_lambda import LambdaTransport

        client = self._clients.get(uri)
        if client is None:
            made = connect(
                uri,
                timeout_s=self._settings.hop_timeout_s,
                aws=aws_access(self._settings),
                handover=handover(self._settings),
            )
            client = self._clients.setdefault(uri, made)
        if not isinstance(client.transport, LambdaTransport):
            raise BadConfig(f"{uri[:200]!r} can't be handed anything without waiting; the topology needs lambda:NAME")
        client.transport.hand_on(encode_request(request), client.begin(request.call))
