"""The peers: programs for backups with encryption, each as its own manual says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import Contender, Place, Program, Step, step


class Restic(Contender):
    key = name = "restic"
    kind = "peer"
    programs = (Program(("restic", "version"), at_least=(0, 19)),)

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "RESTIC_REPOSITORY": str(place.repository),
            "RESTIC_PASSWORD_FILE": str(place.secret),
            "RESTIC_CACHE_DIR": str(place.top / "cache"),
        }

    def prepare(self, place: Place) -> list[Step]:
        del place
        return [step("restic", "init")]

    def first(self, place: Place) -> Step:
        return step("restic", "backup", "--compression", "auto", place.source)

    def restore(self, place: Place) -> Step:
        return step("restic", "restore", "latest", "--target", place.target)

    def restore_one(self, place: Place) -> Step:
        return step("restic", "restore", "latest", "--target", place.target, "--include", place.one)

    def verify(self, place: Place) -> Step:
        del place
        return step("restic", "check", "--read-data")


class Kopia(Contender):
    key = name = "kopia"
    kind = "peer"
    programs = (Program(("kopia", "--version"), at_least=(0, 23)),)

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "KOPIA_PASSWORD": place.secret.read_text(encoding="ascii").strip(),
            "KOPIA_CONFIG_PATH": str(place.top / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(place.top / "cache"),
            "KOPIA_LOG_DIR": str(place.top / "logs"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
        }

    def prepare(self, place: Place) -> list[Step]:
        return [
            step("kopia", "repository", "create", "filesystem", "--path", place.repository),
            step("kopia", "policy", "set", "--global", "--compression=zstd"),
        ]

    def first(self, place: Place) -> Step:
        return step("kopia", "snapshot", "create", place.source)

    def restore(self, place: Place) -> Step:
        return step("kopia", "restore", place.source, place.target)

    def restore_one(self, place: Place) -> Step:
        return step("kopia", "restore", place.one, place.target / "one")

    def verify(self, place: Place) -> Step:
        del place
        return step("kopia", "snapshot", "verify", "--verify-files-percent=100")

    def restored(self, place: Place) -> Path:
        return place.target

    def restored_one(self, place: Place) -> Path:
        return place.target / "one"


class Rustic(Contender):
    key = name = "rustic"
    kind = "peer"
    programs = (Program(("rustic", "--version"), at_least=(0, 11)),)

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "RUSTIC_REPOSITORY": str(place.repository),
            "RUSTIC_PASSWORD_FILE": str(place.secret),
            "RUSTIC_CACHE_DIR": str(place.top / "cache"),
        }

    def prepare(self, place: Place) -> list[Step]:
        del place
        return [step("rustic", "init")]

    def first(self, place: Place) -> Step:
        return step("rustic", "backup", place.source)

    def restore(self, place: Place) -> Step:
        return step("rustic", "restore", f"latest:{place.source}", place.target)

    def restore_one(self, place: Place) -> Step:
        return step("rustic", "restore", f"latest:{place.one}", place.target)

    def verify(self, place: Place) -> Step:
        del place
        return step("rustic", "check", "--read-data")

    def restored(self, place: Place) -> Path:
        return place.target

    def restored_one(self, place: Place) -> Path:
        return place.target / place.one.name


class Borg(Contender):
    key = name = "borg"
    kind = "peer"
    programs = (Program(("borg", "--version"), at_least=(1, 4), below=(1, 5)),)

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "BORG_REPO": str(place.repository),
            "BORG_BASE_DIR": str(place.top / "borg"),
            "BORG_PASSPHRASE": place.secret.read_text(encoding="ascii").strip(),
        }

    def prepare(self, place: Place) -> list[Step]:
        del place
        return [step("borg", "init", "--encryption", encryption())]

    def first(self, place: Place) -> Step:
        return step("borg", "create", "--compression", "zstd,3", "::first", place.source)

    def restore(self, place: Place) -> Step:
        return step("borg", "extract", "::first", cwd=place.target)

    def restore_one(self, place: Place) -> Step:
        return step("borg", "extract", "::first", place.one.relative_to("/"), cwd=place.target)

    def verify(self, place: Place) -> Step:
        del place
        return step("borg", "check", "--verify-data")


def encryption() -> str:
    """Return borg's mode that is the faster one on this processor, as its manual says."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "repokey" if {"sha_ni", "sha2"} & set(text.split()) else "repokey-blake2"
