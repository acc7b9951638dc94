from __future__ import annotations

import pytest

from tests.cli import done, run, take


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def snapshots(tree, store):
    """Return the files of two snapshots of one job and one of another."""
    jobs = ("one", "one", "two")
    return [take("--source", tree, "--store", store, "--job", job) for job in jobs]


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


class TestWhatHolds:
    def test_all_snapshots_of_the_store_are_verified(self, store, snapshots):
        result = done("verify", "-s", store)

        assert [line.split()[0] for line in result.lines[:-1]] == ["holds"] * 3
        assert result.lines[-1] == "3 of 3 snapshots hold"
        assert result.err == ""

    def test_host_and_job_choose(self, store, snapshots):
        assert len(done("verify", "-s", store, "--job", "one", "--json").json) == 2
        assert run("verify", "-s", store, "--host", "nope").status == 10

    def test_some_may_be_named(self, store, snapshots):
        result = done("verify", "two", "one~1", "-s", store)

        assert len(result.lines) == 3
        assert "/two-" in result.lines[0]
        assert snapshots[0].name in result.lines[1]

    def test_it_tells_in_json(self, store, snapshots):
        (proof,) = done("verify", "two", "-s", store, "--json").json

        assert proof["holds"]
        assert proof["level"] == "content"
        assert proof["file_bytes"] == snapshots[2].stat().st_size
        assert proof["content_bytes"] > 0
        assert proof["errors"] == []

    def test_quiet_says_nothing(self, store, snapshots):
        result = done("verify", "-s", store, "-q")

        assert (result.out, result.err) == ("", "")

    def test_comparing_checksums_needs_no_key(self, store, snapshots, key_file):
        key_file.unlink()

        result = done("verify", "--level", "checksum", "-s", store)

        assert "SHA-256 of" in result.lines[0]
        assert run("verify", "-s", store).status == 12


class TestDamage:
    def test_it_is_told_with_status_13_and_the_others_are_verified(self, store, snapshots):
        flip(snapshots[1], snapshots[1].stat().st_size // 3)

        result = run("verify", "-s", store)

        assert result.status == 13
        assert sorted(line.split()[0] for line in result.lines) == [
            "2",
            "damaged",
            "holds",
            "holds",
        ]
        assert f"{snapshots[1].name} is not the file that was stored" in result.err
        assert "frame" in result.err

    def test_quiet_tells_damage_as_well(self, store, snapshots):
        flip(snapshots[1], 2000)

        result = run("verify", "-s", store, "-q")

        assert result.status == 13
        assert result.lines == [f"damaged  {snapshots[1].relative_to(store)}"]

    def test_it_is_told_in_json(self, store, snapshots):
        flip(snapshots[2], snapshots[2].stat().st_size // 3)

        result = run("verify", "two", "-s", store, "--json")

        assert result.status == 13
        assert not result.json[0]["holds"]
        assert {"DigestError", "FrameError"} <= {one["class"] for one in result.json[0]["errors"]}

    def test_a_file_that_was_exchanged_is_found_by_its_checksum(self, store, snapshots):
        snapshots[0].write_bytes(snapshots[1].read_bytes())

        result = run("verify", "--level", "checksum", "-s", store)

        assert result.status == 13
        assert "1 of 3" not in result.out
        assert "2 of 3 snapshots hold" in result.out

    def test_without_its_checksum_file_a_snapshot_is_not_said_to_hold(self, store, snapshots):
        snapshots[0].with_name(snapshots[0].name + ".sha256").unlink()

        assert run("verify", "--level", "checksum", "-s", store).status == 13
        assert run("verify", "-s", store).status == 0

    def test_one_that_is_cut_is_damaged(self, store, snapshots):
        snapshots[2].write_bytes(snapshots[2].read_bytes()[:-100])

        result = run("verify", "two", "-s", store)

        assert result.status == 13


class TestRecoveryFiles:
    def test_a_changed_recover_py_in_the_store_is_told(self, store, snapshots):
        (store / "recover.py").write_text("import os")

        result = done("verify", "-s", store)

        assert "recover.py in the store is missing or not this version's" in result.err

    def test_the_next_backup_puts_the_right_one_there(self, tree, store, snapshots):
        (store / "recover.py").unlink()
        take("--source", tree, "--store", store)

        assert done("verify", "-s", store).err == ""


class TestNothingThere:
    def test_an_empty_store_is_an_error(self, tmp_path):
        result = run("verify", "-s", tmp_path)

        assert result.status == 10
        assert f"there is no snapshot in {tmp_path}" in result.err
