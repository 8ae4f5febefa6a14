"""serverless.yml and what it includes, read without Node: its variables, and CloudFormation's short forms."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parent.parent
ACCOUNT, REGION = "111122223333", "eu-central-1"
_VARIABLE = re.compile(r"\$\{((?:self|sls|param|opt|env|file)[^${}]*)\}")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags: !Sub x is {"Fn::Sub": x}."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


class Service:
    """
    A deployment's configuration.

    Args:
        stage: Its name; "prod" has parameters of its own.
        params: As --param gives them.
    """

    def __init__(self, stage: str = "dev", **params: Any) -> None:
        self.stage = stage
        self._plain = _loaded("serverless.yml")
        stages = self._plain["params"]
        self.params: dict[str, Any] = {**stages["default"], **stages.get(stage, {}), **params}
        self.config = self._resolved(self._plain)
        self.resources: dict[str, Any] = {}
        self.conditions: dict[str, Any] = {}
        for part in self.config["resources"]:
            self.resources |= part.get("Resources", {})
            self.conditions |= part.get("Conditions", {})

    @property
    def functions(self) -> dict[str, Any]:
        """Return the functions by their names in the file."""
        functions: dict[str, Any] = self.config["functions"]
        return functions

    def environ(self, function: str) -> dict[str, str]:
        """Return a function's environment, CloudFormation's references resolved too."""
        merged = {**self.config["provider"]["environment"], **self.functions[function].get("environment", {})}
        return {name: str(self.plain(value)) for name, value in merged.items()}

    def plain(self, value: Any) -> Any:
        """Return what CloudFormation makes of a value: names instead of references."""
        if isinstance(value, list):
            return [self.plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::Sub"}:
            return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", lambda match: self._reference(match[1]), value["Fn::Sub"])
        if set(value) == {"Fn::GetAtt"}:
            return self._reference(value["Fn::GetAtt"])
        if set(value) == {"Ref"}:
            return self._reference(value["Ref"])
        return {name: self.plain(one) for name, one in value.items()}

    def _reference(self, name: str) -> str:
        known = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws"}
        if name in known:
            return known[name]
        resource, _, attribute = name.partition(".")
        properties, kind = self.resources[resource]["Properties"], self.resources[resource]["Type"]
        field = {"AWS::S3::Bucket": "BucketName", "AWS::SQS::Queue": "QueueName", "AWS::DynamoDB::Table": "TableName"}
        found = str(self.plain(properties[field[kind]]))
        if not attribute:
            queue = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{found}"
            return queue if kind == "AWS::SQS::Queue" else found
        assert attribute == "Arn"
        return {
            "AWS::S3::Bucket": f"arn:aws:s3:::{found}",
            "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{found}",
            "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{found}",
        }[kind]

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._resolved(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._resolved(one) for one in value]
        if not isinstance(value, str):
            return value
        while (match := _VARIABLE.search(value)) is not None:
            found = self._variable(match[1])
            if match[0] == value:
                return self._resolved(found)
            text = str(found).lower() if isinstance(found, bool) else str(found)
            value = f"{value[: match.start()]}{text}{value[match.end() :]}"
        return value

    def _variable(self, text: str) -> Any:
        first, *rest = (part.strip() for part in text.split(","))
        source, _, address = first.partition(":")
        if source == "self":
            return _at(self._plain, address)
        if source == "sls":
            return self.stage
        if source == "param" and address in self.params:
            return self.params[address]
        included = re.fullmatch(r"file\(([^)]+)\)(?::(\w+))?", first)
        if included is not None and (CHECKOUT / included[1]).exists() and not included[1].startswith("build/"):
            return _at(_loaded(included[1]), included[2] or "")
        fallback = rest[-1]
        return None if fallback == "null" else fallback.strip("'")


@cache
def _loaded(name: str) -> Any:
    return yaml.load((CHECKOUT / name).read_text(encoding="utf-8"), _Loader)


def _at(value: Any, address: str) -> Any:
    for part in filter(None, address.split(".")):
        value = value[part]
    return value
