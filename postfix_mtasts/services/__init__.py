"""The plan: gather facts, decide, serve, refresh.  Knows the world by its ports only."""
