"""Worker processes: jobs go in, results come out in the same order, through shared memory.

The calling process keeps what only one can do: walking, writing, deciding. It may have threads; the
workers are forked by a *nursery*, a freshly executed process that has none, and end with it.
"""
