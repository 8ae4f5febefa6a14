"""
Bundling: what a function's container image is built from, made reproducibly on the machine that deploys.

contents says what each image holds, wheels fetches it by hash, tree unpacks and trims it. It is no part of what is
installed.
"""
