"""
Routed: a stage that hands its result on, to the hops that the request's config names.

The original Classy did this by putting the next server's bare URL into `config`; that still works. Hops are
allow-listed: a config that names any other is refused, or the function would be a relay into its own network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

from graphpipe_fn.chain import Chain, Configured
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.messages import InferRequest, InferResponse, Metadata
from graphpipe_fn.model import Model

HOPS_MAX = 8  # more hops than any pipeline has: a config can't make a loop of calls


def route_config(hops: Sequence[str]) -> str:
    """Return the config string that asks for exactly these next hops; none means: answer yourself."""
    return json.dumps({"next": list(hops)})


def parse_route(config: str) -> tuple[list[str], bool]:
    """
    Read a config string as a route.

    Returns:
        The next hops, and whether the route ends there: after bare URLs, as the original sends them, the last
        hop goes on by its own setting.

    Raises:
        BadConfig: neither `{"next": […]}` nor URLs.
    """
    text = config.strip()
    if not text.startswith("{"):
        hops, ends = text.split(), False
        if any("://" not in hop and ":" not in hop for hop in hops):
            raise BadConfig(f'the config {config[:80]!r} is no route; send {{"next": ["URL", …]}} or a URL')
    else:
        try:
            route = json.loads(text)
        except ValueError as exc:
            raise BadConfig(f"the config is not JSON ({exc})") from exc
        hops, ends = route.get("next"), True
        if not isinstance(hops, list) or not all(isinstance(hop, str) and hop for hop in hops):
            raise BadConfig('the config\'s "next" must be a list of URLs')
    if len(hops) > HOPS_MAX:
        raise BadConfig(f"the config names {len(hops)} hops; the limit is {HOPS_MAX}")
    return hops, ends


class Routed:
    """
    Be a stage, and whatever follows it.

    Args:
        own: This function's stage. It never sees the route.
        default: The hop that follows where the request's config is empty; "" to answer here.
        allowed: The hops that a config may name; `default` is always among them.
        connect: Makes a Model of a hop's URI; called once per URI.
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
        if request.config:
            hops, ends = parse_route(request.config)
        else:
            hops, ends = ([self._default] if self._default else []), False
        for hop in hops:
            if hop not in self._allowed:
                raise BadConfig(f'the hop "{hop}" is not allowed; add it to this function\'s allowed hops')
        if not hops:
            return self.own.infer(request.replace(config=""))
        rest = route_config(hops[1:]) if ends else " ".join(hops[1:])
        following = Configured(self._peer(hops[0]), rest)
        return Chain(Configured(self.own, ""), following).infer(request)

    def _peer(self, hop: str) -> Model:
        # Two threads may both connect; the one that loses is dropped unused, and connecting opens no socket.
        return self._peers.setdefault(hop, self._peers.get(hop) or self._connect(hop))
