"""
What the functions are called with on AWS Lambda: HTTP, queues of uploads, events, direct invokes, warm-ups.

Everything of Lambda's that is more than GraphPipe is known here and in graphpipe_fn.adapters.aws_lambda, and nowhere
else. Nothing of AWS's is imported.
"""
