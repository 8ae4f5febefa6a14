"""What Lambda calls Classy with: every kind of event, from every sender that serverless.yml or a user may attach."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from event_samples import FOLDER, GOOD
from flask import Flask, Response, request
from lambda_runtime.emulator import Emulator, ministack
from lambda_runtime.road import access_to

from classy.asks import Options
from classy.aws import article
from classy.aws.batches import LEAST_S, answer_batch
from classy.aws.benchmark import measured, process_age_ms
from classy.aws.dead_letters import REASON_MAX, DeadLetters
from classy.aws.front import GATEWAY_S, Front, UploadFailed
from classy.aws.kinds import Kind, kind_of, unwrapped
from classy.aws.stage import noise, stage_handler
from classy.aws.web import Web
from classy.front import Classy
from classy.pipeline import vgg
from classy.settings import Settings
from graphpipe_fn.adapters.aws_lambda import ANSWER_MAX, http_request
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply

SAMPLE = (Path(__file__).parent.parent / "functions" / "classy" / "sample.jpg").read_bytes()
BYTES = bytes(range(256)) * 3
S3_PUT = json.loads((FOLDER / "s3-put.json").read_text(encoding="utf-8"))


@dataclass
class Context:
    """What Lambda hands over beside an event."""

    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    left_s: float = 30.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)


def text_of(body: bytes) -> str:
    return base64.b64encode(body).decode()


def format_2(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    body: bytes | None = None,
    stage: str = "$default",
    **more: Any,
) -> dict[str, Any]:
    """Return an HTTP API's event; a function URL's has the same form."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path if stage == "$default" else f"/{stage}{path}",
        "rawQueryString": query,
        "headers": {"host": "a1b2c3.execute-api.us-east-1.amazonaws.com", "content-type": "image/jpeg"},
        "requestContext": {
            "apiId": "a1b2c3",
            "domainName": "a1b2c3.execute-api.us-east-1.amazonaws.com",
            "stage": stage,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
        },
        "isBase64Encoded": body is not None,
    }
    if body is not None:
        event["body"] = text_of(body)
    return {**event, **more}


def format_1(
    method: str = "GET",
    path: str = "/",
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a REST API's event."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"Host": "a1b2c3.execute-api.us-east-1.amazonaws.com", "Content-Type": "image/jpeg"},
        "multiValueHeaders": {
            "Host": ["a1b2c3.execute-api.us-east-1.amazonaws.com"],
            "Content-Type": ["image/jpeg"],
            "Cookie": ["a=1; b=2"],
        },
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {name: [value] for name, value in (query or {}).items()} or None,
        "requestContext": {
            "stage": "dev",
            "path": f"/dev{path}",
            "identity": {"sourceIp": "192.0.2.1"},
            "apiId": "x",
        },
        "body": None if body is None else text_of(body),
        "isBase64Encoded": body is not None,
        **more,
    }


def load_balancer(
    method: str = "GET", path: str = "/", query: Mapping[str, str] | None = None, body: bytes | None = None
) -> dict[str, Any]:
    """Return an application load balancer's event."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:…"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": dict(query or {}),
        "headers": {"host": "lb-1.elb.amazonaws.com", "content-type": "image/jpeg", "x-forwarded-proto": "https"},
        "body": "" if body is None else text_of(body),
        "isBase64Encoded": body is not None,
    }


def message(name: str, body: str, **attributes: str) -> dict[str, Any]:
    """Return one of an SQS event's records."""
    return {
        "messageId": name,
        "receiptHandle": "AQEB",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", **attributes},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:classy-dev-uploads",
        "awsRegion": "us-east-1",
    }


def by_sns(text: str) -> dict[str, Any]:
    """Return SNS's event of one notification."""
    return {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"Message": text}}]}


def in_envelope(text: str) -> str:
    """Return what SNS puts into a queue."""
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": text})


