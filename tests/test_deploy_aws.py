"""serverless.yml and what it includes, held to the code that it deploys."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, get_args

import pytest
from serverless_files import ACCOUNT, CHECKOUT, REGION, Service

from bundling.packages import ARCHITECTURES, LAMBDA, RUNTIMES
from classy.records.dynamodb_table import ACTIONS, TABLE_DEFINITION
from classy.settings import Settings, Topology
from graphpipe_fn.adapters.aws_lambda import MARGIN_S

DEV = Service()
FUNCTIONS = list(DEV.functions)
STAGES = ("downloader", "preprocessor", "vgg")
TOPOLOGIES = [topology for topology in get_args(Topology) if topology != "in-process"]
OTHERS = {"ORT_DISABLE_TELEMETRY"}
HEAP = {"MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}  # of those that load a model
DOC = CHECKOUT / "docs" / "deploy-aws.md"


def _name(function: str, stage: str = "dev") -> str:
    return f"classy-{stage}-{function}"


def _arn(function: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{_name(function)}"


def _statements(role: str, service: Service = DEV) -> list[dict[str, Any]]:
    """Return what a role may do, with lists everywhere."""
    found = []
    policies = list(service.resources[role]["Properties"]["Policies"])
    for resource in service.resources.values():
        if resource["Type"] == "AWS::IAM::Policy" and {"Ref": role} in resource["Properties"]["Roles"]:
            truth = {"HandsOn": service.params["topology"] != "caller-led"}
            truth["Continues"] = service.params["topology"] == "continued"
            if truth[resource["Condition"]]:
                policies.append(resource["Properties"])
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            listed = {key: value if isinstance(value, list) else [value] for key, value in statement.items()}
            found.append({**listed, "Resource": service.plain(listed["Resource"])})
    return found


def _allowed(role: str, action: str, service: Service = DEV) -> set[str]:
    return {
        resource
        for statement in _statements(role, service)
        if action in statement["Action"]
        for resource in statement["Resource"]
    }


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_a_functions_environment_is_one_that_its_settings_take(stage: str, function: str, topology: str) -> None:
    """Every name is a known setting, and every value one that it takes."""
    environ = Service(stage, topology=topology).environ(function)
    settings = Settings.from_env(environ)
    known = {item.metadata["name"] for item in Settings.__dataclass_fields__.values()}
    assert set(environ) - known == OTHERS | (HEAP if function in ("main", "vgg") else set())
    assert settings.model_store == f"s3://classy-{stage}-models-{ACCOUNT}-{REGION}"
    assert settings.topology == ("in-process" if function == "main" else topology)
    if function == "classy":
        settings.require("downloader", "preprocessor", "vgg", "handover", "front")
        assert settings.vgg == f"lambda:{_name('vgg', stage)}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_deployed_from_its_package(function: str) -> None:
    """Which holds the module that its handler names."""
    config = DEV.functions[function]
    folder, _, file = config["package"]["artifact"].rpartition("/")
    package = LAMBDA[file.removesuffix(".zip")]
    assert folder == "build/packages/python3.12-x86_64"
    assert package.name == ("fused" if function == "main" else function)
    module, _, attribute = config["handler"].partition(".")
    source = (CHECKOUT / package.files[0]).read_text(encoding="utf-8")
    assert package.files[0].endswith(f"/{module}.py")
    assert re.search(rf"^(?:{attribute} = |def {attribute}\()", source, re.MULTILINE)


def test_the_article_finds_its_function() -> None:
    """`serverless invoke --function main`, and GET /handler."""
    assert {"httpApi": "GET /handler"} in DEV.functions["main"]["events"]
    assert {"httpApi": "*"} in DEV.functions["classy"]["events"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_is_one_functions_and_names_what_it_may_touch(function: str) -> None:
    """No action and no resource is everything; the log is its own."""
    role = DEV.functions[function]["role"]
    assert [name for name, config in DEV.functions.items() if config["role"] == role] == [function]
    for service in (DEV, Service(topology="continued")):
        for statement in _statements(role, service):
            assert all(re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action) for action in statement["Action"])
            assert all("classy-dev" in resource for resource in statement["Resource"])
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{_name(function)}:*"
    assert _allowed(role, "logs:PutLogEvents") == {logs}


CALLS: list[tuple[str, str, set[str]]] = [
    ("caller-led", "classy", {*STAGES}),
    ("caller-led", "downloader", set()),
    ("caller-led", "preprocessor", set()),
    ("caller-led", "vgg", set()),
    ("caller-led", "main", set()),
    ("server-led", "downloader", {"preprocessor"}),
    ("server-led", "preprocessor", {"vgg"}),
    ("server-led", "vgg", set()),
    ("continued", "downloader", {"preprocessor", "classy"}),
    ("continued", "preprocessor", {"vgg", "classy"}),
    ("continued", "vgg", {"classy"}),
    ("continued", "main", set()),
]


@pytest.mark.parametrize(("topology", "function", "called"), CALLS, ids=[f"{one} {two}" for one, two, _ in CALLS])
def test_a_function_may_call_those_that_its_topology_has_it_call(
    topology: str, function: str, called: set[str]
) -> None:
    """And a stage nobody, where the front calls all of them."""
    service = Service(topology=topology)
    role = service.functions[function]["role"]
    snapshots = {f"{_arn('vgg')}:snapstart"} if "vgg" in called else set()
    assert _allowed(role, "lambda:InvokeFunction", service) == {_arn(name) for name in called} | snapshots
    settings = Settings.from_env(service.environ(function))
    if function in STAGES and topology != "caller-led":
        assert {f"lambda:{_name(name)}" for name in called} <= settings.allowed_hops
        follows = dict(itertools.pairwise(STAGES)).get(function)
        expected = f"lambda:{_name(follows)}" if follows and topology == "server-led" else ""
        assert settings.next_hop == expected


BUCKETS: list[tuple[str, str, set[str]]] = [
    ("classy", "s3:GetObject", {"models/*", "results/results/*", "pictures/*"}),
    ("classy", "s3:PutObject", {"results/results/*", "pictures/*", "results/handover/*"}),
    ("main", "s3:GetObject", {"models/*", "results/results/*", "pictures/*", "uploads/*"}),
    ("downloader", "s3:GetObject", {"uploads/*", "results/handover/*"}),
    ("main", "s3:GetObjectVersion", {"uploads/*"}),
    ("downloader", "s3:GetObjectVersion", {"uploads/*"}),
    ("downloader", "s3:PutObject", {"results/handover/*"}),
    ("preprocessor", "s3:GetObject", {"models/*", "results/handover/*"}),
    ("vgg", "s3:GetObject", {"models/*", "results/handover/*"}),
    ("vgg", "s3:PutObject", {"results/handover/*"}),
]


@pytest.mark.parametrize(("function", "action", "places"), BUCKETS, ids=[f"{one} {two}" for one, two, _ in BUCKETS])
def test_a_function_may_use_the_buckets_that_its_settings_name(function: str, action: str, places: set[str]) -> None:
    """And no other; nobody may write where uploads come, for that would be an upload."""
    found = _allowed(DEV.functions[function]["role"], action)
    if function == "classy" and action == "s3:GetObject":
        places = places | {"results/handover/*"}
    assert found == {
        f"arn:aws:s3:::classy-dev-{place.partition('/')[0]}-{ACCOUNT}-{REGION}/{place.partition('/')[2]}"
        for place in places
    }


def test_the_records_table_is_the_stores() -> None:
    """Word for word, and the roles may do what the store does and no more."""
    properties = {**DEV.resources["RecordsTable"]["Properties"]}
    assert properties.pop("TableName") == Settings.from_env(DEV.environ("classy")).records.removeprefix("dynamodb:")
    assert properties.pop("PointInTimeRecoverySpecification") == {"PointInTimeRecoveryEnabled": True}
    assert properties == TABLE_DEFINITION
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/classy-dev-records"
    for function in FUNCTIONS:
        found = [one for one in _statements(DEV.functions[function]["role"]) if "dynamodb" in one["Action"][0]]
        if function in ("classy", "main"):
            assert [set(one["Action"]) for one in found] == [{f"dynamodb:{action}" for action in ACTIONS}]
            assert found[0]["Resource"] == [table, f"{table}/index/*"]
        else:
            assert found == []


def test_messages_that_are_handed_over_are_forgotten_after_a_day() -> None:
    """By the lifecycle rule of the very place that the functions use; results stay."""
    place = Settings.from_env(DEV.environ("vgg")).handover
    rules = DEV.resources["ResultsBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if "ExpirationInDays" in rule]
    assert place == f"s3://{DEV.plain({'Ref': 'ResultsBucket'})}/{rule['Prefix'].rstrip('/')}"
    assert (rule["ExpirationInDays"], rule["Status"]) == (1, "Enabled")


@pytest.mark.parametrize("bucket", ["ModelsBucket", "UploadsBucket", "ResultsBucket", "PicturesBucket"])
def test_a_bucket_is_private_encrypted_and_tidy(bucket: str) -> None:
    """All four blocks, and unfinished uploads are given up."""
    properties = DEV.resources[bucket]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert "BucketEncryption" in properties
    rules = properties["LifecycleConfiguration"]["Rules"]
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_the_queue_waits_longer_than_the_function_works() -> None:
    """Six times its timeout, as AWS advises; what fails five times is kept for two weeks."""
    queue, dead = (DEV.resources[name]["Properties"] for name in ("UploadsQueue", "FailedUploads"))
    (sqs,) = [event["sqs"] for event in DEV.functions["classy"]["events"] if "sqs" in event]
    assert queue["VisibilityTimeout"] >= 6 * DEV.functions["classy"]["timeout"]
    assert sqs["functionResponseType"] == "ReportBatchItemFailures"
    settings = Settings.from_env(DEV.environ("classy"))
    assert settings.dead_letters.endswith("/classy-dev-failed-uploads")
    assert settings.deliveries == queue["RedrivePolicy"]["maxReceiveCount"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": "FailedUploads.Arn"},
        "maxReceiveCount": 5,
    }
    assert dead["MessageRetentionPeriod"] == 14 * 86_400 > queue["MessageRetentionPeriod"]
    assert _allowed("ClassyRole", "sqs:DeleteMessage") == {DEV.plain({"Fn::GetAtt": "UploadsQueue.Arn"})}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_a_function_can_not_get_done_is_kept_with_its_reason(function: str) -> None:
    """In the queue for failed calls, into which its role may write."""
    target = DEV.functions[function]["destinations"]["onFailure"]
    assert target == {"type": "sqs", "arn": {"Fn::GetAtt": "FailedCalls.Arn"}}
    uploads = {DEV.plain({"Fn::GetAtt": "FailedUploads.Arn"})} if function == "classy" else set()
    assert _allowed(DEV.functions[function]["role"], "sqs:SendMessage") == {DEV.plain(target["arn"])} | uploads


@pytest.mark.parametrize("uploads", ["s3", "eventbridge"])
def test_one_road_leads_from_the_bucket_to_the_queue(uploads: str) -> None:
    """S3's own notification or EventBridge's rule; both would double every upload."""
    service = Service(uploads=uploads)
    told = service.resources["UploadsBucket"]["Properties"]["NotificationConfiguration"]
    assert ("QueueConfigurations" in told) == (uploads == "s3")
    rule = service.resources["UploadsRule"]["Properties"]
    assert rule["State"] == ("DISABLED" if uploads == "s3" else "ENABLED")
    assert service.plain(rule["EventPattern"]["detail"]["bucket"]["name"]) == [
        service.plain({"Ref": "UploadsBucket"})
    ]


def test_a_stage_ends_before_its_caller_gives_up() -> None:
    """The front's hop timeout is under each stage's that it waits for, and under what API Gateway waits."""
    hop_s = Settings.from_env(DEV.environ("classy")).hop_timeout_s
    assert hop_s <= min(DEV.functions[stage]["timeout"] for stage in STAGES)
    assert hop_s + MARGIN_S < DEV.functions["classy"]["timeout"]


def test_every_function_is_sized_by_what_it_does() -> None:
    """Waiting is done by the small ones; the model has one whole vCPU, which is 1,769 MB."""
    sizes = {name: config["memorySize"] for name, config in DEV.functions.items()}
    assert sizes == {"classy": 256, "main": 1769, "downloader": 256, "preprocessor": 1024, "vgg": 1769}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_prod_reserves_and_dev_does_not(function: str) -> None:
    """A new account has ten executions in all, of which none can be reserved."""
    assert DEV.functions[function]["reservedConcurrency"] is None
    assert Service("prod").functions[function]["reservedConcurrency"] == 50


@pytest.mark.parametrize("resource", ["UploadsBucket", "ResultsBucket", "PicturesBucket", "RecordsTable"])
def test_prod_keeps_its_data_when_it_is_removed(resource: str) -> None:
    """In dev everything goes."""
    assert DEV.resources[resource]["DeletionPolicy"] == "Delete"
    assert Service("prod").resources[resource]["DeletionPolicy"] == "Retain"


def test_logs_are_kept_for_two_weeks_and_everything_is_tagged() -> None:
    """By the provider's settings, for every function and resource."""
    provider = DEV.config["provider"]
    assert provider["logRetentionInDays"] == 14
    assert provider["tags"] == provider["stackTags"] == {"application": "classy", "stage": "dev"}


