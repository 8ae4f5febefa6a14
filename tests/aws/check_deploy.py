"""
The real serverless.yml on a local AWS, as a user meets it: deploy, curl, upload, deploy again, remove.

`make test-aws` runs it. The tests share one deployment and stand in the order of its life: the last one removes it.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from photos import FOOLBOX

from aws.cloud import until
from aws.deployed import FUNCTIONS, STACK, Deployment, leftovers
from aws.expected import Witness, outcome_of, witness
from aws.front import Fault, Passing
from aws.observed import bucket_records, notification, outcome, queue_length, root_access, set_visibility
from classy.errors import BadRequest, UnreadablePicture
from classy.records.store import RecordStore, open_records

UPLOADED_S = 120.0
ODD_NAMES = ("two words.jpg", "one+one.jpg", "Grüße.jpg", "日本/写真 1.jpg", "50%25 & more?.jpg", "a=b;c,d.jpg")
RUBBISH = {"rubbish.jpg": b"\xff\xd8\xff no picture", "empty.png": b""}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """Say what is right."""
    with witness(tmp_path_factory.mktemp("models")) as there:
        yield there


@pytest.fixture(scope="module")
def picture(photos: dict[str, bytes]) -> bytes:
    return photos["coffee.png"]


@pytest.fixture(scope="module")
def served(deployment: Deployment, picture: bytes) -> Iterator[str]:
    """Serve the picture on 127.0.0.1, and let the functions that download open that; return its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.startswith("/cup.png")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(picture if found else b"")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    for function in ("downloader", "main"):
        deployment.set_environment(function, {"CLASSY_DOWNLOAD_ALLOW": f"127.0.0.1:{server.server_port}"})
    yield f"http://127.0.0.1:{server.server_port}/cup.png"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def records(deployment: Deployment) -> Iterator[RecordStore]:
    """Open the stack's own table."""
    store = open_records(f"dynamodb:{STACK}-records", root_access(deployment.cloud))
    yield store
    store.close()


# Each is a way to the same answer: its URL, and what else curl is told.
DOORS: dict[str, Callable[[Deployment], list[str]]] = {
    "the printed URL": lambda there: [there.url],
    "the local URL": lambda there: [there.local_url],
    "the function URL, signed": lambda there: [
        *("--aws-sigv4", "aws:amz:us-east-1:lambda", "--user", "test:test"),
        there.outputs["MainLambdaFunctionUrl"].rstrip("/"),
    ],
}


def ask(deployment: Deployment, door: str, path: str, *arguments: str) -> dict[str, Any]:
    """Return the JSON that a door answers."""
    *options, url = DOORS[door](deployment)
    told = deployment.cloud.curl(*options, url + path, *arguments, local=door == "the local URL")
    answer: dict[str, Any] = json.loads(told)
    return answer