SCHEDULED = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
KINDS: list[tuple[Any, Kind]] = [
    (format_2(), "http"),
    (format_1(), "http"),
    (load_balancer(), "http"),
    ({"Records": [message("1", "{}")]}, "queue"),
    (S3_PUT, "upload"),
    ({"Event": "s3:TestEvent", "Bucket": "b"}, "upload"),
    (json.loads((FOLDER / "eventbridge-created.json").read_text()), "upload"),
    (json.loads((FOLDER / "oci-created-cloudevents-1-0.json").read_text()), "upload"),
    (unwrapped(by_sns(json.dumps(S3_PUT))), "upload"),
    (unwrapped(json.loads(in_envelope(in_envelope(json.dumps(S3_PUT))))), "upload"),
    ({"imagelink": "https://a/b.jpg"}, "question"),
    ({"name": "https://a/b.jpg", "top_k": 2}, "question"),
    ({}, "question"),
    ({"warmup": True}, "warm-up"),
    ({"source": "serverless-plugin-warmup"}, "warm-up"),
    (SCHEDULED, "warm-up"),
    ({"num_of_cycles": 3}, "benchmark"),
    ({"warmup": "yes"}, "unknown"),
    ({"key1": "value1", "key2": "value2"}, "unknown"),
    ([], "unknown"),
    ("text", "unknown"),
    (None, "unknown"),
    (7, "unknown"),
    ({"Records": "none"}, "upload"),
]


@pytest.mark.parametrize(("event", "kind"), KINDS, ids=[f"{place}-{row[1]}" for place, row in enumerate(KINDS)])
def test_an_event_is_known_by_its_senders_marks(event: Any, kind: Kind) -> None:
    """Whatever else is in it."""
    assert kind_of(event) == kind


