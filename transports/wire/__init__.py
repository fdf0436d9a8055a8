"""What all transports share on the wire: JSON, media types, one HTTP exchange, sinks, sockets.

It holds no rule about who may do what.
"""
