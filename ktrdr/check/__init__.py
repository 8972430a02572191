"""Checks whether a store is sound, and repairs what it can without loss: `ktrdr check`."""