@pytest.mark.parametrize(
    "event",
    [
        by_sns("no json"),
        by_sns("[" * 100_000),
        {"Records": [{"EventSource": "aws:sns", "Sns": None}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": "text"}]},
        {"Type": "Notification", "TopicArn": "x"},
        {"Records": []},
    ],
    ids=["no json", "deep", "no notification", "a text", "empty", "none"],
)
def test_an_envelope_that_can_not_be_opened_stays_closed(event: Any) -> None:
    """It is answered as it is, and nothing is raised."""
    assert unwrapped(event) == event


def _scripted(statuses: Mapping[str, int], seen: list[tuple[str, str]]) -> Callable[[Any, Call], Reply]:
    def answer(body: Any, call: Call) -> Reply:
        text = bytes(body).decode()
        seen.append((call.id, text))
        status = statuses.get(text, 200)
        error = {"error": {"code": status * 100, "message": f"{text} failed"}}
        return Reply([json.dumps({} if status == 200 else error).encode()], status)

    return answer


BATCHES: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    ("all good", [message("1", "a"), message("2", "b")], []),
    ("one delayed", [message("1", "a"), message("2", "late"), message("3", "b")], ["2"]),
    ("a poison one", [message("1", "poison"), message("2", "b")], ["1"]),
    ("all bad", [message("1", "late"), message("2", "poison")], ["1", "2"]),
    (
        "a FIFO queue",
        [message(str(place), body, MessageGroupId="g") for place, body in ((1, "a"), (2, "late"), (3, "b"))],
        ["2", "3"],
    ),
    ("no body", [{"messageId": "1", "eventSource": "aws:sqs"}], []),
    ("odd attributes", [{**message(str(place), "late"), "attributes": odd} for place, odd in ((1, None), (2, "x"))],
     ["1", "2"]),
]  # fmt: skip


@pytest.mark.parametrize(("records", "failed"), [row[1:] for row in BATCHES], ids=[row[0] for row in BATCHES])
def test_only_the_messages_that_failed_come_again(records: list[dict[str, Any]], failed: list[str]) -> None:
    """In a FIFO queue those behind one that failed as well, or they would overtake it."""
    answer = _scripted({"late": 502, "poison": 400}, [])
    assert answer_batch(records, answer, Call()) == {
        "batchItemFailures": [{"itemIdentifier": name} for name in failed]
    }


def test_each_message_has_its_own_name_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """And the reason, which the dead-letter queue does not keep."""
    seen: list[tuple[str, str]] = []
    answer_batch([message("id-1", "late", ApproximateReceiveCount="4")], _scripted({"late": 502}, seen), Call(id="x"))
    assert seen == [("id-1", "late")]
    assert "message id-1, delivery 4, comes again: 50200 late failed" in caplog.text


def test_messages_that_there_is_no_time_for_come_again_untouched() -> None:
    """Rather than be cut off in the middle of their work."""
    seen: list[tuple[str, str]] = []
    now = [0.0]

    def answer(body: Any, call: Call) -> Reply:
        now[0] += 7.0
        return _scripted({}, seen)(body, call)

    records = [message(str(place), str(place)) for place in range(4)]
    told = answer_batch(records, answer, Call(deadline_s=7.0 + LEAST_S), clock=lambda: now[0])
    assert [text for _, text in seen] == ["0", "1"]
    assert [one["itemIdentifier"] for one in told["batchItemFailures"]] == ["2", "3"]


def test_what_is_given_up_does_not_come_again() -> None:
    """What can't be helped at once, anything else at its last delivery; what can't be put away comes again."""
    told: list[tuple[str, str, bool]] = []

    def dead(record: Mapping[str, Any], why: str, final: bool) -> bool:
        told.append((record["messageId"], why, final))
        return final and record["messageId"] != "stuck"

    def answer(body: Any, call: Call) -> Reply:
        retryable = bytes(body) == b"late"
        error = {"error": {"code": 50212 if retryable else 40011, "message": "no", "retryable": retryable}}
        return Reply([json.dumps(error).encode()], 502 if retryable else 400)

    records = [message("poison", "no json"), message("late", "late"), message("stuck", "no json")]
    failed = answer_batch(records, answer, Call(), dead=dead)["batchItemFailures"]
    assert [one["itemIdentifier"] for one in failed] == ["late", "stuck"]
    assert told == [("poison", "40011 no", True), ("late", "50212 no", False), ("stuck", "40011 no", True)]


def test_a_fault_of_ours_is_tried_until_the_last_delivery() -> None:
    """Another try can't help what can't be read; a bug may be mended, or be one of this process alone."""
    finals: list[bool] = []

    def dead(record: Mapping[str, Any], why: str, final: bool) -> bool:
        finals.append(final)
        return False

    def answer(body: Any, call: Call) -> Reply:
        status = int(bytes(body))
        error = {"error": {"code": status * 100, "message": "no", "retryable": False}}
        return Reply([json.dumps(error).encode()], status)

    answer_batch([message("bug", "500"), message("rubbish", "400")], answer, Call(), dead=dead)
    assert finals == [False, True]


@pytest.fixture(scope="module")
def queue() -> Iterator[tuple[Emulator, str]]:
    """Return a local AWS and a queue's URL in it."""
    with ministack() as emulator:
        yield emulator, emulator.client("sqs").create_queue(QueueName="failed")["QueueUrl"]


LAST: list[tuple[str, dict[str, Any], bool, bool]] = [
    ("can't be helped", message("1", "no json"), True, True),
    ("the first of three", message("2", "late"), False, False),
    ("the last of three", message("3", "late", ApproximateReceiveCount="3"), False, True),
    ("one too many", message("4", "late", ApproximateReceiveCount="4"), False, True),
    ("without a body", message("5", ""), True, True),
    ("of a long reason", message("6", "ü" * 1000), True, True),
]


@pytest.mark.parametrize(("record", "final", "taken"), [row[1:] for row in LAST], ids=[row[0] for row in LAST])
def test_a_dead_letter_says_why(
    queue: tuple[Emulator, str], record: dict[str, Any], final: bool, taken: bool
) -> None:
    """Beside the message as it was, its name and how often it was tried."""
    emulator, url = queue
    why = "50212 it can't be had: " + "x" * 1000
    with closing(DeadLetters(url, deliveries=3, access=emulator.access())) as dead:
        assert dead.take(record, why, final=final) is taken
    found = emulator.client("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", [])
    assert len(found) == taken
    for one in found:
        told = {name: value["StringValue"] for name, value in one["MessageAttributes"].items()}
        tries = record["attributes"]["ApproximateReceiveCount"]
        assert told == {"Reason": why[:REASON_MAX], "Deliveries": tries, "MessageId": record["messageId"]}
        assert one["Body"] == (record["body"] or " ")
        emulator.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])


