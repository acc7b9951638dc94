#!/usr/bin/env python3
"""Compares this tool with others on the same data: ``compare.py --help``, and README.md here."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.command import main

    sys.exit(main(sys.argv[1:]))
