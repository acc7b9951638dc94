"""The daemon: runs what is due for as long as the machine runs, and tells who supervises it."""
