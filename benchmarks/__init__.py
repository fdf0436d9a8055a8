"""The benchmark suite: peers, a load generator in C, and two commands, `benchmarks.fanout` and `benchmarks.posting`.

Nothing of the server imports this room, and this room imports nothing of the server: it is measured from outside, as
a process, over its sockets.
"""
