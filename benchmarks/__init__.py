"""The benchmark suite: peers, a load generator in C, and two commands, `benchmarks.fanout` and `benchmarks.posting`.

The server does not import this room, and this room does not import the server. The server is measured from outside: as
a process, over its sockets.
"""
