"""Entry point of a checkout; installed users have the command ``auto-backup``."""

from backup.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
