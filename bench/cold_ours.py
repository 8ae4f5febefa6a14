"""A cold start of the deployed function: its own module, its own handler, one invocation."""

import json
import sys
from types import SimpleNamespace

sys.path.insert(0, "functions/vgg")

import lambda_function

with open(sys.argv[1]) as file:
    event = json.load(file)
answer = lambda_function.handler(
    event, SimpleNamespace(aws_request_id="cold", get_remaining_time_in_millis=lambda: 60_000)
)
with open(sys.argv[2], "w") as file:
    json.dump(answer, file)
