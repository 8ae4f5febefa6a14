"""Commands of `classy` that are more than a call: each in a module of its own, imported when it runs."""
