#!/usr/bin/env bash
# Sets auto-backup up in this checkout, in .venv, and runs it.
#
#   ./setup.sh                             set up, and say what to run next
#   ./setup.sh test [--deep] [pytest ...]  set up for tests as well, and run them
#   ./setup.sh ARGUMENT ...                set up where needed, then: auto-backup ARGUMENT ...
#
# Works from every directory and through symbolic links; the command runs in the caller's directory,
# and what set-up has to say goes to standard error. PYTHON names the interpreter for a new .venv.
# Exit status: 2 without a suitable Python, 1 when set-up fails, else the command's.

set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

die() { # die STATUS LINE ...
  local status=$1 line
  shift
  for line in "$@"; do say "$line"; done
  exit "$status"
}

# --- Is everything there? No process is started to answer that. -----------------------------------

stamp_text() { # what .venv was made from and for: a stamp that says anything else is out of date
  printf '%s\n' "$root" "$(<"$venv/pyvenv.cfg")" "$(<"$root/pyproject.toml")"
}

is_ready() { # is_ready STAMP
  [[ -x $venv/bin/python && -x $venv/bin/auto-backup && -r $venv/pyvenv.cfg && -r $1 ]] &&
    [[ $(<"$1") == "$(stamp_text)" ]]
}

# --- A Python to make .venv with ------------------------------------------------------------------

# Prints what the interpreter is good for; must be understood by every Python 3.
readonly PROBE='
import os, sys
version = ".".join(map(str, sys.version_info[:3]))
if sys.version_info < (3, 11):
    print("old " + version)
else:
    try:
        import ensurepip, venv
        print("good " + os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    except ImportError:
        print("bare " + version)
'

find_python() { # sets $python
  local candidates=(python3.14 python3.13 python3.12 python3.11 python3) candidate answer
  local bare='' old='' wanted='Python 3.11 or newer'
  if [[ -n ${PYTHON:-} ]]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    answer=$("$candidate" -I -c "$PROBE" 2>/dev/null </dev/null) || continue
    case $answer in
      'good '*) python=${answer#good } && return ;;
      'bare '*) bare=${bare:-"$candidate (${answer#bare })"} ;;
      'old '*) old=${old:-"$candidate (${answer#old })"} ;;
    esac
  done
  if [[ -n $bare ]]; then
    die 2 "error: $bare cannot make virtual environments: its venv or ensurepip is missing" \
      'hint: apt install python3-venv (Debian, Ubuntu); or PYTHON=/path/to/another/python3 ./setup.sh'
  fi
  if [[ -n ${PYTHON:-} ]]; then
    die 2 "error: PYTHON is ${old:-"$PYTHON, which does not run as Python 3"}; auto-backup needs $wanted" \
      'hint: unset PYTHON, or let it name another interpreter'
  fi
  die 2 "error: auto-backup needs $wanted; ${old:+"there is only $old"}${old:-"there is none in PATH"}" \
    'hint: apt install python3 python3-venv (Debian 12, Ubuntu 24.04 or newer);' \
    'hint: or PYTHON=/path/to/python3 ./setup.sh'
}

# --- Making .venv, and installing into it ---------------------------------------------------------

lock() { # two set-ups at once: one waits for the other
  exec {lock_fd}<"$root"
  if command -v flock >/dev/null && ! flock --nonblock "$lock_fd"; then
    say 'waiting for another setup.sh'
    flock "$lock_fd" || true
  fi
}

unlock() { exec {lock_fd}<&-; }

# shellcheck disable=SC2317 # trap calls it
clean_up() { # on every way out, until set-up has succeeded
  [[ -z $new_venv ]] || rm -rf "$new_venv"
  [[ -z $log ]] || rm -f "$log"
}

run() { # run WHAT_FAILED COMMAND ...: quiet, unless it fails
  local what=$1 status=0
  shift
  (cd "$root" && "$@") >"$log" 2>&1 </dev/null || status=$?
  if ((status != 0)); then
    ((status > 128)) || rm -f "$unfinished" # it has put things back, unless it was killed
    sed 's/^/    /' "$log" >&2
    die 1 "error: $what"
  fi
}