def test_what_was_packaged_last_is_deployed() -> None:
    """Any of Lambda's runtimes and machines, by the names that it has for them."""
    assert DEV.config["provider"]["runtime"].removeprefix("python") in RUNTIMES
    assert DEV.config["provider"]["architecture"] in ARCHITECTURES
    other = Service(python="3.13", arch="arm64")
    assert other.config["provider"]["architecture"] == "arm64"
    assert other.functions["vgg"]["package"]["artifact"] == "build/packages/python3.13-arm64/vgg.zip"


def test_every_topology_of_the_settings_can_be_deployed() -> None:
    """All but the one process, which `main` is."""
    assert sorted(DEV.config["custom"]["next"]) == sorted(TOPOLOGIES)


def test_snapshots_are_of_the_version_that_is_called() -> None:
    """Lambda makes none of $LATEST, so the model is called by the alias of its newest version."""
    service = Service(snapStart=True)
    assert {name for name, config in service.functions.items() if config.get("snapStart")} == {"main", "vgg"}
    assert Settings.from_env(service.environ("classy")).vgg == f"lambda:{_name('vgg')}:snapstart"
    assert Settings.from_env(service.environ("preprocessor")).allowed_hops >= {f"lambda:{_name('vgg')}:snapstart"}
    assert not any(config.get("snapStart") for config in DEV.functions.values())


