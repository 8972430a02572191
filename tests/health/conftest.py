"""Peers to play, for the verdict on them."""

from tests.played_peers import *  # noqa: F403  fixtures
