"""Every way in and out: graphql-transport-ws, GraphQL over HTTP, event streams, the REST and plain WebSocket shims, and
the pages.

Each maps a wire format to operations or resolvers; none decides what a post or a subscription means.
"""