is_sound() { # was .venv made for this place, with a Python that still runs, and has it pip?
  local place=$root
  if [[ -r $venv/.auto-backup-ready ]]; then
    read -r place <"$venv/.auto-backup-ready" || true
  fi
  [[ $place == "$root" && ! -e $unfinished ]] &&
    "$venv/bin/python" -I -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1 </dev/null
}

make_venv() {
  if [[ -e $venv && ! -e $venv/pyvenv.cfg && ! -e $unfinished && -n $(ls -A "$venv") ]]; then
    die 1 "error: $venv is not a virtual environment" 'hint: move it away'
  fi
  find_python
  [[ -w $root ]] || die 1 "error: $root is not writable: .venv cannot be made in it"
  say "making .venv with $python"
  rm -rf "$venv"
  new_venv=$venv
  mkdir "$venv"
  : >"$unfinished"
  run 'making .venv failed' "$python" -I -m venv "$venv"
}

set_up() { # set_up STAMP REQUIREMENT
  local stamp=$1 requirement=$2 python='' lock_fd
  is_ready "$stamp" && return
  lock
  if is_ready "$stamp"; then # by now
    unlock
    return
  fi
  log='' new_venv='' unfinished=$venv/.auto-backup-unfinished # is left by what is killed
  trap clean_up EXIT
  log=$(mktemp "${TMPDIR:-/tmp}/auto-backup-setup.XXXXXXXX")
  if ! is_sound; then
    make_venv
  fi
  say 'installing auto-backup and what it needs; this takes a moment'
  : >"$unfinished"
  rm -f "$venv"/.auto-backup*-ready
  PIP_USER=0 run 'installing failed' "$venv/bin/python" -I -m pip install --quiet --no-input \
    --disable-pip-version-check --editable "$requirement"
  stamp_text >"$venv/.auto-backup-ready"
  stamp_text >"$stamp"
  rm -f "$log" "$unfinished"
  trap - EXIT
  unlock
}

# --- Tests ----------------------------------------------------------------------------------------

run_tests() { # run_tests [--deep] [PYTEST ARGUMENT ...]
  local argument arguments=() paths=(tests/)
  cd "$root"
  for argument in "$@"; do
    if [[ $argument == --deep ]]; then
      export AUTO_BACKUP_TEST_DEPTH=deep
      continue
    fi
    if [[ $argument != -* && -e ${argument%%::*} ]]; then
      paths=() # the caller says which
    fi
    arguments+=("$argument")
  done
  if [[ -x .ci/system-packages ]]; then
    .ci/system-packages </dev/null >&2 || true # a test says what it misses
  fi
  set_up "$venv/.auto-backup-test-ready" '.[test]'
  exec "$venv/bin/python" -m pytest "${paths[@]}" "${arguments[@]}"
}

main() {
  local self=${BASH_SOURCE[0]}
  if [[ -L $self ]]; then
    self=$(readlink -f -- "$self")
  fi
  case $self in
    */*) root=${self%/*}/ ;;
    *) root=./ ;;
  esac
  root=$(unset CDPATH && cd -- "$root" && pwd -P)
  venv=$root/.venv

  if [[ ${1-} == test ]]; then
    run_tests "${@:2}"
  fi
  set_up "$venv/.auto-backup-ready" .
  if (($# > 0)); then
    exec "$venv/bin/auto-backup" "$@"
  fi
  local call=$0
  [[ $call == */* ]] || call=./$call
  printf -v call '%q' "$call"
  printf '%s\n' 'auto-backup is ready. Next:' \
    "  $call --now --source ~/Documents    take a snapshot" \
    "  $call --help                        everything else" \
    "  $call test                          run the tests"
}

main "$@"; exit # on one line: the file may change while the command runs
