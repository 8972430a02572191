"""Peers to play, for the status app."""

from tests.played_peers import *  # noqa: F403  fixtures
