"""Tokenizers that several tests change, each trained once; a test gets a copy."""

import json

import pytest

from trained_tokenizers import Definition, trained_on_bytes, trained_on_characters


@pytest.fixture
def definition() -> Definition:
    return dict(json.loads(trained_on_bytes()))


@pytest.fixture
def characters() -> Definition:
    return dict(json.loads(trained_on_characters()))
