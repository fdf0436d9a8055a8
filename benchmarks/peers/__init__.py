"""Small real servers that RAQCOON is compared with. Each keeps its messages in memory, and all have the same schema."""
