"""One process a device: opens it, stamps, scales into a pool, and sends descriptors."""