def test_a_dead_letter_that_is_refused_comes_again(
    queue: tuple[Emulator, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Then SQS moves it; the role may lack the right, or the queue be gone."""
    emulator, url = queue
    for name, access in (("gone", emulator.access()), ("failed", access_to("http://127.0.0.1:9"))):
        with closing(DeadLetters(url.replace("failed", name), deliveries=3, access=access)) as dead:
            assert not dead.take(message("1", "no json"), "40011 no", final=True)
    assert caplog.text.count("SQS will do that") == 2


def test_a_message_is_taken_out_of_its_envelope() -> None:
    """SNS between the bucket and the queue changes nothing; a broken envelope is left as it is."""
    seen: list[tuple[str, str]] = []
    broken = '{"Type": "Notification", "TopicArn"'
    answer_batch([message("1", in_envelope('{"Records": []}')), message("2", broken)], _scripted({}, seen), Call())
    assert [text for _, text in seen] == ['{"Records": []}', broken]


@pytest.fixture(scope="module")
def settings(model_store: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a Classy in one process, with records."""
    records = tmp_path_factory.mktemp("records") / "records.db"
    return Settings.from_env(
        {"CLASSY_MODEL_STORE": model_store, "CLASSY_MODEL_CACHE": "memory", "CLASSY_RECORDS": f"sqlite:///{records}"}
    )


@pytest.fixture(scope="module")
def front(settings: Settings) -> Iterator[Front]:
    """Return the handler of functions/classy, with every stage in this process."""
    classy = Classy(settings)
    yield Front(classy, settings, sample=lambda: SAMPLE)
    classy.close()


def _json(answer: Mapping[str, Any]) -> Any:
    body = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"]
    return json.loads(body)


PICTURES = [
    ("HTTP API", format_2("POST", "/", body=SAMPLE)),
    ("HTTP API, a stage in the path", format_2("POST", "/", body=SAMPLE, stage="dev")),
    ("as on Fn", format_2("POST", "/classify", body=SAMPLE)),
    ("REST API", format_1("POST", "/", body=SAMPLE)),
    ("load balancer", load_balancer("POST", "/", body=SAMPLE)),
    ("Flask", format_2("POST", "/api/classify", body=SAMPLE)),
    ("Flask by a REST API", format_1("POST", "/api/classify", body=SAMPLE)),
    ("Flask, a stage in the path", format_2("POST", "/api/classify", body=SAMPLE, stage="dev")),
    ("Flask by a load balancer", load_balancer("POST", "/api/classify", body=SAMPLE)),
]


@pytest.mark.parametrize("event", [row[1] for row in PICTURES], ids=[row[0] for row in PICTURES])
def test_a_picture_is_classified_by_every_gateway(front: Front, event: dict[str, Any]) -> None:
    """The front's own paths and the app's, from every sender of HTTP."""
    answer = front(event, Context())
    assert answer["statusCode"] == 200, answer
    assert _json(answer)["class_index"] == 967


def test_the_options_of_a_query_reach_the_front(front: Front) -> None:
    """By both formats; a load balancer's is still percent-encoded."""
    events = [
        format_2("POST", "/", query="top_k=2&language=en", body=SAMPLE),
        format_1("POST", "/", query={"top_k": "2", "language": "en"}, body=SAMPLE),
        load_balancer("POST", "/", query={"top_k": "%32", "language": "en"}, body=SAMPLE),
    ]
    for event in events:
        answer = _json(front(event, Context()))
        assert (len(answer["top_k"]), answer["Message"][:21]) == (2, "result_class=espresso")


BEYOND = "http://192.0.2.1/never.jpg"  # an address for documentation, which nobody may reach


@pytest.mark.parametrize(
    "event",
    [
        format_2("GET", "/", query=f"imagelink={BEYOND}"),
        format_2("GET", "/handler", query=f"imagelink={BEYOND}"),
        format_2("GET", "/dev/handler", query=f"imagelink={BEYOND}"),
        format_1("GET", "/handler", query={"imagelink": BEYOND}),
    ],
    ids=["front", "article", "article below a path", "article by a REST API"],
)
def test_a_link_that_can_not_be_opened_is_answered_with_its_error(front: Front, event: dict[str, Any]) -> None:
    """The status says so too."""
    answer = front(event, Context())
    assert (answer["statusCode"], _json(answer)["error"]["code"]) == (403, 40311)


def test_the_articles_handler_answers_as_in_the_article(front: Front) -> None:
    """One key, one line; in another language where it is asked for."""
    answer = front(format_2("POST", "/handler", body=SAMPLE), Context())
    assert _json(answer) == {"return": "espresso (score = 0.65994)"}
    answer = front(format_2("POST", "/handler", query="language=ja", body=SAMPLE), Context())
    assert _json(answer) == {"return": "エスプレッソ (score = 0.65994)"}


def test_a_direct_invoke_prints_the_likeliest_five(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    """`serverless invoke --function main --log`, without a question, asks about the sample picture."""
    assert front({}, Context()) == {"return": "espresso (score = 0.65994)"}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    assert printed[0] == "espresso (score = 0.65994)"


def test_a_direct_question_gets_the_whole_answer(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the article's line; a list gets a list."""
    image = text_of(SAMPLE)
    answer = front({"image": image, "top_k": 2}, Context())
    assert (answer["return"], answer["class_index"], len(answer["top_k"])) == ("espresso (score = 0.65994)", 967, 2)
    answer = front({"images": [{"image": image}, {"image": "AAAA"}], "language": "zh"}, Context())
    assert [entry.get("class_index") for entry in answer["results"]] == [967, None]
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "意式浓缩咖啡 (score = 0.65994)"
    assert "this is no picture" in printed[-1]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"key1": "value1"}, "an event of the keys ['key1']; taken are HTTP events, SQS"),
        (["a"], "an event of list"),
        (None, "an event of NoneType"),
        ({"imagelink": 7}, '"imagelink" must be a URL'),
        ({"imagelink": "https://a/b", "colour": "red"}, "unknown key 'colour'"),
        ({"num_of_cycles": 0}, "must be a whole number from 1 to 1000"),
        ({"num_of_cycles": True}, "must be a whole number from 1 to 1000"),
    ],
    ids=["Lambda's own sample", "a list", "null", "a number", "an unknown key", "no cycles", "true"],
)
def test_what_is_not_understood_gets_a_clear_answer(front: Front, event: Any, words: str) -> None:
    """And is not raised: Lambda would call again, and again."""
    assert words in front(event, Context())["error"]["message"]


