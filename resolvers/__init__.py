"""What can be done with channels: post, page history, subscribe. Plain async functions over the log and the hub.

They check input and permission, and know neither GraphQL types nor HTTP.
"""
