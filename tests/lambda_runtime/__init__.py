"""AWS Lambda on this machine, for tests: the real awslambdaric behind a Runtime API, and MiniStack's whole Lambda."""
