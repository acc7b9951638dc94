"""Versions of the package with one mistake each, which the harness has to find.

A mistake is a change of text. Where a text to be changed is not there any more, that is an error:
the mutant is to be brought up to date, not left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkout import ROOT

_READ_BACK = "storage/read_back.py"
_WRITER = "storage/local_writer.py"
_APPENDER = "storage/appending.py"


@dataclass(frozen=True)
class Mutant:
    """A mistake and where it shows.

    Args:
        sentence: What is wrong.
        changes: For each file of the package, texts and what stands in their place.
        asked: What the fork server is asked; one answer that tells of something wrong is enough.
        workload: Instead, what to do while calls go wrong,
        kind: which kind of calls,
        faults: in which ways,
        domain: whether those that read,
        below: in which places of the world.
        power: Whether the power goes as well.
    """

    sentence: str
    changes: Mapping[str, Sequence[tuple[str, str]]]
    asked: Sequence[Mapping[str, Any]] = ()
    workload: str = "next snapshot"
    kind: str = ""
    faults: Sequence[tuple[str, str]] = ()
    domain: str = "writes"
    below: tuple[str, ...] = ()
    power: bool = False


def _power(workload: str, **more: Any) -> dict[str, Any]:
    return {"workload": workload, "power": True} | more


def mutated(mutant: Mutant, directory: Path) -> Path:
    """Copy the package into ``directory`` with a mutant's mistake in it."""
    copy = directory / "backup"
    shutil.copytree(ROOT / "backup", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in mutant.changes.items():
        path = copy / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == 1, f"{name} holds {text.count(old)} times: {old}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return directory


MUTANTS = (
    Mutant(
        "a file is not synced",
        {_READ_BACK: [("        self._sync(self._file)\n", "")]},
        asked=[_power("next snapshot")],
    ),
    Mutant(
        "the directory of a new name is not synced",
        {
            _WRITER: [
                (
                    "self._reveal()\n                sync_directory(self._directory, self._sync)",
                    "self._reveal()",
                )
            ]
        },
        asked=[_power("next snapshot")],
    ),
    Mutant(
        "the directory of a new directory is not synced",
        {"storage/directories.py": [("        sync_directory(parent, sync)\n", "        pass\n")]},
        asked=[_power("first snapshot")],
    ),
    Mutant(
        "the directory of a new key's directory is not synced",
        {"private_files.py": [("(), create=os.fsync)", "(), create=lambda _: None)")]},
        asked=[_power("key new")],
    ),
    Mutant(
        "a file has its name before it is synced",
        {
            _WRITER: [
                (
                    "            returned = self._read_back.digest",
                    "            self._reveal()\n            returned = self._read_back.digest",
                ),
                (
                    "                self._reveal()\n                sync_d",
                    "                sync_d",
                ),
            ]
        },
        kind="fsync",
        faults=[("KILL_BEFORE", "")],
    ),
    Mutant(
        "a failed sync is tried again",
        {
            _READ_BACK: [
                (
                    "        self._sync(self._file)\n",
                    (
                        "        try:\n            self._sync(self._file)\n"
                        "        except OSError:\n            self._sync(self._file)\n"
                    ),
                )
            ]
        },
        kind="fsync",
        faults=[("FAIL", "EIO")],
        power=True,
    ),
    Mutant(
        "the snapshot has its name before its keys and digest are beside it",
        {
            "manager/committing.py": [
                ("        sink.commit()\n    except", "    except"),
                (
                    "        for other, content in",
                    "        sink.commit()\n        for other, content in",
                ),
            ]
        },
        kind="create",
        faults=[("KILL_BEFORE", "")],
    ),
    Mutant(
        "a full disk is not noticed by the writer",
        {
            _APPENDER: [
                (
                    (
                        "        self._sha256.update(block)\n        rest = block\n"
                        "        while rest:\n"
                    ),
                    "",
                ),
                (
                    "            rest = rest[os.write(self._file, rest) :]\n",
                    (
                        "        rest = block\n        with suppress(OSError):\n"
                        "            while rest:\n"
                        "                rest = rest[os.write(self._file, rest) :]\n"
                        "        block = bytes(block[: len(block) - len(rest)])\n"
                        "        self._sha256.update(block)\n"
                    ),
                ),
                ("import os\n", "import os\nfrom contextlib import suppress\n"),
            ]
        },
        kind="write",
        faults=[("FAIL", "ENOSPC")],
    ),
    Mutant(
        "a file that cannot be read is saved as an empty one",
        {
            "manager/whole_file.py": [
                (
                    "        return replace(entry, error=error.strerror or str(error)), None\n",
                    '        return replace(entry, size=0), b""\n',
                )
            ]
        },
        kind="read",
        faults=[("FAIL", "EIO")],
        domain="reads",
        below=("source",),
    ),
    Mutant(
        "what was written is not read back",
        {_WRITER: [("returned = self._read_back.digest(size, on_proven)", "returned = digest")]},
        kind="write",
        faults=[("FLIP", "")],
    ),
    Mutant(
        "what was read back is not compared",
        {_WRITER: [("if returned != digest:", "if not returned:")]},
        kind="write",
        faults=[("FLIP", "")],
    ),
    Mutant(
        "an unfinished file stands under its final name",
        {
            _WRITER: [
                ('partial = f".{final}.{secrets.token_hex(4)}.partial"', "partial = final"),
                ("if rename_new(directory, source, target):", "if source == target:"),
            ]
        },
        kind="write",
        faults=[("KILL_AFTER", "")],
    ),
    Mutant(
        "a short write is taken for a whole one",
        {
            _APPENDER: [
                (
                    "        while rest:\n            rest = rest[os.write(self._file, rest) :]\n",
                    "        os.write(self._file, rest)\n",
                )
            ]
        },
        kind="write",
        faults=[("SHORT", "")],
    ),
    Mutant(
        "no lock is taken",
        {
            "storage/local.py": [
                (
                    "        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                    "        pass\n",
                )
            ]
        },
        asked=[{"workload": "second run of a job"}],
    ),
    Mutant(
        "unfinished files of live writers are cleared away",
        {
            _WRITER: [
                (
                    "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n    except OSError",
                    "        pass\n    except OSError",
                )
            ]
        },
        asked=[{"workload": "beside another job"}],
    ),
    Mutant(
        "what a killed run left beside no snapshot stays",
        {
            "manager/committing.py": [
                (
                    "                    storage.delete(name)\n\n\ndef",
                    "                    pass\n\n\ndef",
                )
            ]
        },
        kind="create",
        faults=[("KILL_BEFORE", "")],
    ),
    Mutant(
        "rotation keeps the oldest",
        {
            "retention/plan.py": [
                ("        yield whole[-1].name, ", "        yield whole[0].name, "),
                ("reversed(whole[-(policy.last or 0) :]", "reversed(whole[: policy.last]"),
            ]
        },
        asked=[{"workload": "snapshot and rotation"}],
    ),
    Mutant(
        "the marker goes before the snapshot when purging",
        {
            "manager/trash.py": [
                (
                    "(SUFFIX, KEYS_SUFFIX, DIGEST_SUFFIX, TRASH_SUFFIX)",
                    "(TRASH_SUFFIX, SUFFIX, KEYS_SUFFIX, DIGEST_SUFFIX)",
                )
            ]
        },
        workload="purge",
        kind="unlink",
        faults=[("KILL_AFTER", "")],
    ),
    Mutant(
        "what was purged on purpose is missed",
        {"remembering.py": [("for one in there if one.trashed is None}", "for one in there}")]},
        workload="purge",
        kind="unlink",
        faults=[("KILL_AFTER", "")],
    ),
    Mutant(
        "a keys file is replaced without being proven openable",
        {
            "manager/rewrapping.py": [
                (
                    "        _opened_by(encode_keys_file(opened.core, slots, opened.data_key, 1), identities, change)\n",  # noqa: E501
                    "",
                )
            ]
        },
        asked=[{"workload": "key remove"}],
    ),
    Mutant(
        "the end of the archive is left out",
        {
            "snapshot/writer.py": [
                (
                    "        self.add(self.keys.seal(Section.ARCHIVE, number, piece, len(END_OF_ARCHIVE)))\n",  # noqa: E501
                    "",
                )
            ]
        },
        asked=[{"workload": "plain archive"}],
    ),
    Mutant(
        "a file need not end with a footer",
        {"snapshot/end.py": [("if magic == FOOTER_MAGIC:", "if magic:")]},
        asked=[{"vectors": "footer_with_damaged_magic"}],
    ),
    Mutant(
        "the mac of the header is not compared",
        {
            "snapshot/header.py": [
                ("    if not hmac.compare_digest(expected, header.mac):", "    if not expected:")
            ]
        },
        asked=[{"vectors": "header_mac_flipped"}],
    ),
    Mutant(
        "the tag of a frame is not compared",
        {
            "snapshot/token.py": [
                (
                    "    if not hmac.compare_digest(expected, view[-TAG_BYTES:]):",
                    "    if not expected:",
                )
            ]
        },
        asked=[{"vectors": "frame_tag_flipped"}],
    ),
)
