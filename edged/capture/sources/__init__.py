"""One file a kind of source: its ``Config`` and its ``open()``. Imported only when chosen."""
