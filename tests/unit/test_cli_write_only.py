"""A host that was given a public key: it saves, and can read nothing of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from backup.environment import config_path
from backup.errors import SecretKeyError
from backup.keys import load_identity_file, load_key_file, load_passphrase_file
from backup.locating import locate_path
from backup.snapshot.header import parse_core
from backup.snapshot.recipients import FernetKey, PassphraseIdentity
from tests.cli import done, run, take


@pytest.fixture(autouse=True)
def _without_a_key(monkeypatch):
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", "")  # is put back to nothing afterwards


@pytest.fixture
def recovery(tmp_path, private_home):
    """Return the identity file, which lies elsewhere."""
    path = tmp_path / "elsewhere" / "recovery"
    done("key", "new", "--public", "--identity", path)
    return path


@pytest.fixture
def public(recovery):
    return recovery.with_name("recovery.pub")


def core_of(path):
    return parse_core(path.read_bytes().split(b"\n")[1])


class TestSaving:
    def test_the_identity_opens_it_and_gets_all_back(self, recovery, public, tree, store, tmp_path):
        take("--source", tree, "--store", store, "--recipient", public)

        restored = run(
            *("restore", "latest", "-s", store, "--target", tmp_path / "out"),
            *("--identity", recovery),
        )

        assert restored.status in {0, 3}, restored.err
        assert (tmp_path / "out" / f"{tree}/docs/plan.txt".lstrip("/")).is_file()

    def test_no_key_is_made(self, public, tree, store, private_home):
        take("--source", tree, "--store", store, "--recipient", public)

        assert [path.name for path in private_home.rglob("*key*")] == ["host-signing-key"]
        assert done("key", "list", "-s", store, "--json").json[0]["type"] == "hpke"

    @pytest.mark.parametrize("how", ["text", "variable", "several", "default file"])
    def test_a_public_key_may_be_given_in_other_ways(self, how, public, tree, store):
        options, second = [], public.with_name("second")
        text = public.read_text().splitlines()[-1]
        if how == "text":
            options = ["--recipient", text]
        elif how == "variable":
            os.environ["AUTO_BACKUP_RECIPIENTS"] = f"{public}:{text}"
        elif how == "several":
            done("key", "new", "--public", "--identity", second)
            options = ["--recipient", public, "--recipient", f"{second}.pub"]
        else:
            place = config_path("recipients")
            place.parent.mkdir(parents=True)
            shutil.copy(public, place)

        take("--source", tree, "--store", store, *options)

        rows = done("key", "list", "-s", store, "--json").json
        assert len(rows) == (2 if how == "several" else 1)
        assert {row["type"] for row in rows} == {"hpke"}

    def test_with_a_key_file_both_open_it(self, recovery, public, tree, store, key_file):
        options = ["--key-file", key_file]
        take("--source", tree, "--store", store, "--recipient", public, *options)

        done("verify", "-s", store, *options)
        key_file.unlink()
        done("verify", "-s", store, "--identity", recovery)

    def test_a_mistyped_key_is_told_before_anything_is_done(self, public, tree, store):
        text = public.read_text().splitlines()[-1]

        for dry in ([], ["-n"]):
            result = run("--now", "--source", tree, "-s", store, "--recipient", text[:-6], *dry)
            assert result.status == 2
            assert "mistyped or incomplete" in result.err
        assert not store.exists()

    def test_a_private_key_in_its_place_is_refused_and_not_shown(self, recovery, tree, store):
        secret = recovery.read_text().splitlines()[-1]

        as_text = run("--now", "--source", tree, "-s", store, "--recipient", secret)
        as_file = run("--now", "--source", tree, "-s", store, "--recipient", recovery)

        assert (as_text.status, as_file.status) == (12, 12)
        assert secret[40:60] not in as_text.err + as_file.err
        assert "recovery.pub" in as_file.err
        assert not store.exists()


class TestLooking:
    def test_what_it_saved_is_sealed_to_itself(self, public, tree, store, tmp_path):
        take("--source", tree, "--store", store, "--recipient", public)

        (row,) = done("snapshots", "-s", store, "--json").json

        assert row["state"] == "sealed"
        for arguments in (["ls", "latest"], ["verify"], ["decrypt", "latest"]):
            assert run(*arguments, "-s", store).status == 12
        assert run("restore", "latest", "--target", tmp_path / "o", "-s", store).status == 12

    def test_it_can_prove_that_the_files_are_those_it_wrote(self, public, tree, store):
        path = take("--source", tree, "--store", store, "--recipient", public)

        assert done("verify", "--level", "checksum", "-s", store).lines[0].startswith("holds")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert run("verify", "--level", "checksum", "-s", store).status == 13

    def test_it_tells_who_can_open(self, recovery, public, tree, store):
        take("--source", tree, "--store", store, "--recipient", public)

        without = done("key", "list", "-s", store)
        with_it = done("key", "list", "-s", store, "--identity", recovery)

        assert without.lines[1].endswith("1 of 1     no")
        assert with_it.lines[1].endswith("with your identity")
        assert "seals for" not in done("key", "show", "--identity", recovery).out


class TestTheChain:
    def test_it_goes_on_from_what_the_host_remembers(self, public, tree, store):
        paths = [take("--source", tree, "-s", store, "--recipient", public) for _ in range(3)]

        cores = [core_of(path) for path in paths]
        assert [core.sequence for core in cores] == [1, 2, 3]
        assert len({core.chain for core in cores}) == 1
        assert cores[2].previous == cores[1].digest
        assert cores[1].previous == cores[0].digest

    def test_it_goes_on_beside_an_identity_that_opens_other_things(self, public, tree, store):
        done("key", "new", "--public")

        paths = [take("--source", tree, "-s", store, "--recipient", public) for _ in range(2)]

        assert [core_of(path).sequence for path in paths] == [1, 2]

    def test_it_goes_on_where_a_host_that_could_read_cannot_any_more(
        self, public, tree, store, key_file
    ):
        options = ["--source", tree, "-s", store, "--recipient", public]
        first = core_of(take(*options, "--key-file", key_file))
        key_file.unlink()

        assert core_of(take(*options)).previous == first.digest

    def test_without_its_state_a_new_one_begins(self, public, tree, store, private_home):
        first = core_of(take("--source", tree, "-s", store, "--recipient", public))
        shutil.rmtree(private_home / "auto-backup-state" / "chains")

        second = core_of(take("--source", tree, "-s", store, "--recipient", public))

        assert (second.sequence, second.previous) == (1, None)
        assert second.chain != first.chain

    @pytest.mark.parametrize("damage", ["changed", "cut", "of another key", "readable"])
    def test_what_it_remembers_counts_only_as_it_was_written(
        self, damage, public, tree, store, private_home
    ):
        take("--source", tree, "-s", store, "--recipient", public)
        state = private_home / "auto-backup-state"
        (memory,) = (state / "chains").rglob("*.json")
        content = memory.read_bytes()
        if damage == "changed":
            memory.write_bytes(content.replace(b'"sequence":1', b'"sequence":7'))
        elif damage == "cut":
            memory.write_bytes(content[:-20])
        elif damage == "of another key":
            (state / "host-signing-key").unlink()
        else:
            memory.chmod(0o666)

        core = core_of(take("--source", tree, "-s", store, "--recipient", public))

        assert (core.sequence, core.previous) == (1, None)

    def test_a_store_that_was_rolled_back_does_not_roll_it_back(self, public, tree, store):
        take("--source", tree, "-s", store, "--recipient", public)
        second = take("--source", tree, "-s", store, "--recipient", public)
        digest = core_of(second).digest
        for file in second.parent.glob(second.name + "*"):
            file.unlink()

        third = core_of(take("--source", tree, "-s", store, "--recipient", public))

        assert (third.sequence, third.previous) == (3, digest)

    def test_a_forged_header_in_the_store_does_not_lead_it(self, public, tree, store):
        first = take("--source", tree, "-s", store, "--recipient", public)
        line = json.loads(first.read_bytes().split(b"\n")[1])
        forged = first.read_bytes().replace(b'"seq":1', b'"seq":9')
        forged = forged.replace(line["id"].encode(), b"ffff" + line["id"][4:].encode())
        name = first.name.replace(f"-{line['id'][:4]}-", "-ffff-")
        (first.parent / name).write_bytes(forged)

        second = core_of(take("--source", tree, "-s", store, "--recipient", public))

        assert (second.sequence, second.previous) == (2, core_of(first).digest)

    def test_a_source_that_is_suddenly_empty_is_refused(self, public, source, store):
        (source / "file").touch()
        take("--source", source, "-s", store, "--recipient", public)
        (source / "file").unlink()

        result = run("--now", "--source", source, "-s", store, "--recipient", public)

        assert result.status == 1
        assert "is empty, and was not in its last snapshot" in result.err

    def test_two_directories_of_one_name_are_two_jobs(self, public, tmp_path, store):
        for one in "ab":
            (tmp_path / one / "data").mkdir(parents=True)
            (tmp_path / one / "data" / "file").write_text(one)

        paths = [
            take("--source", tmp_path / one / "data", "-s", store, "--recipient", public)
            for one in "abab"
        ]

        assert len({path.parent for path in paths}) == 2
        assert [core_of(path).sequence for path in paths] == [1, 1, 2, 2]


class TestACompromise:
    def test_all_that_is_on_the_host_opens_no_old_snapshot(
        self, recovery, tree, store, private_home
    ):
        public = recovery.with_name("recovery.pub")
        snapshot = take("--source", tree, "-s", store, "--recipient", public)
        take("--source", tree, "-s", store, "--recipient", public)
        loot = recovery.parents[1] / "loot"
        shutil.copytree(private_home, loot, symlinks=True)
        shutil.copy(public, loot)
        found = [path for path in loot.rglob("*") if path.is_file()]

        identities = [identity for path in found for identity in tried(path)]
        assert len(identities) >= 2  # the signing key looks like a key file
        with pytest.raises(SecretKeyError):
            locate_path(snapshot).open(identities)
        locate_path(snapshot).open([load_identity_file(recovery)])
        assert b"plan.txt" not in b"".join(path.read_bytes() for path in found)


def tried(path: Path):
    """Yield every identity that the file could be, or hold a line of."""
    for load in (load_key_file, load_identity_file):
        try:
            yield load(path)
        except SecretKeyError:
            continue
    for at in range(0, max(len(path.read_bytes()) - 31, 0), 97):
        yield FernetKey(path.read_bytes()[at : at + 32])
    try:
        yield PassphraseIdentity(load_passphrase_file(path))
    except SecretKeyError:
        return
