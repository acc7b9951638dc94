from __future__ import annotations

import stat

import pytest
from cryptography.fernet import Fernet

from tests.cli import done, run, take


@pytest.fixture
def path(private_home):
    """Return where the environment says that the key is; nothing is there."""
    return private_home / "auto-backup-key"


class TestNew:
    def test_it_makes_a_key_for_its_owner_only(self, path):
        result = done("key", "new")

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        Fernet(path.read_bytes().strip())
        assert f"a new key has been made: {path} (id " in result.lines[0]
        assert "keep a copy" in result.lines[1]

    def test_it_makes_it_where_it_is_told(self, tmp_path):
        made = done("key", "new", "--key-file", tmp_path / "a" / "key", "--json").json

        assert made["path"] == str(tmp_path / "a" / "key")
        assert made["id"] == done("key", "show", "--key-file", made["path"], "--json").json["id"]

    def test_a_file_that_exists_is_not_touched(self, path):
        path.write_text("something")

        result = run("key", "new")

        assert result.status == 12
        assert "already" in result.err
        assert "hint: " in result.err
        assert path.read_text() == "something"

    def test_it_may_be_tried_without_doing_it(self, path):
        first = done("key", "new", "-n")
        path.touch()
        second = done("key", "new", "-n")

        assert first.lines == [f"would make a new key: {path}"]
        assert second.lines == [f"would refuse: there is a file at {path} already"]
        assert done("key", "new", "-n", "--json").json == {"path": str(path), "exists": True}

    def test_a_backup_seals_for_it(self, tree, store):
        identity = done("key", "new", "--json").json["id"]

        take("--source", tree, "--store", store)

        assert done("key", "list", "-s", store, "--json").json == [
            {
                "type": "fernet",
                "id": identity,
                "snapshots": 1,
                "header_only": 0,
                "yours": True,
                "opens_with": "key file",
            }
        ]


class TestShow:
    def test_it_tells_where_the_key_is_and_not_what(self, key_file, key):
        result = done("key", "show")

        assert result.lines[0] == f"key file  {key_file}"
        assert "signs as  nobody yet" in result.lines[2]
        assert key not in result.out

    def test_it_tells_who_signs_here(self, key_file, tree, store):
        take("--source", tree, "--store", store)

        shown = done("key", "show", "--json").json
        (snapshot,) = done("snapshots", "-s", store, "--json").json

        assert shown["signer"] == snapshot["signer"]
        assert "signs as  " in done("key", "show").out

    def test_without_a_key_it_tells_how_to_make_one(self, path):
        result = run("key", "show")

        assert result.status == 12
        assert f"there is no key file at {path}" in result.err
        assert "'auto-backup key new'" in result.err


class TestList:
    def test_it_tells_which_are_yours(self, key_file, tree, store):
        take("--source", tree, "--store", store)
        key_file.unlink()
        done("key", "new")
        take("--source", tree, "--store", store, "--job", "other")

        lines = done("key", "list", "-s", store).lines

        assert lines[0].split() == ["type", "id", "snapshots", "yours"]
        assert sorted(line.split("1 of 2")[-1].strip() for line in lines[1:]) == [
            "no",
            "with your key file",
        ]
        assert all("1 of 2" in line for line in lines[1:])

    def test_it_needs_no_key(self, key_file, tree, store):
        take("--source", tree, "--store", store)
        key_file.unlink()

        result = done("key", "list", "-s", store)

        assert result.lines[1].endswith("no")
        assert f"there is no key file at {key_file}" in result.err

    def test_a_damaged_header_is_told(self, key_file, tree, store):
        path = take("--source", tree, "--store", store)
        path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
        with_keys_file = done("key", "list", "-s", store)
        path.with_name(path.name + ".keys").unlink()

        result = done("key", "list", "-s", store)

        assert with_keys_file.lines[1].endswith("1 of 1     with your key file")
        assert "not told: 1 snapshot whose header is damaged" in result.err

    def test_an_empty_store_is_an_error(self, key_file, tmp_path):
        assert run("key", "list", "-s", tmp_path).status == 10


class TestAKeyThatWillNotDo:
    @pytest.mark.parametrize("command", [["show"], ["backup"], ["ls"], ["verify"], ["restore"]])
    def test_one_that_others_can_read_is_refused(self, command, key_file, tree, tmp_path, store):
        arguments = {
            "show": ["key", "show"],
            "backup": ["--now", "--source", tree, "-s", store],
            "ls": ["ls", "latest", "-s", store],
            "verify": ["verify", "-s", store],
            "restore": ["restore", "latest", "--target", tmp_path / "out", "-s", store],
        }
        key_file.chmod(0o640)

        result = run(*arguments[command[0]])

        assert result.status == 12
        assert "can be read by others (mode 0640)" in result.err
        assert f"hint: chmod 600 {key_file}" in result.err
        assert not store.exists()

    @pytest.mark.parametrize("content", ["", "pass word", "A" * 43, "\0" * 44])
    def test_what_is_no_key_is_refused_without_telling_what_it_is(self, content, path):
        path.write_text(content)
        path.chmod(0o600)

        result = run("key", "show")

        assert result.status == 12
        assert "is not a key file" in result.err
        assert not content or content not in result.err

    def test_a_directory_is_refused(self, path):
        path.mkdir()

        assert run("key", "show").status == 12
