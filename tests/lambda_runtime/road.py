"""The road over AWS Lambda for the contract test: our transport, Invoke, the real awslambdaric, our adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphpipe_fn.model import Transport
from graphpipe_fn.transports.aws_access import AwsAccess
from graphpipe_fn.transports.aws_lambda import LambdaTransport
from lambda_runtime.runtime import LambdaRuntime

FUNC = """
from contract_model import ContractModel

from graphpipe_fn.adapters.aws_lambda import handler as lambda_handler
from graphpipe_fn.server import answerer

handler = lambda_handler(answerer(ContractModel(), name="contract"), limit_bytes=1_000_000)
"""


def access_to(url: str) -> AwsAccess:
    """Return the access to a Lambda on this machine."""
    return AwsAccess(region="us-east-1", access_key_id="test", secret_access_key="test", endpoint_url=url)


@contextmanager
def lambda_road() -> Iterator[Transport]:
    """Serve the contract's model and yield the transport to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "func.py").write_text(FUNC)
        with LambdaRuntime(folder, "func.handler") as runtime:
            transport = LambdaTransport("lambda:function", access=access_to(runtime.url))
            try:
                yield transport
            finally:
                transport.close()
