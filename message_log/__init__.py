"""The durable, ordered store of all messages: its promises (`protocol`), one SQL implementation of them (`sql`),
migrations, hints, retention, copying.

It knows nothing of subscribers, GraphQL or sockets.
"""
