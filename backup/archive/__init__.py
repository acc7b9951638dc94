"""The archive inside a snapshot, readable by any tar."""
