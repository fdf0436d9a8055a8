"""The GraphQL contract in Strawberry, and the operations that run against it.

It maps GraphQL to resolvers; it never touches a socket or a database.
"""