ODD: list[Any] = [None, 7, True, "text", "", "\ud800", [], {}, [None], {"x": 1}]


def _spoilt(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each of its parts in turn missing, or another thing."""
    if not isinstance(value, dict | list):
        return
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        for other in (*ODD, *_spoilt(part)):
            copied = value.copy()
            copied[key] = other
            yield copied
        copied = value.copy()
        del copied[key]
        yield copied


SEEDS: dict[str, Any] = {
    "HTTP API": format_2("GET", "/handler", query="imagelink=x", cookies=["a=1"]),
    "HTTP API, a body": format_2("POST", "/", body=b"no picture"),
    "REST API": format_1("POST", "/handler", query={"imagelink": "x"}, body=b"no picture"),
    "load balancer": load_balancer("POST", "/classify", query={"top_k": "2"}, body=b"no picture"),
    "queue": {"Records": [message("1", json.dumps({"Event": "s3:TestEvent"})), message("2", "no json")]},
    "notification": by_sns(json.dumps(S3_PUT)),
    "uploads": S3_PUT,
    "EventBridge": json.loads((FOLDER / "eventbridge-deleted.json").read_text()),
    "Oracle": json.loads((FOLDER / "oci-created-cloudevents-1-0.json").read_text()),
    "question": {"images": [{"image": "AAAA"}], "language": "en"},
    "warm-up": SCHEDULED,
}  # fmt: skip


@pytest.mark.parametrize("seed", list(SEEDS))
def test_no_event_however_spoilt_ends_the_process(tmp_path: Path, seed: str) -> None:
    """Each gets an answer that is JSON; only uploads are raised, by the one name that says they come again."""
    settings = Settings.from_env(
        {"CLASSY_MODEL_STORE": tmp_path.as_uri(), "CLASSY_MODEL_CACHE": "memory", "CLASSY_BUCKETS": "none"}
    )
    with closing(Classy(settings)) as classy:
        front = Front(classy, settings, sample=lambda: SAMPLE)
        for event in (SEEDS[seed], *_spoilt(SEEDS[seed])):
            try:
                answer = front(event, Context())
            except UploadFailed:
                assert kind_of(unwrapped(event)) == "upload"
            else:
                assert isinstance(answer, dict)
                json.dumps(answer).encode()


def test_a_batch_of_the_queue_fails_one_by_one(front: Front) -> None:
    """Rubbish and an object that can't be had now come again; test events and deletions are done."""
    deleted = (FOLDER / "s3-deleted.json").read_text(encoding="utf-8")
    records = [
        message("deleted", deleted),
        message("rubbish", "no json"),
        message("test", '{"Event": "s3:TestEvent"}'),
        message("unreachable", json.dumps(S3_PUT)),
        message("by EventBridge", (FOLDER / "eventbridge-deleted.json").read_text(encoding="utf-8")),
    ]
    told = front({"Records": records}, Context())
    assert [one["itemIdentifier"] for one in told["batchItemFailures"]] == ["rubbish", "unreachable"]


@pytest.mark.parametrize(
    "name", ["s3-deleted", "eventbridge-deleted", "eventbridge-of-another-service", "oci-deleted"]
)
def test_an_event_without_a_new_object_is_done(front: Front, name: str) -> None:
    """It says why nothing was done."""
    answer = front(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), Context())
    assert (answer["results"], answer["ignored"]) == ([], GOOD[name][1])


