"""Plain archives, which any other tool reads: zip and tar, written, tested and read."""
