"""Secrets as systemd hands them to a service: root's, and readable by an access list."""

from __future__ import annotations

import os

import pytest

from backup.errors import SecretKeyError
from backup.keys import load_key_file
from backup.private_files import read_private
from tests.cli import done, take
from tests.conftest import NOBODY


@pytest.fixture
def credentials(open_dir, monkeypatch):
    """Return the directory of credentials as systemd makes it: what an access list says shows."""
    directory = open_dir / "credentials"
    directory.mkdir(mode=0o550)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


def put(directory, content, mode=0o440):
    directory.chmod(0o750)
    (directory / "key").write_text(content)
    (directory / "key").chmod(mode)
    directory.chmod(0o550)
    return directory / "key"


def test_one_that_the_group_may_read_is_taken(credentials, key):
    assert read_private(put(credentials, key)) == key.encode()


def test_a_whole_run_has_its_key_from_there(credentials, key, source, store, monkeypatch):
    (source / "file").write_text("content")
    monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", str(put(credentials, key)))

    take("--source", source, "--store", store)

    assert done("cat", "latest", source / "file", "--store", store).out == "content"


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o450, 0o442])
def test_what_others_may_read_or_change_is_not(credentials, key, mode):
    with pytest.raises(SecretKeyError, match="can be read by others"):
        load_key_file(put(credentials, key, mode))


def test_only_there(credentials, key, tmp_path):
    with pytest.raises(SecretKeyError, match="can be read by others"):
        load_key_file(put(tmp_path, key))


def test_not_below_it(credentials, key):
    credentials.chmod(0o750)
    (credentials / "sub").mkdir()
    with pytest.raises(SecretKeyError):
        load_key_file(put(credentials / "sub", key))


def test_only_where_it_is_told(credentials, key, monkeypatch):
    path = put(credentials, key)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")

    with pytest.raises(SecretKeyError):
        load_key_file(path)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_change_does_not_count(credentials, key, mode):
    path = put(credentials, key)
    credentials.chmod(mode)

    with pytest.raises(SecretKeyError):
        load_key_file(path)


def test_a_link_to_a_directory_does_not_count(credentials, key, open_dir, monkeypatch):
    put(credentials, key)
    (open_dir / "link").symlink_to(credentials)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(open_dir / "link"))

    with pytest.raises(SecretKeyError):
        load_key_file(open_dir / "link" / "key")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_neither_the_directory_nor_the_file_may_be_somebody_elses(credentials, key):
    path = put(credentials, key)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(SecretKeyError, match="belongs to another user"):
        load_key_file(path)

    os.chown(path, 0, 0)
    os.chown(credentials, NOBODY, NOBODY)
    with pytest.raises(SecretKeyError):
        load_key_file(path)