def test_an_upload_that_fails_is_raised_so_that_lambda_tries_again(front: Front) -> None:
    """The bucket is none of ours, so it is refused by now; the text is what the dead-letter queue will keep."""
    with pytest.raises(UploadFailed, match=r"^50212 s3://classy-inbox/photos/dog\.jpg can't be dealt with now: "):
        front(S3_PUT, Context())
    with pytest.raises(UploadFailed, match=r"^40011 an event record can't be read"):
        front({"Records": [{"eventName": "ObjectCreated:Put"}]}, Context())


def test_a_warm_up_loads_the_model_and_classifies_nothing(front: Front, settings: Settings) -> None:
    """A warm one takes milliseconds, and there is no record of it."""
    front({"warmup": True}, Context())
    began_s = time.perf_counter()
    told = front(SCHEDULED, Context())
    took_s = time.perf_counter() - began_s
    assert told["function"] == "classy"
    assert told["cold"] is False
    assert took_s < 0.1
    assert "cycles" not in told


def test_the_benchmark_measures_in_the_function(front: Front) -> None:
    """What is asked for, in order of size, in milliseconds; the article's companion reports seconds."""
    told = front({"num_of_cycles": 4}, Context())
    assert told["cycles"] == 4
    assert 0 < told["min_ms"] <= told["p50_ms"] <= told["p90_ms"] <= told["p99_ms"] <= told["max_ms"]
    assert told["Mean inference"] == pytest.approx(told["mean_ms"] / 1000, abs=1e-5)


