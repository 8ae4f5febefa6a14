"""Pictures by their containers: what a file is, what its decoding would cost, and how it is turned into pixels."""
