"""
One line of JSON for each call.

Source: AWS, "Specification: Embedded metric format": a log line in which CloudWatch finds its metrics.
"""

from __future__ import annotations

import json
import time
from typing import Any

from classy.telemetry import Watched

NAMESPACE = "Classy"


def log_line(watched: Watched) -> str:
    """Return the line, with its time in UTC."""
    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return _json({"at": at, **watched.as_json()})


def emf_line(watched: Watched) -> str:
    """Return the line with CloudWatch's metrics: calls, errors, cold starts, pictures, refusals, milliseconds."""
    values = {
        "Calls": 1,
        "Errors": int(watched.code >= 50_000),
        "ColdStarts": int(watched.cold),
        "Pictures": watched.pictures,
        "Refused": watched.refused,
        "Duration": round(watched.seconds * 1000, 3),
    }
    metrics = [{"Name": name, "Unit": "Milliseconds" if name == "Duration" else "Count"} for name in values]
    about = {
        "Timestamp": int(time.time() * 1000),
        "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics}],
    }
    return _json({"_aws": about, **watched.as_json(), **values})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