def file_of(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def test_the_deployment_says_what_there_is(deployment: Deployment) -> None:
    """A user reads the API's URL, and every function by its name."""
    assert deployment.url.startswith("https://")
    assert deployment.url.endswith(".execute-api.us-east-1.amazonaws.com")
    for function in FUNCTIONS:
        assert f"  {function}: {deployment.name(function)} (" in deployment.told


@pytest.mark.parametrize("door", DOORS)
def test_json_with_a_url_is_answered(
    deployment: Deployment, served: str, right: Witness, picture: bytes, door: str
) -> None:
    """The first curl of the README works against a deployment, by each of its URLs."""
    told = ask(deployment, door, "/", "-H", "Content-Type: application/json", "-d", json.dumps({"name": served}))
    assert outcome_of(told) == right.outcome(picture)


@pytest.mark.parametrize("door", DOORS)
def test_a_picture_in_the_body_arrives_byte_for_byte(
    deployment: Deployment, picture: bytes, right: Witness, tmp_path: Path, door: str
) -> None:
    """Binary bodies are not spoilt on their way: the record has the very file's SHA-256."""
    file = file_of(tmp_path, "cup.png", picture)
    told = ask(deployment, door, "/classify", "-H", "Content-Type: image/png", "--data-binary", f"@{file}")
    assert outcome_of(told) == right.outcome(picture)
    assert told["picture_sha256"] == hashlib.sha256(picture).hexdigest()


@pytest.mark.parametrize("door", DOORS)
def test_a_form_with_a_file_is_answered(
    deployment: Deployment, picture: bytes, right: Witness, tmp_path: Path, door: str
) -> None:
    """The page's own way, multipart through Flask, gives the same answer and keeps every byte."""
    told = ask(deployment, door, "/api/classify", "-F", f"image=@{file_of(tmp_path, 'cup.png', picture)}")
    assert outcome_of(told) == right.outcome(picture)
    assert told["picture_sha256"] == hashlib.sha256(picture).hexdigest()


@pytest.mark.parametrize("door", DOORS)
def test_the_articles_handler_answers_as_in_the_article(deployment: Deployment, served: str, door: str) -> None:
    """GET …/handler?imagelink= returns {"return": "label (score = …)"}."""
    told = ask(deployment, door, f"/handler?imagelink={quote(served, safe='')}")
    assert list(told) == ["return"]
    assert told["return"].startswith("espresso (score = 0.")


def test_an_object_of_the_uploads_bucket_is_a_url_too(deployment: Deployment, picture: bytes, right: Witness) -> None:
    """Whoever may upload may also ask by s3://, whatever the key looks like."""
    bucket = deployment.outputs["UploadsBucket"]
    deployment.cloud.client("s3").put_object(Bucket=bucket, Key="asked ü+.png", Body=picture)
    told = ask(deployment, "the printed URL", "/", "-d", json.dumps({"name": f"s3://{bucket}/asked ü+.png"}))
    assert outcome_of(told) == right.outcome(picture)


def test_what_is_not_allowed_is_refused(deployment: Deployment) -> None:
    """The deployment opens no private address and no foreign bucket, and says why in our own JSON."""
    for url in ("http://169.254.169.254/latest/meta-data/", "s3://somebody-elses/picture.jpg"):
        told = ask(deployment, "the printed URL", "/", "-d", json.dumps({"name": url}))
        assert told["error"]["retryable"] is False, told


def test_nobody_may_call_main_by_its_url_without_a_signature(deployment: Deployment) -> None:
    """The function URL is IAM's by default: a stranger's request never reaches the function."""
    told = deployment.cloud.curl(deployment.outputs["MainLambdaFunctionUrl"], "-d", "{}", "-w", "%{http_code}")
    assert told.endswith(b"403")


def test_invoke_prints_the_five_likeliest(deployment: Deployment) -> None:
    """`serverless invoke --function main --log` is the article's first command."""
    done = deployment.serverless("invoke", "--function", "main", "--log")
    told = done.stdout + done.stderr
    assert "espresso (score = 0.65994)" in told
    assert told.count("(score = 0.") >= 5


def test_an_unknown_event_gets_a_clear_answer(deployment: Deployment) -> None:
    """What the function does not know it refuses by name, in the same process: nothing loops."""
    for event in ({"hello": "world"}, [1, 2], "text", None):
        told = deployment.invoke("classy", event)
        assert told["error"]["code"] == BadRequest.code, told


def test_a_warm_up_loads_the_model(deployment: Deployment) -> None:
    """The schedule's event does what the first caller would have waited for."""
    for function in FUNCTIONS:
        told = deployment.invoke(function, {"warmup": True})
        assert "error" not in told, told
        assert told["load_ms"] >= 0


def test_the_model_runs_where_sys_is_hidden(deployment: Deployment) -> None:
    """onnxruntime asks /sys for the processor, and Lambda hides that: the vgg function answers nevertheless."""
    if not deployment.cloud.walled:
        pytest.skip("nothing is sandboxed here, so /sys can't be hidden")
    told = deployment.invoke("vgg", {"num_of_cycles": 3})
    assert told["cycles"] == 3, told
    (pid, *_) = deployment.cloud.processes(deployment.name("vgg"))
    assert Path(f"/proc/{pid}/root/var/task").is_dir()
    assert not Path(f"/proc/{pid}/root/sys").exists()


def test_the_role_is_enforced(deployment: Deployment, picture: bytes, tmp_path: Path) -> None:
    """A role that lacks one statement makes the function fail, so these tests hold the roles to what is needed."""
    iam, name = deployment.cloud.client("iam"), ""
    for role in iam.list_roles()["Roles"]:
        if "MainRole" in role["RoleName"]:
            name = role["RoleName"]
    policy = iam.get_role_policy(RoleName=name, PolicyName="models")["PolicyDocument"]
    file = file_of(tmp_path, "cup.png", picture)
    signed = "the function URL, signed"
    iam.delete_role_policy(RoleName=name, PolicyName="models")
    try:
        deployment.set_environment("main", {"CLASSY_MODEL_ALIAS_AGE": "0"})
        told = ask(deployment, signed, "/classify", "-H", "Content-Type: image/png", "--data-binary", f"@{file}")
        assert told["error"]["code"] // 100 in (500, 502, 503), told
    finally:
        iam.put_role_policy(RoleName=name, PolicyName="models", PolicyDocument=json.dumps(policy))
        deployment.set_environment("main", {"CLASSY_MODEL_ALIAS_AGE": "60"})


def test_uploads_classify_themselves(
    deployment: Deployment, records: RecordStore, right: Witness, photos: dict[str, bytes]
) -> None:
    """Twenty uploads, two rubbish, three twice, odd names: exactly one right record and one result each."""
    pictures = [photos[f"imagenet_{place:02}_{index}.jpg"] for place, index in enumerate(FOOLBOX)]
    uploads = dict(zip(ODD_NAMES, pictures, strict=False)) | RUBBISH
    uploads |= {f"plain {place}.jpg": content for place, content in enumerate(pictures[len(ODD_NAMES) : 18])}
    assert len(uploads) == 20
    before = set(bucket_records(records))
    set_visibility(deployment, 30)
    s3, bucket = deployment.cloud.client("s3"), deployment.outputs["UploadsBucket"]
    for name, content in [*uploads.items(), *list(uploads.items())[:3]]:
        s3.put_object(Bucket=bucket, Key=name, Body=content)
    until(lambda: len(set(bucket_records(records)) - before) >= 20, UPLOADED_S, lambda: deployment.log_of("classy"))
    until(lambda: queue_length(deployment, "UploadsQueue") == 0, UPLOADED_S)
    found = {name: outcome(record) for name, record in bucket_records(records).items() if name not in before}
    expected = {name: right.outcome(content) for name, content in uploads.items() if name not in RUBBISH}
    assert found == expected | dict.fromkeys(RUBBISH, (UnreadablePicture.code, 0.0))
    results = s3.list_objects_v2(Bucket=deployment.outputs["ResultsBucket"], Prefix="results/")["Contents"]
    keys = [one["Key"].removeprefix(f"results/{bucket}/").rpartition("/")[0] for one in results]
    assert sorted(key for key in keys if key in uploads) == sorted(uploads)
    assert queue_length(deployment, "FailedUploads") == 0


def test_only_what_failed_of_a_batch_comes_again(
    deployment: Deployment, records: RecordStore, photos: dict[str, bytes]
) -> None:
    """One message that nobody can read ends in the dead-letter queue with its reason; its neighbours are done."""
    s3, sqs = deployment.cloud.client("s3"), deployment.cloud.client("sqs")
    bucket, queue = deployment.outputs["UploadsBucket"], deployment.outputs["UploadsQueue"]
    set_visibility(deployment, 2)
    etags = {}
    for number in range(4):
        etags[f"batch {number}"] = s3.put_object(Bucket=bucket, Key=f"batch {number}", Body=photos["china.jpg"])
    bodies = [notification(bucket, key, answer["ETag"].strip('"')) for key, answer in etags.items()]
    bodies.insert(2, '{"Records": [{"eventName": "ObjectCreated:Put"}]}')
    sent = sqs.send_message_batch(
        QueueUrl=queue, Entries=[{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
    )
    poison = sent["Successful"][2]["MessageId"]
    until(lambda: set(etags) <= set(bucket_records(records)), UPLOADED_S, lambda: deployment.log_of("classy"))
    until(lambda: queue_length(deployment, "FailedUploads") == 1, UPLOADED_S, lambda: deployment.log_of("classy"))
    until(lambda: queue_length(deployment, "UploadsQueue") == 0, UPLOADED_S)
    (dead,) = sqs.receive_message(
        QueueUrl=deployment.outputs["FailedUploads"], MessageAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"]
    assert dead["Body"] == bodies[2]
    told = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
    assert told["Reason"].startswith(f"{BadRequest.code} an event record can't be read")
    assert (told["MessageId"], told["Deliveries"]) == (poison, "1")  # no second try would mend it


def test_a_process_that_is_killed_at_work_loses_nothing(
    deployment: Deployment, records: RecordStore, right: Witness, photos: dict[str, bytes]
) -> None:
    """SIGKILL in the middle of an upload: the message comes again, and leads to one record."""
    set_visibility(deployment, 5)
    killed: list[int] = []

    def kill(passing: Passing) -> Fault | None:
        if not killed and passing.path.endswith(f"{deployment.name('downloader')}/invocations"):
            for pid in deployment.cloud.processes(deployment.name("classy")):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return None

    deployment.cloud.front.rule = kill
    content = photos["rocket.jpg"]
    try:
        deployment.cloud.client("s3").put_object(
            Bucket=deployment.outputs["UploadsBucket"], Key="killed.jpg", Body=content
        )
        found = until(
            lambda: bucket_records(records).get("killed.jpg"), UPLOADED_S, lambda: deployment.log_of("classy")
        )
    finally:
        deployment.cloud.front.rule = None
    assert killed
    assert outcome(found) == right.outcome(content)
    until(lambda: queue_length(deployment, "UploadsQueue") == 0, UPLOADED_S)
    assert queue_length(deployment, "FailedUploads") == 1  # the poison of the test before


def test_a_second_deployment_updates_the_first(deployment: Deployment, picture: bytes, tmp_path: Path) -> None:
    """Deploying again with another parameter changes just that, at the same URL, and keeps what is stored."""
    url, file = deployment.url, file_of(tmp_path, "cup.png", picture)
    uploads = deployment.cloud.client("s3").list_objects_v2(Bucket=deployment.outputs["UploadsBucket"])["KeyCount"]
    deployment.params.append("--param=language=en")
    deployment.deploy()
    assert deployment.url == url
    told = ask(
        deployment, "the printed URL", "/classify", "-H", "Content-Type: image/png", "--data-binary", f"@{file}"
    )
    assert told["Message"].startswith("result_class=espresso,")
    after = deployment.cloud.client("s3").list_objects_v2(Bucket=deployment.outputs["UploadsBucket"])["KeyCount"]
    assert after == uploads > 20


def test_nothing_stays_behind(deployment: Deployment) -> None:
    """After `serverless remove` the account has no function, bucket, queue, table, log group, role or API of ours."""
    assert leftovers(deployment.cloud) != []
    deployment.remove()
    assert leftovers(deployment.cloud) == []