@pytest.mark.parametrize(("who", "url"), [("aws_iam", {"authorizer": "aws_iam"}), ("public", True)])
def test_functions_have_signed_urls_unless_main_is_made_public(who: str, url: object) -> None:
    """The stages' URLs take AWS's signatures only, whatever main's does."""
    functions = Service(mainUrl=who).functions
    assert functions["main"]["url"] == url
    assert all(functions[stage]["url"] == {"authorizer": "aws_iam"} for stage in STAGES)
    assert "url" not in functions["classy"]


def test_no_plugin_is_needed_and_the_tool_is_pinned() -> None:
    """One dependency, and a lock file with the hash of everything that it brings."""
    assert "plugins" not in DEV.config
    package = json.loads((CHECKOUT / "package.json").read_text(encoding="utf-8"))
    assert package["devDependencies"] == {"osls": "4.3.1"}
    lock = json.loads((CHECKOUT / "package-lock.json").read_text(encoding="utf-8"))
    parts = {name: part for name, part in lock["packages"].items() if name}
    assert parts["node_modules/osls"]["version"] == "4.3.1"
    assert [name for name, part in parts.items() if not part["integrity"].startswith("sha512-")] == []


def test_the_guide_names_every_parameter() -> None:
    """docs/deploy-aws.md has a row for each."""
    section = DOC.read_text(encoding="utf-8").partition("## Parameters")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert rows == {*DEV.params, *Service("prod").params}
