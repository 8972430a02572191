"""A copy of the project to start programs in."""

from tests.copied import copy, gateway

__all__ = ["copy", "gateway"]
