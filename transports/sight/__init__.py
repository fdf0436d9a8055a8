"""What an operator sees: logs and metrics. They never hold content, tokens or addresses."""
