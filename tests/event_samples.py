"""Real platforms' events in tests/events, and what each of them announces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from classy.events import ObjectRef

FOLDER = Path(__file__).with_name("events")
S3_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
OCI_ETAG = "e1f0a1b2-0c3d-4e5f-8a9b-0123456789ab"


def _ref(key: str, version: str = S3_ETAG, *, versioned: bool = False) -> ObjectRef:
    return ObjectRef("classy-inbox", key, version, versioned)


# Sample → the objects that it announces, and how much else is in it.
GOOD: dict[str, tuple[list[ObjectRef], int]] = {
    "s3-put": ([_ref("photos/dog.jpg")], 0),
    "s3-put-versioned": ([_ref("photos/dog.jpg", "096fKKXTRTtl3on89fVO.nfljtsv6qko", versioned=True)], 0),
    "s3-multipart-encoded-key": (
        [_ref("2026/a b+c 日本 100%25.jpg", "9b2cf535f27731c974343645a3985328-3")], 0
    ),
    "s3-two-and-a-duplicate": ([_ref("one.jpg"), _ref("two.png")], 1),
    "s3-prefixed-name": ([_ref("posted.jpg", "")], 0),
    "s3-put-and-delete": ([_ref("kept.jpg")], 1),
    "s3-deleted": ([], 1),
    "s3-folder": ([], 1),
    "s3-unaddressable-key": ([_ref("photos//dog.jpg")], 0),
    "s3-leading-slash": ([_ref("/dog.jpg")], 0),
    "s3-not-a-picture": ([_ref("notes.txt")], 0),
    "s3-test-event": ([], 1),
    "dynamodb-stream": ([], 1),
    "oci-created": ([_ref("photos/dog.jpg", OCI_ETAG)], 0),
    "oci-created-as-documented": ([_ref("my_object.jpg", OCI_ETAG)], 0),
    "oci-created-of-2019": ([_ref("old.jpg", OCI_ETAG)], 0),
    "oci-created-plain-key": ([_ref("plain+name 100%25 日本.jpg", OCI_ETAG)], 0),
    "oci-created-cased-otherwise": ([_ref("cased.jpg", OCI_ETAG)], 0),
    "oci-created-missing-keys": ([_ref("photos/b/o/sparse.jpg", "")], 0),
    "oci-created-cloudevents-1-0": ([_ref("modern.jpg", OCI_ETAG)], 0),
    "oci-created-versioned": ([_ref("versioned.jpg", "7b0d3f2e-aaaa-bbbb-cccc-000000000001", versioned=True)], 0),
    "oci-deleted": ([], 1),
    "oci-updated": ([], 1),
    "oci-bucket-created": ([], 1),
    "oci-folder": ([], 1),
    "oci-unaddressable-key": ([_ref("photos/../dog.jpg", OCI_ETAG)], 0),
    "cloudevents-of-another-service": ([], 1),
    "eventbridge-created": ([_ref("photos/dog.jpg")], 0),
    "eventbridge-created-versioned": (
        [_ref("photos/dog.jpg", "096fKKXTRTtl3on89fVO.nfljtsv6qko", versioned=True)], 0
    ),
    "eventbridge-plain-key": ([_ref("plain+name 100%25 日本.jpg")], 0),
    "eventbridge-folder": ([], 1),
    "eventbridge-deleted": ([], 1),
    "eventbridge-of-another-service": ([], 1),
}  # fmt: skip
UNADDRESSABLE = ("s3-unaddressable-key", "s3-leading-slash", "oci-unaddressable-key")
# Sample → what its refusal says.
RUBBISH = {
    "rubbish-records-no-list": '"Records" must be a list',
    "rubbish-no-bucket": "KeyError('bucket')",
    "rubbish-eventbridge-no-key": "KeyError('key')",
    "rubbish-no-type": 'send it with its "eventType"',
    "rubbish-no-data": "send data.resourceName",
    "rubbish-half-a-character": "is no name",
}


def sample(name: str) -> dict[str, Any]:
    """Return a sample as a platform sends it."""
    value: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return value
