"""How uvicorn serves: its HTTP and WebSocket protocols made lean and careful, keepalive, drain, socket options.

It knows no GraphQL and no message; what a connection says goes to the ASGI application.
"""
