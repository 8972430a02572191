"""Whether a store is sound, and mending what can be mended without loss: `ktrdr check`."""
