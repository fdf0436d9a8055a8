"""Small real servers that RAQCOON is measured beside. Each keeps its messages in memory and shares one schema."""
