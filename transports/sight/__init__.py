"""What an operator sees: logs and metrics. Never content, never a token, never an address."""
