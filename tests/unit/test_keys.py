from __future__ import annotations

import errno
import os
import stat
import string
import threading

import pytest
from cryptography.fernet import Fernet

from backup.errors import KeyMissingError, SecretKeyError, StorageError
from backup.keys import (
    HOST_KEY_NAME,
    create_identity_file,
    create_key_file,
    load_identity_file,
    load_key_file,
    load_or_create_host_key,
    load_passphrase_file,
)
from backup.model import ArchiveType
from backup.private_files import _refuse_if_open
from backup.public_files import load_recipients
from backup.snapshot.header import make_core
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.recipients import (
    Argon2Cost,
    FernetKey,
    PassphraseIdentity,
    PassphraseRecipient,
)
from backup.storage.memory import MemoryStorage
from backup.wiring import Settings
from tests.conftest import NOBODY


class QuickerElsewhere(MemoryStorage):
    """A store; while it is looked at, another run makes the key."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def list_files(self, prefix=""):
        create_key_file(self._path)
        return super().list_files(prefix)


def test_a_key_that_another_run_has_made_meanwhile_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = Settings()

    key, is_new = settings.load_or_create_key([QuickerElsewhere(settings.key_path())])

    assert not is_new
    assert key.id == load_key_file(settings.key_path()).id


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config" / "key"


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def write(path, content, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


class TestLoadingAKeyFile:
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"  \n\n"])
    def test_it_holds_one_fernet_key(self, path, key, end):
        write(path, key.encode() + end)

        assert load_key_file(path) == FernetKey.parse(key)

    def test_one_that_is_missing_is_told_with_what_to_do(self, path):
        with pytest.raises(KeyMissingError, match="there is no key file at") as caught:
            load_key_file(path)

        assert "auto-backup key new" in caught.value.hint

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n", b"short", b"\xff" * 44, b"A" * 43, b"A" * 45, b"# a comment\n" + b"A" * 44,
         b"A" * 10_000],
    )  # fmt: skip
    def test_what_is_no_key_is_refused_without_showing_it(self, path, content):
        write(path, content)

        with pytest.raises(SecretKeyError, match="is not a key file") as caught:
            load_key_file(path)

        assert "AAAA" not in str(caught.value)

    def test_two_keys_are_no_key(self, path):
        write(path, Fernet.generate_key() + b"\n" + Fernet.generate_key() + b"\n")

        with pytest.raises(SecretKeyError):
            load_key_file(path)

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601, 0o666, 0o777])
    def test_one_that_others_may_touch_is_refused(self, path, key, mode):
        write(path, key.encode(), mode)

        with pytest.raises(SecretKeyError, match=f"read by others .mode {mode:04o}") as caught:
            load_key_file(path)

        assert caught.value.hint == f"chmod 600 {path}"

    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
    def test_one_for_its_owner_only_is_taken(self, path, key, mode):
        write(path, key.encode(), mode)

        assert load_key_file(path).secret == FernetKey.parse(key).secret

    def test_a_pipe_as_the_shell_makes_it_is_taken(self, key):
        reading, writing = os.pipe()
        os.write(writing, key.encode() + b"\n")
        os.close(writing)
        try:
            from pathlib import Path  # noqa: PLC0415 - for this test alone

            assert load_key_file(Path(f"/dev/fd/{reading}")) == FernetKey.parse(key)
        finally:
            os.close(reading)

    def test_a_directory_is_an_error(self, tmp_path):
        with pytest.raises(SecretKeyError, match="Is a directory"):
            load_key_file(tmp_path)

    def test_one_that_this_user_may_not_read_is_an_error(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        write(open_dir / "key", key.encode())

        with as_nobody(), pytest.raises(SecretKeyError, match="Permission denied"):
            load_key_file(open_dir / "key")


class TestMakingAKeyFile:
    def test_the_new_key_is_in_it_for_its_owner_only(self, path):
        os.umask(0)
        try:
            made = create_key_file(path)
        finally:
            os.umask(0o022)

        assert load_key_file(path) == made
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert names_in(path.parent) == ["key"]

    def test_cryptography_takes_it_as_it_is(self, path):
        create_key_file(path)

        Fernet(path.read_text().strip())

    def test_two_keys_differ(self, tmp_path):
        assert create_key_file(tmp_path / "a") != create_key_file(tmp_path / "b")

    @pytest.mark.parametrize("kind", ["file", "empty", "link", "directory"])
    def test_nothing_is_ever_replaced(self, path, kind):
        path.parent.mkdir()
        if kind == "link":
            path.symlink_to("nowhere")
        elif kind == "directory":
            path.mkdir()
        else:
            path.write_text("dear" * (kind == "file"))

        with pytest.raises(SecretKeyError) as caught:
            create_key_file(path)

        assert "keep it" in caught.value.hint
        assert names_in(path.parent) == ["key"]
        if kind == "file":
            assert path.read_text() == "dear"

    def test_where_it_cannot_be_written_it_is_an_error(self, open_dir, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        (open_dir / "theirs").mkdir(mode=0o755)

        with as_nobody(), pytest.raises(StorageError, match="Permission denied"):
            create_key_file(open_dir / "theirs" / "key")

        assert names_in(open_dir / "theirs") == []

    def test_a_disk_that_fails_leaves_nothing(self, path, monkeypatch):
        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)

        with pytest.raises(StorageError, match="No space left"):
            create_key_file(path)

        assert not path.exists()

    def test_no_representation_shows_it(self, path):
        made = create_key_file(path)

        assert path.read_text().strip() not in repr(made)
        assert repr(made.secret) not in repr(made)


class TestTheHostKey:
    def test_it_is_made_once_and_for_its_owner_only(self, tmp_path):
        state = tmp_path / "state"

        first = load_or_create_host_key(state)
        second = load_or_create_host_key(state)

        assert first.secret == second.secret
        assert stat.S_IMODE((state / HOST_KEY_NAME).stat().st_mode) == 0o600
        assert names_in(state) == [HOST_KEY_NAME]

    def test_all_of_several_first_runs_at_once_get_the_same(self, tmp_path):
        start, found = threading.Barrier(8), []

        def load():
            start.wait()
            found.append(load_or_create_host_key(tmp_path / "state").secret)

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 8
        assert len(set(found)) == 1
        assert names_in(tmp_path / "state") == [HOST_KEY_NAME]

    @pytest.mark.parametrize("content", [b"", b"garbage", b"A" * 45])
    def test_a_damaged_one_is_an_error_and_stays(self, tmp_path, content):
        write(tmp_path / HOST_KEY_NAME, content)

        with pytest.raises(SecretKeyError, match="is not a signing key") as caught:
            load_or_create_host_key(tmp_path)

        assert "move it away" in caught.value.hint
        assert (tmp_path / HOST_KEY_NAME).read_bytes() == content

    def test_one_that_others_may_read_is_refused(self, tmp_path):
        load_or_create_host_key(tmp_path)
        (tmp_path / HOST_KEY_NAME).chmod(0o644)

        with pytest.raises(SecretKeyError, match="can be read by others"):
            load_or_create_host_key(tmp_path)

    def test_a_state_directory_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(SecretKeyError, match="Not a directory"):
            load_or_create_host_key(tmp_path / "file")


class TestAKeyTypedFromPaper:
    def test_blanks_and_line_breaks_do_not_count(self, path, key):
        groups = " ".join(key[at : at + 4] for at in range(0, 44, 4))
        write(path, f"{groups[:27]}\n{groups[27:]}\n".encode())

        assert load_key_file(path) == FernetKey.parse(key)


class TestAnIdentityFile:
    def test_it_holds_the_private_half_and_beside_it_lies_the_public_one(self, path):
        made = create_identity_file(path)

        assert load_identity_file(path) == made
        assert load_recipients(path.with_name("key.pub")) == [made.recipient()]
        assert names_in(path.parent) == ["key", "key.pub"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_it_tells_its_public_key_in_a_comment(self, path):
        made = create_identity_file(path)

        assert f"# {made.recipient().text()}\n" in path.read_text()
        assert made.text() not in path.with_name("key.pub").read_text()

    @pytest.mark.parametrize("existing", ["key", "key.pub"])
    def test_nothing_is_ever_replaced_and_nothing_left_beside_it(self, path, existing):
        write(path.with_name(existing), b"dear")

        with pytest.raises(SecretKeyError, match="already"):
            create_identity_file(path)

        assert names_in(path.parent) == [existing]
        assert path.with_name(existing).read_bytes() == b"dear"

    @pytest.mark.parametrize("at", [30, 100, -3])
    def test_a_typing_mistake_is_refused_without_showing_it(self, path, at):
        line = bytearray(HpkeIdentity.generate().text().encode())
        line[at] = ord("A") if line[at] != ord("A") else ord("B")
        write(path, bytes(line) + b"\n")

        with pytest.raises(SecretKeyError, match="mistyped or incomplete") as caught:
            load_identity_file(path)

        assert line[30:60].decode() not in str(caught.value)

    def test_not_even_one_in_bits_that_mean_nothing(self, path):
        line = HpkeIdentity.generate().text()
        alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
        for other in range(1, 16):  # of the last character only two bits count
            last = alphabet[alphabet.index(line[-3]) ^ other]
            write(path, (line[:-3] + last + line[-2:]).encode())

            with pytest.raises(SecretKeyError, match="mistyped or incomplete"):
                load_identity_file(path)

    def test_one_that_was_cut_off_is_refused(self, path):
        write(path, HpkeIdentity.generate().text()[:-4].encode())

        with pytest.raises(SecretKeyError, match="mistyped or incomplete"):
            load_identity_file(path)

    def test_two_of_them_are_none(self, path):
        text = HpkeIdentity.generate().text()
        write(path, f"{text}\n{text}\n".encode())

        with pytest.raises(SecretKeyError, match="not exactly one line"):
            load_identity_file(path)

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_one_that_others_may_read_is_refused(self, path, mode):
        create_identity_file(path)
        path.chmod(mode)

        with pytest.raises(SecretKeyError, match="can be read by others"):
            load_identity_file(path)

    def test_in_place_of_a_key_file_it_is_told_how_to_name_it(self, path):
        create_identity_file(path)

        with pytest.raises(SecretKeyError) as caught:
            load_key_file(path)

        assert caught.value.hint == "it is an identity file: name it with --identity"


class TestAPassphraseFile:
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_the_line_break_at_its_end_is_not_part_of_it(self, path, end):
        write(path, "  two wörds ".encode() + end)

        assert load_passphrase_file(path) == "  two wörds "

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "is empty"),
            (b"\n", "is empty"),
            (b"  \n", "is empty"),
            (b"\xff\xfe", "is not UTF-8"),
            (b"one\ntwo\n", "more than one line"),
            (b"x" * 5000, "longer than 4096"),
            (b"x" * 100_000, "longer than"),
        ],
    )
    def test_what_is_none_is_refused(self, path, content, told):
        write(path, content)

        with pytest.raises(SecretKeyError, match=told):
            load_passphrase_file(path)

    def test_one_that_others_may_read_is_refused(self, path):
        write(path, b"secret", 0o644)

        with pytest.raises(SecretKeyError, match="can be read by others"):
            load_passphrase_file(path)

    def test_it_is_the_same_in_every_form_of_unicode(self):
        core = make_core(
            snapshot_id=bytes(16),
            chain=bytes(16),
            sequence=1,
            time=1,
            archive=ArchiveType.TAR,
            previous=None,
        )
        cheap = Argon2Cost(memory=64, time=1, lanes=1)
        slot = PassphraseRecipient("caf\u00e9", cost=cheap).wrap(bytes(32), core)

        assert PassphraseIdentity("cafe\u0301").unwrap(slot, core) == bytes(32)
        assert PassphraseIdentity("cafe").unwrap(slot, core) is None


class TestFilesOfOtherUsers:
    @pytest.mark.parametrize("load", [load_key_file, load_passphrase_file, load_identity_file])
    def test_a_secret_that_another_user_could_change_is_refused(self, path, key, load):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        write(path, key.encode())
        os.chown(path, NOBODY, NOBODY)

        with pytest.raises(SecretKeyError, match=f"belongs to another user .number {NOBODY}"):
            load(path)

    def test_one_of_root_is_taken_where_it_can_be_read(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        write(open_dir / "key", key.encode())
        file = os.open(open_dir / "key", os.O_RDONLY)
        try:
            with as_nobody():
                found = os.fstat(file)
                assert found.st_uid == 0
                _refuse_if_open(open_dir / "key", found, {0, os.geteuid()})
        finally:
            os.close(file)

    def test_a_symbolic_link_to_a_private_file_is_followed(self, path, key):
        write(path, key.encode())
        path.with_name("link").symlink_to(path)

        assert load_key_file(path.with_name("link")) == FernetKey.parse(key)


class TestFileSystemsLikeFat:
    def test_where_there_are_no_links_a_key_is_made_all_the_same(self, path, monkeypatch):
        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

        made = create_key_file(path)

        assert load_key_file(path) == made
        assert names_in(path.parent) == ["key"]
        with pytest.raises(SecretKeyError, match="already"):
            create_key_file(path)
        assert load_key_file(path) == made

    def test_where_there_are_no_modes_no_secret_is_written(self, path, monkeypatch):
        written = []
        really_open = os.open

        def as_fat_does(name, flags, *rest, **named):
            file = really_open(name, flags, *rest, **named)
            if flags & os.O_CREAT:
                os.fchmod(file, 0o755)
            return file

        monkeypatch.setattr(os, "open", as_fat_does)
        monkeypatch.setattr(os, "write", lambda *_: written.append(1))

        with pytest.raises(StorageError, match="keeps no modes") as caught:
            create_key_file(path)

        assert "umask=077" in caught.value.hint
        assert names_in(path.parent) == []
        assert written == []
