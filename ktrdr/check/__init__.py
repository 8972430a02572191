"""`ktrdr check`: finds what is broken in a store, and fixes what can be fixed without loss."""
