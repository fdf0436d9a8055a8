"""GraphQL on the wire: over HTTP, as event streams, and graphql-transport-ws.

`protocol` decides which frame answers which, without I/O; `connection` and `endpoint` give it a socket. What an
operation means is `schema`'s business.
"""
