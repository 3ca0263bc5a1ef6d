"""The cases of conformance/*.json: one module for each kind."""
