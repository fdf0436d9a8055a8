"""The REST interface and the plain WebSocket of the earlier server, mapped to the same resolvers as GraphQL.

They map fields and status codes, and decide nothing.
"""