def test_the_benchmark_ends_before_the_function_does() -> None:
    """It says how many cycles there were."""
    ends_s = time.monotonic() + 0.05
    assert 1 <= measured(lambda: time.sleep(0.02), 1000, deadline_s=ends_s)["cycles"] <= 5
    assert measured(lambda: None, 1000, deadline_s=time.monotonic() - 1)["cycles"] == 1


def test_a_process_knows_its_age() -> None:
    """In milliseconds, from the kernel's own clock."""
    first = process_age_ms()
    assert first is not None
    assert 0 < first < 86_400_000


def test_a_stage_answers_warm_ups_benchmarks_and_graphpipe(settings: Settings) -> None:
    """Whatever else it is sent gets the adapter's answer, and nothing is raised."""
    model = vgg(settings)
    handler = stage_handler(model, name="vgg", prepare=model.metadata, sample=lambda: noise(model))
    first = handler({"warmup": True}, Context())
    assert (first["function"], first["cold"]) == ("vgg", True)
    told = handler({"num_of_cycles": 2}, Context())
    assert (told["cold"], told["cycles"]) == (False, 2)
    assert handler({"num_of_cycles": -1}, Context())["error"]["code"] == 40011
    assert _json(handler(format_2(), Context()))["Inputs"][0]["Shape"] == [-1, 3, 224, 224]
    assert handler({"key1": "value1"}, Context())["statusCode"] == 400


def test_a_stage_whose_model_is_missing_says_so_when_it_is_warmed(tmp_path: Path) -> None:
    """Instead of failing, which a schedule would repeat."""
    model = vgg(Settings.from_env({"CLASSY_MODEL_STORE": tmp_path.as_uri()}))
    told = stage_handler(model, name="vgg", prepare=model.metadata)({"warmup": True}, Context())
    assert told["error"]["code"] == 50311


@pytest.mark.parametrize(
    ("event", "left_s", "most_s"),
    [
        (format_2("POST", "/echo"), 60.0, GATEWAY_S),
        (format_2("POST", "/echo"), 5.0, 5.0),
        (format_1("POST", "/echo"), 60.0, GATEWAY_S),
        (load_balancer("POST", "/echo"), 60.0, 60.0),
    ],
    ids=["an HTTP API", "an HTTP API, late", "a REST API", "a load balancer"],
)
def test_a_gateways_deadline_counts_where_it_is_the_earlier_one(
    front: Front, event: dict[str, Any], left_s: float, most_s: float
) -> None:
    """API Gateway stops waiting after 29 s, whatever the function's own timeout."""
    from classy.aws.front import _hurried
    from graphpipe_fn.adapters.aws_lambda import call_at

    call = _hurried(event, call_at(Context(left_s=left_s)))
    assert call.deadline_s is not None
    assert most_s - 1.0 < call.deadline_s - time.monotonic() <= most_s


def _app() -> Flask:
    app = Flask("echo")

    @app.route("/echo", methods=["GET", "POST"])
    def echo() -> Response:
        answer = Response(request.get_data(), content_type="application/octet-stream")
        answer.set_cookie("one", "1")
        answer.set_cookie("two", "2")
        answer.headers["X-Cookies"] = "&".join(f"{name}={value}" for name, value in sorted(request.cookies.items()))
        answer.headers["X-Root"] = request.script_root
        answer.headers["X-Call"] = request.headers["X-Request-Id"]
        answer.headers["X-Deadline"] = request.headers.get("Fn-Deadline", "")
        return answer

    @app.route("/large")
    def large() -> Response:
        return Response(bytes(int(request.args["bytes"])), content_type="application/octet-stream")

    return app


def _echoed(event: dict[str, Any], call: Call = Call(id="call-1")) -> dict[str, Any]:
    found = http_request(event)
    assert found is not None
    return Web(_app).answer(event, found, call, Context())


