"""The durable, ordered store of all messages: its promises (`protocol`), one SQL implementation of them, migrations, hints.

It knows nothing of subscribers, GraphQL or sockets.
"""
