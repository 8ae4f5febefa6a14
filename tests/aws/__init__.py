"""A whole local AWS for the real serverless.yml: no account and no Docker, but AWS's own runtime client."""
