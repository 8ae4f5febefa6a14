"""
The real serverless.yml, deployed to the local AWS by the real Serverless Framework, with the default model published.

The files that deploy are copied first, so that the checkout stays as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from default_model import default_model
from packages import CHECKOUT

from aws.cloud import ACCOUNT, Cloud
from aws.parts import npm_parts

SERVICE, STAGE = "classy", "dev"
STACK = f"{SERVICE}-{STAGE}"
FUNCTIONS = ("classy", "main", "downloader", "preprocessor", "vgg")
DEPLOYS = ("serverless.yml", "package.json", "package-lock.json", "deploy/aws")


def make_packages(into: Path, minor: str) -> None:
    """Make the functions' zips for a CPython's minor version, as `make package` does."""
    command = [sys.executable, "-m", "bundling.packages", "--python", minor, "--into", str(into)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout, flush=True)


class Deployment:
    """
    Deploy Classy.

    Args:
        parts: The node_modules that deploys; that of package-lock.json unless given.
        params: Of serverless.yml.
        environ: More environment variables for the Serverless Framework.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        parts: Path | None = None,
        params: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.cloud = cloud
        self.parts = parts or npm_parts()
        self.params = [f"--param={name}={value}" for name, value in (params or {}).items()]
        self.environ = dict(environ or {})
        self.folder = cloud.folder / "checkout"
        self.told = ""
        self.folder.mkdir()
        for name in DEPLOYS:
            place = self.folder / name
            place.parent.mkdir(exist_ok=True)
            (shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy)(CHECKOUT / name, place)

    def package(self) -> None:
        """Make the zips where serverless.yml looks for them."""
        make_packages(self.folder / "build" / "packages", self.cloud.python.minor)

    def serverless(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the Serverless Framework on the copy."""
        return self.cloud.serverless(
            *arguments, *self.params, parts=self.parts, cwd=self.folder, environ=self.environ, check=check
        )

    def deploy(self) -> str:
        """Deploy, and return what a user reads."""
        done = self.serverless("deploy")
        self.told = done.stdout + done.stderr
        return self.told

    def publish_model(self) -> None:
        """Publish the default model to the stack's bucket, as `make deploy` does."""
        self._stack("publish", str(default_model()[0]))

    def remove(self) -> None:
        """Empty the buckets and remove everything, as `make undeploy` does."""
        self._stack("empty")
        s3 = self.cloud.client("s3")
        for name in (value for key, value in self.outputs.items() if key.endswith("sBucket")):
            left = s3.list_objects_v2(Bucket=name)["KeyCount"]
            assert left == 0, f"{name} holds {left} objects; AWS would not delete it, though this emulator does"
        self.serverless("remove")

    def _stack(self, *arguments: str) -> None:
        command = [sys.executable, str(CHECKOUT / "deploy" / "aws" / "stack.py"), *arguments, f"--stage={STAGE}"]
        done = subprocess.run(command, env=self.cloud.environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def outputs(self) -> dict[str, str]:
        """Return what the stack says of itself."""
        (stack,) = self.cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    @property
    def url(self) -> str:
        """Return the HTTP API's URL as the deployment printed it."""
        (url,) = re.findall(r"ANY - (https://\S+)", self.told)
        return str(url)

    @property
    def local_url(self) -> str:
        """Return the same API's URL on this machine."""
        return f"{self.cloud.url}/_aws/execute-api/{self.outputs['HttpApiId']}/$default"

    def name(self, function: str) -> str:
        """Return a function's name at Lambda."""
        return f"{STACK}-{function}"

    def set_environment(self, function: str, values: Mapping[str, str]) -> None:
        """Set environment variables of a deployed function, as in the console; its processes start anew."""
        functions, name = self.cloud.client("lambda"), self.name(function)
        before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, **values}})

    def log_of(self, function: str) -> str:
        """Return everything that a function has logged."""
        logs, group = self.cloud.client("logs"), f"/aws/lambda/{self.name(function)}"
        lines = []
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            lines += [event["message"].rstrip() for event in page["events"]]
        return "\n".join(lines)

    def invoke(self, function: str, event: Any) -> Any:
        """Invoke a function and wait; fails where it failed."""
        answer = self.cloud.client("lambda").invoke(
            FunctionName=self.name(function), Payload=json.dumps(event).encode()
        )
        value = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, value
        return value


def leftovers(cloud: Cloud) -> list[str]:
    """Return everything that is in the account still: functions, buckets, queues, tables, log groups, roles, APIs."""
    found = [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]]
    found += [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]
    found += cloud.client("sqs").list_queues().get("QueueUrls", [])
    found += cloud.client("dynamodb").list_tables()["TableNames"]
    found += [one["logGroupName"] for one in cloud.client("logs").describe_log_groups()["logGroups"]]
    found += [one["RoleName"] for one in cloud.client("iam").list_roles()["Roles"] if ACCOUNT in one["Arn"]]
    found += [one["ApiId"] for one in cloud.client("apigatewayv2").get_apis()["Items"]]
    found += [one["Name"] for one in cloud.client("events").list_rules()["Rules"]]
    found += [one["UUID"] for one in cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"]]
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    return found + [one["StackName"] for one in stacks if one["StackStatus"] != "DELETE_COMPLETE"]
