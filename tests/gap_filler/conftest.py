"""A stand-in for the connection process, and gap fillers on it."""

from tests.fake_connection import *  # noqa: F403  fixtures
