"""Several processes as one server on one machine: a supervisor, workers, and on SQLite the one owner of the file.

`owner` and `log` carry the message log's Protocol over a Unix socket, so that nothing above that Protocol knows of
workers. `supervisor` starts processes and holds no message. What the workers count together is in memory that they
share (`board`).
"""
