from __future__ import annotations

import json

import pytest
from toy_models import Texts

from graphpipe_fn.errors import BadConfig
from graphpipe_fn.messages import InferRequest, strings
from graphpipe_fn.routed import HOPS_MAX, Route, Routed, encode_config, parse_config

PEERS = ("http://second", "http://third")


def routed(*, default: str = "") -> tuple[Routed, dict[str, Texts]]:
    peers = {uri: Texts(lambda text, uri=uri: f"{text}>{uri[7:]}", uri) for uri in PEERS}  # type: ignore[misc]
    own = Texts(lambda text: text + ">own", "own")
    return Routed(own, connect=peers.__getitem__, default=default, allowed=PEERS), {"own": own, **peers}


ROUTES = [
    pytest.param("", "", "a>own", {"own": ""}, id="no config, no default: answered here"),
    pytest.param("", PEERS[0], "a>own>second", {PEERS[0]: ""}, id="no config: the default hop"),
    pytest.param('{"next":[]}', PEERS[0], "a>own", {"own": ""}, id="an empty route ends here"),
    pytest.param(PEERS[1], PEERS[0], "a>own>third", {PEERS[1]: ""}, id="a bare URL as the original sends it"),
    pytest.param(" ".join(PEERS), "", "a>own>second", {PEERS[0]: PEERS[1]}, id="bare URLs"),
    pytest.param(
        encode_config(PEERS), "", "a>own>second", {PEERS[0]: '{"next":["http://third"]}'}, id="the rest goes on"
    ),
    pytest.param(
        '{"model":"m"}', PEERS[0], "a>own>second", {"own": '{"model":"m"}', PEERS[0]: '{"model":"m"}'},
        id="other keys go to every stage",
    ),
    pytest.param(
        encode_config([PEERS[0]], model="m"), "", "a>own>second",
        {"own": '{"model":"m"}', PEERS[0]: '{"next":[],"model":"m"}'}, id="a route that ends, with other keys",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "default", "answer", "configs"), ROUTES)
def test_the_config_is_the_route(config: str, default: str, answer: str, configs: dict[str, str]) -> None:
    """Each stage forwards to the first hop and passes the rest on."""
    stage, models = routed(default=default)
    response = stage.infer(InferRequest((strings(["a"]),), config=config))
    assert response.outputs == (strings([answer]),)
    assert {name: models[name].seen[0].config for name in configs} == configs


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("http://169.254.169.254/", "not allowed"),
        ('{"next":["http://second","http://elsewhere"]}', "not allowed"),
        ("nonsense", "no route"),
        ("{", "not JSON"),
        ('{"next":"http://second"}', "list of URLs"),
        ('{"next":[7]}', "list of URLs"),
        (json.dumps({"next": [PEERS[0]] * (HOPS_MAX + 1)}), "limit"),
        ("[" * 3 + "{" * 100_000, "no route"),
        ('{"a":' * 100_000, "not JSON"),
    ],
)
def test_a_route_that_is_not_allowed_is_refused_before_any_work(config: str, complaint: str) -> None:
    """Neither the own stage nor a hop sees a request whose route is refused."""
    stage, models = routed()
    with pytest.raises(BadConfig, match=complaint):
        stage.infer(InferRequest((strings(["a"]),), config=config))
    assert [model.seen for model in models.values()] == [[], [], []]


@pytest.mark.parametrize(
    "route", [Route(), Route((), ends=True), Route(PEERS, ends=True, rest={"model": "m"}), Route(None, rest={"k": 1})]
)
def test_what_is_encoded_is_read_back(route: Route) -> None:
    """encode_config and parse_config are each other's inverse."""
    assert parse_config(encode_config(route.hops, **route.rest)) == route
