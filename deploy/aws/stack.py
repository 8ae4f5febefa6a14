"""
What `make deploy` and `make undeploy` do beside the Serverless Framework, with whatever credentials boto3 finds.

    python deploy/aws/stack.py publish FOLDER [--stage dev]     a model folder, into the deployed models bucket
    python deploy/aws/stack.py empty [--stage dev]              the buckets that go with the stack: AWS deletes none
                                                                that holds anything
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage
from graphpipe_fn.errors import GraphPipeError

DELETED_AT_ONCE = 1000  # S3's own limit


def bucket_of(session: boto3.Session, stack: str, output: str) -> str:
    """Return a bucket's name from the stack's outputs."""
    (found,) = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    for one in found.get("Outputs", ()):
        if one["OutputKey"] == output:
            return str(one["OutputValue"])
    raise LookupError(f"the stack {stack} has no output {output}; deploy it again")


def storage_of(session: boto3.Session) -> Storage:
    """Return the object storage for our own code, which knows no profiles and no single sign-on."""
    found: Any = session.get_credentials()
    if found is None:
        raise LookupError("there are no AWS credentials here; run `aws configure`, or set AWS_PROFILE")
    keys = found.get_frozen_credentials()
    client: Any = session.client("s3")
    endpoint = client.meta.endpoint_url
    return Storage(
        endpoint="" if ".amazonaws.com" in endpoint else endpoint,
        region=client.meta.region_name,
        access_key_id=keys.access_key,
        secret_access_key=keys.secret_key,
        session_token=keys.token or "",
    )


def passing_buckets(session: boto3.Session, stack: str) -> Iterator[str]:
    """Yield the buckets that are deleted with the stack."""
    client: Any = session.client("cloudformation")
    kept = {
        name
        for name, resource in client.get_template(StackName=stack)["TemplateBody"]["Resources"].items()
        if resource.get("DeletionPolicy") == "Retain"
    }
    for page in client.get_paginator("list_stack_resources").paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] == "AWS::S3::Bucket" and resource["LogicalResourceId"] not in kept:
                yield str(resource["PhysicalResourceId"])


def empty(session: boto3.Session, bucket: str) -> int:
    """Delete every object of a bucket; return how many there were."""
    client: Any = session.client("s3")
    count = 0
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": DELETED_AT_ONCE}
    ):
        names = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
        if names:
            failed = client.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True}).get("Errors")
            if failed:
                raise LookupError(f"{bucket}: {failed[0]['Key']} can't be deleted: {failed[0]['Message']}")
            count += len(names)
    return count


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("publish", "empty"))
    parser.add_argument("folder", nargs="?", type=Path, help="the model's, for publish")
    parser.add_argument("--stage", default="dev")
    options = parser.parse_args(arguments)
    if (options.command == "publish") != (options.folder is not None):
        parser.error("publish takes a model's folder, empty takes none")
    stack = f"classy-{options.stage}"
    try:
        session = boto3.Session()
        if options.command == "publish":
            store = ModelStore(
                ObjectStorage(storage_of(session)), f"s3://{bucket_of(session, stack, 'ModelsBucket')}"
            )
            print(f"published {publish(options.folder, store).ref} for {stack}")
        else:
            for bucket in list(passing_buckets(session, stack)):
                print(f"{bucket}: deleted {empty(session, bucket)} objects")
    except (BotoCoreError, ClientError, GraphPipeError, LookupError) as exc:
        print(f"{stack}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
