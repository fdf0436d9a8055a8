"""The server over graphql-transport-ws: a pure protocol core (`protocol`) and its ASGI shell (`endpoint`)."""
