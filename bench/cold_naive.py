"""A cold start as it is usually written: boto3, a file on the disk, a session from its path, Flask and Pillow too."""

import sys

import boto3
import flask  # noqa: F401 - the handler's module imports what any of its routes needs
import numpy as np
import onnxruntime
import serverless_wsgi  # noqa: F401
from PIL import Image  # noqa: F401

endpoint, key, path, tensor, result = sys.argv[1:]
s3 = boto3.client(
    "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
)
s3.download_file("models", key, path)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
np.save(result, session.run(None, {session.get_inputs()[0].name: np.load(tensor)})[0])
