"""One file an engine: what runs a network."""
