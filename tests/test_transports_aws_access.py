"""How AWS is reached: what is told, what boto3's own chain finds, and what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scripted_server import Peer, response, scripted_server

from graphpipe_fn.errors import BadConfig
from graphpipe_fn.messages import Call
from graphpipe_fn.transports.aws_access import AwsAccess, lambda_api
from graphpipe_fn.transports.aws_lambda import LambdaTransport
from graphpipe_fn.transports.aws_sigv4 import Credentials

KEYS = {"access_key_id": "AKID", "secret_access_key": "secret"}


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide this machine's own set-up from boto3's chain, and keep it from asking the network."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("access", "url"),
    [
        (AwsAccess(region="eu-central-1", **KEYS), "https://lambda.eu-central-1.amazonaws.com"),
        (AwsAccess(region="us-gov-west-1", **KEYS), "https://lambda.us-gov-west-1.amazonaws.com"),
        (AwsAccess(region="cn-north-1", **KEYS), "https://lambda.cn-north-1.amazonaws.com.cn"),
        (AwsAccess(region="eu-central-1", endpoint_url="http://127.0.0.1:1", **KEYS), "http://127.0.0.1:1"),
    ],
)
def test_what_is_told_is_used(access: AwsAccess, url: str) -> None:
    """With a region and keys nothing is looked for."""
    api = lambda_api(access)
    assert (api.url, api.region) == (url, access.region)
    assert api.credentials() == Credentials("AKID", "secret")


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "cn-northwest-1", "ap-southeast-7"])
def test_botocore_knows_the_same_endpoint(region: str) -> None:
    """The address that is made of a region is the one that AWS's SDK looks up."""
    from botocore.session import Session

    client = Session().create_client("lambda", region, aws_access_key_id="a", aws_secret_access_key="b")
    assert lambda_api(AwsAccess(region=region, **KEYS)).url == client.meta.endpoint_url


def test_lambdas_own_variables_tell_all() -> None:
    """What the platform gives every function is enough, and the service's own endpoint goes before the general."""
    environ = {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:2",
    }
    api = lambda_api(AwsAccess.from_env(environ))
    assert (api.region, api.url) == ("eu-central-1", "http://127.0.0.1:2")
    assert api.credentials() == Credentials("AKID", "secret", "token")
    assert AwsAccess.from_env({}) == AwsAccess()
    assert AwsAccess.from_env({"AWS_DEFAULT_REGION": "us-east-1"}).region == "us-east-1"


def test_the_secret_is_never_shown() -> None:
    """Neither the key nor the token is in what a log would print."""
    shown = repr(AwsAccess(region="r", access_key_id="AKID", secret_access_key="swordfish", session_token="marlin"))
    assert "AKID" in shown
    assert "swordfish" not in shown
    assert "marlin" not in shown


@pytest.mark.parametrize("half", [{"access_key_id": "AKID"}, {"secret_access_key": "secret"}])
def test_half_a_key_is_refused(half: dict[str, str]) -> None:
    """Where one half was forgotten, the chain would find somebody else's whole key."""
    with pytest.raises(BadConfig, match="two halves"):
        AwsAccess(region="eu-central-1", **half)


def test_the_chain_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told nothing, boto3's chain is asked for region, endpoint and keys."""
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:2",
    }.items():
        monkeypatch.setenv(name, value)
    api = lambda_api(AwsAccess())
    assert (api.region, api.url) == ("eu-west-3", "http://127.0.0.1:2")
    assert api.credentials() == Credentials("AKID", "secret", "token")
    assert lambda_api(AwsAccess(region="eu-central-1")).region == "eu-central-1"


def test_the_chain_reads_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A person's own set-up, made by `aws configure`, serves; what is told goes before it."""
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = PROFILE\naws_secret_access_key = secret\n")
    (tmp_path / "config").write_text("[profile work]\nregion = sa-east-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    api = lambda_api(AwsAccess())
    assert (api.region, api.url) == ("sa-east-1", "https://lambda.sa-east-1.amazonaws.com")
    assert api.credentials() == Credentials("PROFILE", "secret")
    assert lambda_api(AwsAccess(**KEYS)).credentials() == Credentials("AKID", "secret")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, "boto3 finds no AWS credentials; give this machine a role"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "You must specify a region"),
        ({"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
        ({"AWS_DEFAULT_REGION": "eu-west-3", "AWS_ENDPOINT_URL": "no url"}, "Invalid endpoint"),
    ],
    ids=["no credentials", "no region", "no such profile", "no endpoint"],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], message: str) -> None:
    """A set-up that can't work is an error of ours that says why, at the first call and not before."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    transport = LambdaTransport("lambda:vgg")
    with pytest.raises(BadConfig) as caught:
        transport([b""], Call())
    assert message in caught.value.message


def test_without_boto3_the_remedy_is_named() -> None:
    """A bundle without the SDK works with keys that are told, and says so where none are."""
    code = (
        "import sys; sys.modules['botocore'] = None\n"
        "from graphpipe_fn.transports.aws_access import AwsAccess, lambda_api\n"
        "lambda_api(AwsAccess(region='r', access_key_id='a', secret_access_key='b'))\n"
        "try: lambda_api(AwsAccess())\n"
        "except Exception as exc: print(exc.code, exc.message)\n"
    )
    told = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.startswith("40003 no AWS region or credentials were given and boto3")
    assert "install the extra `aws`" in told


def test_a_roles_credentials_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are about to expire are asked for anew, and the next request is signed with the new ones."""
    proofs: list[str] = []
    given = 0

    def script(peer: Peer) -> None:
        nonlocal given
        while True:
            head, _ = peer.request()
            if head.startswith(b"GET /credentials"):
                given += 1
                keys = {
                    "AccessKeyId": f"KEY{given}",
                    "SecretAccessKey": "secret",
                    "Token": f"token{given}",
                    "Expiration": (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
                headers = "Content-Type: application/json\r\nConnection: close\r\n"
                return peer.send(response(json.dumps(keys).encode(), headers=headers))
            else:
                proofs.append(head.decode())
                peer.send(response(b'{"statusCode": 204}'))

    with scripted_server(script) as server:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}credentials")
        transport = LambdaTransport("lambda:vgg")
        for _ in range(2):
            assert transport([b""], Call()).status == 204
        transport.close()
    used = [proof.partition("Credential=")[2].partition("/")[0] for proof in proofs]
    assert len(set(used)) == 2
    assert all(f"X-Amz-Security-Token: token{key[3:]}\r\n" in proof for key, proof in zip(used, proofs, strict=True))
