"""Positions moving over the log: hub, channels, cohorts, subscribers.

It knows nothing of GraphQL and nothing of sockets: results arrive as bytes from a `render` function and leave
through a `Sink`.
"""
