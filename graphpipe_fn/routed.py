"""
Routed: a stage that hands its result on, to the hops that the request's config names.

The config is a JSON object. Its key "next" lists the hops that follow; every other key is a setting for the stages
and goes to all of them. The original Classy put the next server's bare URL into `config`; that still works. Hops
are allow-listed: a config that names any other is refused, or the function would be a relay into its own network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from typing import Any

from graphpipe_fn.chain import Chain, Configured
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.messages import InferRequest, InferResponse, Metadata
from graphpipe_fn.model import Model
from graphpipe_fn.values import dataclass

HOPS_MAX = 8  # more hops than any pipeline has: a config can't make a loop of calls


@dataclass(frozen=True, slots=True)
class Route:
    """
    What a config string asks for.

    Args:
        hops: The hops that follow; empty to be answered here; None to follow the stage's own setting.
        ends: Whether the route ends with the last hop; after bare URLs, as the original sends them, the last hop
            goes on by its own setting.
        rest: The config's other keys.
    """

    hops: tuple[str, ...] | None = None
    ends: bool = False
    rest: dict[str, Any] = field(default_factory=dict)


def encode_config(hops: Sequence[str] | None = None, **rest: Any) -> str:
    """Return the config string for these hops (None: each stage's own setting) and other keys; "" for neither."""
    config = dict(rest) if hops is None else {"next": list(hops), **rest}
    return json.dumps(config, separators=(",", ":")) if config else ""


def parse_config(config: str) -> Route:
    """
    Read a config string.

    Raises:
        BadConfig: neither a JSON object whose "next" lists URLs, nor URLs.
    """
    text = config.strip()
    if not text:
        return Route()
    if not text.startswith("{"):
        route = Route(tuple(text.split()))
        if any(":" not in hop for hop in route.hops or ()):
            raise BadConfig(f'the config {config[:80]!r} is no route; send {{"next": ["URL", …]}} or a URL')
    else:
        try:
            rest = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise BadConfig(f"the config is not JSON ({exc})") from exc
        hops = rest.pop("next", None)
        if hops is not None and not (isinstance(hops, list) and all(isinstance(hop, str) and hop for hop in hops)):
            raise BadConfig('the config\'s "next" must be a list of URLs')
        route = Route(None if hops is None else tuple(hops), hops is not None, rest)
    if route.hops and len(route.hops) > HOPS_MAX:
        raise BadConfig(f"the config names {len(route.hops)} hops; the limit is {HOPS_MAX}")
    return route


class Routed:
    """
    Be a stage, and whatever follows it.

    Args:
        own: This function's stage. It gets the config without the route.
        default: The hop that follows where the request's config names none; "" to answer here.
        allowed: The hops that a config may name; `default` is always among them.
        connect: Makes a Model of a hop's URI; called once per URI, opens no socket.
    """

    def __init__(
        self, own: Model, *, connect: Callable[[str], Model], default: str = "", allowed: Collection[str] = ()
    ) -> None:
        self.own = own
        self._connect = connect
        self._default = default
        self._allowed = frozenset(allowed) | ({default} if default else frozenset())
        self._peers: dict[str, Model] = {}

    def metadata(self) -> Metadata:
        """Return the own stage's metadata: what follows is the caller's choice."""
        return self.own.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Run the own stage, then the route.

        Raises:
            BadConfig: the config is no route, or names a hop that is not allowed.
        """
        route = parse_config(request.config)
        hops = route.hops
        if hops is None:
            hops = (self._default,) if self._default else ()
        for hop in hops:
            if hop not in self._allowed:
                raise BadConfig(f'the hop "{hop[:200]}" is not allowed; add it to this function\'s allowed hops')
        own = Configured(self.own, encode_config(**route.rest))
        if not hops:
            return own.infer(request)
        following = encode_config(hops[1:] if route.ends else None, **route.rest)
        if not route.ends:
            following = following or " ".join(hops[1:])
        return Chain(own, Configured(self._peer(hops[0]), following)).infer(request)

    def close(self) -> None:
        """Close the hops' connections; the next request opens new ones."""
        for peer in self._peers.values():
            close = getattr(peer, "close", None)
            if close is not None:
                close()

    def _peer(self, hop: str) -> Model:
        # Two threads may both connect; the one that loses is dropped unused.
        return self._peers.get(hop) or self._peers.setdefault(hop, self._connect(hop))
