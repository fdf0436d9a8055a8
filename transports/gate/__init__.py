"""Who may come in, and how much: origins, addresses, tokens, connections, sizes.

It turns a client away, or says who the client is. It never answers a request itself.
"""
