"""The first screen: groups, commands, and where to read more, on 80 columns and 24 lines."""

from __future__ import annotations

HELP = """\
auto-backup: encrypted snapshots that are proven to be restorable

  auto-backup --now --source ~/Documents          take a snapshot (= backup)
  auto-backup restore latest --target /tmp/back   get it back
  auto-backup                                     on a terminal: asks what to do

take      backup       take a snapshot of --source PATH..., or run jobs
look      status       how each job is, and why
          snapshots    list the snapshots of a store
          ls           list what a snapshot holds
          cat          write one file of a snapshot to standard output
          find         which snapshots hold a file, and when it changed
          diff         what changed between two snapshots, or since
get back  restore      restore a snapshot, or some paths of it
          decrypt      write a snapshot's plain archive: | tar xJ
prove     verify       read snapshots back and compare every digest
keep      rotate       put into the trash what --keep does not keep
set up    key          new, show, list, add...: keys and who can open what

'help all' tells all commands, 'COMMAND --help' the options of one. All take
  -s, --store PATH  where snapshots lie     --host NAME      this machine's name
  --key-file FILE   the key                 --job NAME       the source's name
  --config FILE     the configuration       --state-dir DIR  signing key, log
  --json  -q  -v    how to tell             -n, --dry-run    change nothing
"""
ALL = """\
all commands; 'auto-backup COMMAND --help' tells the options of one;
'auto-backup' alone on a terminal asks what to do

take
  backup [JOB...]      run jobs of the configuration; --now is the same
  backup --source PATH take a snapshot of what is named
  archive SOURCE...    make a zip or a tar that any tool opens, and test it
look
  snapshots            list the snapshots of a store
  ls SNAPSHOT          list what a snapshot holds
  cat SNAPSHOT PATH    write one file of a snapshot to standard output
  find PATTERN         which snapshots hold it, and when it changed
  diff SNAPSHOT        what changed to another SNAPSHOT, or since (--source)
  stats                how much there is, and what takes the room
  why PATH             whether a path would be saved, and by which rule
  status [JOB]         how each job is, and why; --check: for monitoring
  history [JOB]        runs: when, how long, what became of them
get back
  restore SNAPSHOT     restore a snapshot, or some paths of it
  decrypt SNAPSHOT     write a snapshot's plain archive: | tar xJ
prove
  verify               read snapshots back and compare every digest
keep
  rotate               put into the trash what --keep does not keep
  undelete             bring snapshots back out of the trash
  catalog rebuild      read the stores again for what is known of them
set up
  config init          make a first configuration, by asking
  config validate      check the configuration; every problem with its line
  config show [JOB]    what holds in the end, and where it was said
  config schema        the JSON Schema of configurations, for editors
  key new|show|list    keys, and who can open what
  key add|remove       let somebody open snapshots, or not any more
  key passphrase       let a passphrase open snapshots
  key export           the key on paper
  key trust            accept the signatures of listed hosts only
run
  daemon run           run jobs when they are due; stays in front, for systemd
  daemon start|stop    the same, detached from the terminal; --daemon is 'start'
  daemon reload        let it read the configuration anew
  schedule list        what runs when, how it ended last, and what waits
  schedule run JOB     run it now; --due: all that is due, for cron and timers
  schedule pause|resume   begin no more runs, or again
  service install      have systemd or cron run what is due; or uninstall
"""
"""What ``auto-backup help all`` says: every command has a line that begins with it."""

COMMANDS = tuple(line.split()[0] for line in ALL.splitlines() if line.startswith("  "))
MORE = "Options of all commands, such as --store and --json: see 'auto-backup --help'."
