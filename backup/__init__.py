"""Encrypted, signed, checked snapshots of directories."""
