"""
How AWS is reached: region, endpoint and credentials, as told or, where they are not, by boto3's own chain.

Told all of it, nothing of boto3 is imported. It knows services by their names alone and sends nothing itself; the
chain may (a role's credentials come over the network).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Self

from graphpipe_fn.errors import BadConfig, TransportFailed
from graphpipe_fn.transports.aws_sigv4 import Credentials
from graphpipe_fn.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccess:
    """
    Tell how AWS is reached; boto3's chain (environment, profile, container or instance role, …) finds the rest.

    Args:
        region: As `eu-central-1`.
        access_key_id, secret_access_key, session_token: The first two together, or none.
        endpoint_url: Of another service than the region's own: an emulator, a VPC endpoint.

    Raises:
        BadConfig: half a key.
    """

    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    endpoint_url: str = ""

    def __post_init__(self) -> None:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise BadConfig(
                "AWS's access key has two halves; give both the access key's id and the secret, or neither"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """
        Read the variables that Lambda gives every function, and AWS's tools know.

        The caller hands over `os.environ`. A function that does so signs its first request without boto3. Where the
        platform hands out credentials otherwise (SnapStart, ECS, EC2) there are none here, and the chain finds them.
        """
        return cls(
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", ""),
            access_key_id=environ.get("AWS_ACCESS_KEY_ID", ""),
            secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environ.get("AWS_SESSION_TOKEN", ""),
            endpoint_url=environ.get("AWS_ENDPOINT_URL_LAMBDA") or environ.get("AWS_ENDPOINT_URL", ""),
        )


@dataclass(frozen=True, slots=True)
class AwsApi:
    """Say where a service's API is, and who calls it: `credentials` is asked before each call, as a role's expire."""

    url: str
    region: str
    credentials: Callable[[], Credentials]


def lambda_api(access: AwsAccess) -> AwsApi:
    """
    Return Lambda's API for this access.

    Raises:
        BadConfig: boto3's chain is needed, but finds nothing or is not installed.
    """
    return service_api(access, "lambda")


def service_api(access: AwsAccess, service: str) -> AwsApi:
    """
    Return a service's API for this access.

    Args:
        service: As its public host begins: `lambda`, `dynamodb`.

    Raises:
        BadConfig: boto3's chain is needed, but finds nothing or is not installed.
    """
    if access.region and access.access_key_id:
        told = Credentials(access.access_key_id, access.secret_access_key, access.session_token)
        return AwsApi(access.endpoint_url or _public_url(service, access.region), access.region, lambda: told)
    return _by_chain(access, service)


def _public_url(service: str, region: str) -> str:
    # Source: botocore 1.43, endpoints.json. The regions of secret clouds need an endpoint_url, or the chain.
    return f"https://{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _by_chain(access: AwsAccess, service: str) -> AwsApi:
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as exc:
        raise BadConfig(
            "no AWS region or credentials were given and boto3, which could find them, is not installed; give "
            "aws=AwsAccess(region=…, access_key_id=…, secret_access_key=…) or install the extra `aws`"
        ) from exc
    try:
        session = Session()
        client = session.create_client(
            service,
            region_name=access.region or None,
            endpoint_url=access.endpoint_url or None,
            aws_access_key_id=access.access_key_id or None,
            aws_secret_access_key=access.secret_access_key or None,
            aws_session_token=access.session_token or None,
        )
        found: Any = None if access.access_key_id else session.get_credentials()
    except (BotoCoreError, ValueError) as exc:  # ValueError: an endpoint that is no URL
        raise BadConfig(f"AWS can't be reached as it is set up: {exc}") from exc
    url, region = client.meta.endpoint_url, client.meta.region_name
    if access.access_key_id:
        told = Credentials(access.access_key_id, access.secret_access_key, access.session_token)
        return AwsApi(url, region, lambda: told)
    if found is None:
        raise BadConfig(
            "boto3 finds no AWS credentials; give this machine a role, run `aws configure`, or give aws=AwsAccess(…)"
        )

    def current() -> Credentials:
        try:
            frozen = found.get_frozen_credentials()
        except BotoCoreError as exc:
            raise TransportFailed(f"AWS's credentials can't be renewed: {exc}") from exc
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    return AwsApi(url, region, current)
