"""Satchel: one small language model, verified mobile packages."""

__version__ = "0.1.0"
