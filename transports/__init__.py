"""Every way in and out. `app` hands each request to the room that answers it.

- `graphql/`: GraphQL over HTTP, event streams and graphql-transport-ws.
- `shims/`: the REST and plain WebSocket interfaces of the earlier server.
- `pages/`: the console and the playground.
- `gate/`: who may come in, and how much.
- `serving/`: uvicorn's protocols, its keepalive and its drain.
- `wire/`: bytes, JSON, media types and sinks that the rooms above share.
- `sight/`: logs and metrics.

Each maps a wire format to operations or resolvers; none decides what a post or a subscription means.
"""
