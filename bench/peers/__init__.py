"""Satchel's artifacts beside what users would pick instead: one module per peer, all measured the same way."""
