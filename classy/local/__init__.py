"""
The embedded cloud of `classy up`: object storage with events, and an Fn-compatible endpoint, on one machine.

It is for development and for one machine; at scale the same function folders run on Fn, Oracle Functions or AWS
Lambda.
"""
