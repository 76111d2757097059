"""Fixtures of these tests."""

from tests.known import known_models_fixture, photo_fixture, write_fixture  # noqa: F401
