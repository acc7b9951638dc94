"""The first screen: groups, commands, and where to read more, on 80 columns and 24 lines."""

from __future__ import annotations

COMMANDS = ("backup", "snapshots", "ls", "cat", "restore", "decrypt", "verify", "key")
HELP = """\
auto-backup: encrypted snapshots that are proven to be restorable

  auto-backup --now --source ~/Documents          take a snapshot (= backup)
  auto-backup restore latest --target /tmp/back   get it back

take      backup       take a snapshot of --source PATH...
look      snapshots    list the snapshots of a store
          ls           list what a snapshot holds
          cat          write one file of a snapshot to standard output
get back  restore      restore a snapshot, or some paths of it
          decrypt      write a snapshot's plain archive: | tar xJ
prove     verify       read snapshots back and compare every digest
set up    key          new, show, list: keys and who can open what

'auto-backup COMMAND --help' tells a command's options. All commands take
  -s, --store PATH  where snapshots lie     --host NAME      this machine's name
  --key-file FILE   the key                 --job NAME       the source's name
  --state-dir DIR   signing key and log     --log-file FILE  another log
  --json  -q  -v    how to tell             -n, --dry-run    change nothing
"""
MORE = "Options of all commands, such as --store and --json: see 'auto-backup --help'."
