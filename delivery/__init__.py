"""Positions moving over the log: hub, channels, cohorts, subscribers.

It knows nothing of GraphQL and nothing of sockets: results arrive as bytes from a `render` function and leave
through a `Sink`.

Owners know what they own, not the other way round. A hub owns channels, a channel owns cohorts, a cohort owns
subscribers and blocks. A channel also owns its inflow and its catch-ups. Where an object has to tell its owner
something, it knows the owner only through a small Protocol in its own file.
"""
