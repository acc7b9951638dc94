"""The snapshot file, format 1: bytes in, bytes out (docs/FORMAT.md)."""