ROADS: list[tuple[str, dict[str, Any], str]] = [
    ("HTTP API", format_2("POST", "/echo", body=BYTES, cookies=["a=1", "b=2"]), ""),
    ("HTTP API, a stage", format_2("POST", "/echo", body=BYTES, stage="dev", cookies=["a=1", "b=2"]), "/dev"),
    (
        "function URL, cookies in the header",
        format_2("POST", "/echo", body=BYTES, headers={"host": "x.us-east-1.on.aws", "cookie": "a=1; b=2"}),
        "",
    ),
    ("REST API", format_1("POST", "/echo", body=BYTES), "/dev"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "root"), [row[1:] for row in ROADS], ids=[row[0] for row in ROADS])
def test_bytes_and_cookies_pass_flask_unharmed(event: dict[str, Any], root: str) -> None:
    """In both directions; the app's own root is the stage where that is part of the URL, and never "/$default"."""
    answer = _echoed(event)
    assert (answer["statusCode"], base64.b64decode(answer["body"])) == (200, BYTES)
    several = answer.get("multiValueHeaders")
    headers = {name: values[0] for name, values in several.items()} if several else answer["headers"]
    assert (headers["X-Cookies"], headers["X-Root"], headers["X-Call"]) == ("a=1&b=2", root, "call-1")
    cookies = several["Set-Cookie"] if several else answer["cookies"]
    assert sorted(cookie.partition(";")[0] for cookie in cookies) == ["one=1", "two=2"]
    assert several or not any(name.lower() == "set-cookie" for name in headers)


def test_flask_is_told_the_call_and_its_deadline() -> None:
    """Instead of what a caller may have written into those headers."""
    event = format_2(
        "POST", "/echo", body=b"", headers={"X-Request-Id": "evil", "fn-deadline": "2030-01-01T00:00:00Z"}
    )
    headers = _echoed(event, Call(id="call-2", deadline_s=time.monotonic() + 5))["headers"]
    assert headers["X-Call"] == "call-2"
    assert headers["X-Deadline"][:4] != "2030"


def test_an_answer_that_lambda_would_not_send_becomes_an_error() -> None:
    """Which says the limit: base64 makes 6 MB of 4.5."""
    fits, over = (ANSWER_MAX * 3 // 4 - 3_000), ANSWER_MAX * 3 // 4
    assert _echoed(format_2("GET", "/large", query=f"bytes={fits}"))["statusCode"] == 200
    refused = _echoed(format_2("GET", "/large", query=f"bytes={over}"))
    assert (refused["statusCode"], _json(refused)["error"]["code"]) == (413, 41300)
    assert len(json.dumps(refused)) < 1_000


def test_a_body_that_a_gateway_made_text_of_is_refused_with_the_remedy(front: Front) -> None:
    """A REST API without binaryMediaTypes spoils pictures before they come here."""
    event = {**format_1("POST", "/"), "body": SAMPLE.decode("utf-8", "replace"), "isBase64Encoded": False}
    answer = front(event, Context())
    assert answer["statusCode"] == 400
    assert "binaryMediaTypes" in answer["body"]


def test_a_bug_in_the_app_answers_json_without_its_text(front: Front, settings: Settings) -> None:
    """The call's id, by which the log has the rest."""
    broken = Front(Classy(settings), replace(settings), sample=lambda: b"")
    broken._web = Web(lambda: (_ for _ in ()).throw(RuntimeError("secret")))
    answer = broken(format_2("GET", "/api/health"), Context())
    assert answer["statusCode"] == 500
    assert _json(answer)["call_id"] == Context().aws_request_id
    assert "secret" not in answer["body"]


def test_the_control_paths_answer(front: Front) -> None:
    """As on every other platform."""
    assert front(format_2("GET", "/control/is_ready"), Context())["body"] == "ok\n"


def test_a_class_without_a_name_in_the_language_has_another() -> None:
    """A model of one's own may have labels in one language, or none."""
    answer = {
        "top_k": [
            {"class_index": 3, "label": {"en": "three"}, "probability": 0.5},
            {"class_index": 4, "probability": 0.25},
        ]
    }
    assert article.lines(answer, "ja") == ["three (score = 0.50000)", "4 (score = 0.25000)"]
    assert article.returned({"error": {"code": 1}}, "ja") == {"error": {"code": 1}}
    assert Options(5, "en").language == "en"
