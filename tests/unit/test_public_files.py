from __future__ import annotations

import os

import pytest

from backup.errors import ConfigError, InvalidArgumentError, SecretKeyError
from backup.keys import create_identity_file
from backup.public_files import (
    append_recipient,
    append_signer,
    load_recipients,
    load_signers,
    recipients_of,
    recipients_to_add,
    remove_recipient,
)
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.recipients import FernetKey
from tests.conftest import NOBODY

FIRST, SECOND = (HpkeIdentity.generate() for _ in range(2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "list"


class TestPublicKeys:
    def test_a_file_has_one_a_line_and_comments(self, path):
        path.write_text(f"# ours\n{FIRST.recipient().text()}\n\n  {SECOND.recipient().text()}\n")

        assert load_recipients(path) == [FIRST.recipient(), SECOND.recipient()]

    def test_one_may_be_given_as_text(self):
        assert recipients_of(FIRST.recipient().text()) == [FIRST.recipient()]

    @pytest.mark.parametrize("at", [24, 40, 900, -1])
    def test_every_typing_mistake_is_refused(self, at):
        text = FIRST.recipient().text()
        wrong = text[:at] + ("A" if text[at] != "A" else "B") + text[at:][1:]

        with pytest.raises(InvalidArgumentError, match="mistyped or incomplete"):
            recipients_of(wrong)

    @pytest.mark.parametrize("cut", [1, 4, 100])
    def test_one_that_was_cut_off_is_refused(self, cut):
        with pytest.raises(InvalidArgumentError, match="mistyped or incomplete"):
            recipients_of(FIRST.recipient().text()[:-cut])

    def test_the_line_that_is_wrong_is_told(self, path):
        path.write_text(f"{FIRST.recipient().text()}\nage1xyz\n")

        with pytest.raises(ConfigError, match=f"line 2 of {path}"):
            load_recipients(path)

    @pytest.mark.parametrize("content", ["", "# nothing yet\n"])
    def test_a_file_without_any_is_refused(self, path, content):
        path.write_text(content)

        with pytest.raises(ConfigError, match="there is no public key"):
            load_recipients(path)

    def test_a_private_key_as_text_is_refused_and_not_shown(self):
        with pytest.raises(SecretKeyError, match="does not belong on a command line") as caught:
            recipients_of(FIRST.text())

        assert FIRST.text()[40:60] not in f"{caught.value} {caught.value.hint}"

    def test_a_file_with_a_private_key_is_refused_and_not_shown(self, path):
        path.write_text(FIRST.text())

        with pytest.raises(SecretKeyError, match="holds a private key") as caught:
            recipients_of(str(path))

        assert FIRST.text()[40:60] not in f"{caught.value} {caught.value.hint}"

    @pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
    def test_a_list_that_others_can_change_is_refused(self, path, mode):
        path.write_text(FIRST.recipient().text())
        path.chmod(mode)

        with pytest.raises(ConfigError, match="others can change"):
            load_recipients(path)

    def test_a_list_of_another_user_is_refused(self, path):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        path.write_text(FIRST.recipient().text())
        os.chown(path, NOBODY, NOBODY)

        with pytest.raises(ConfigError, match="others can change"):
            load_recipients(path)

    def test_one_that_everybody_may_read_is_taken(self, path):
        path.write_text(FIRST.recipient().text())
        path.chmod(0o644)

        assert load_recipients(path) == [FIRST.recipient()]


class TestWhoIsToBeAdded:
    def test_a_key_file_is_its_key(self, key_file, key):
        assert recipients_to_add(str(key_file)) == [FernetKey.parse(key)]

    def test_an_identity_file_is_its_public_half(self, path):
        made = create_identity_file(path)

        assert recipients_to_add(str(path)) == [made.recipient()]

    def test_a_file_of_public_keys_is_these(self, path):
        path.write_text(FIRST.recipient().text())

        assert recipients_to_add(str(path)) == [FIRST.recipient()]

    def test_a_file_that_is_missing_is_an_error(self, path):
        with pytest.raises(ConfigError, match="there is no file"):
            recipients_to_add(str(path))


class TestChangingTheList:
    def test_what_is_added_is_in_it_once(self, path):
        assert append_recipient(path, FIRST.recipient())
        assert not append_recipient(path, FIRST.recipient())
        assert append_recipient(path, SECOND.recipient())

        assert load_recipients(path) == [FIRST.recipient(), SECOND.recipient()]

    def test_what_people_wrote_stays(self, path):
        path.write_text(f"# the safe in the cellar\n{FIRST.recipient().text()}")

        append_recipient(path, SECOND.recipient())
        remove_recipient(path, SECOND.recipient().id)

        assert path.read_text() == f"# the safe in the cellar\n{FIRST.recipient().text()}\n"

    def test_what_is_removed_is_gone_with_its_comment(self, path):
        append_recipient(path, FIRST.recipient())
        append_recipient(path, SECOND.recipient())

        assert remove_recipient(path, FIRST.recipient().id)
        assert not remove_recipient(path, FIRST.recipient().id)

        assert load_recipients(path) == [SECOND.recipient()]
        assert FIRST.recipient().id not in path.read_text()

    def test_a_list_without_any_is_no_error_then(self, path):
        append_recipient(path, FIRST.recipient())
        remove_recipient(path, FIRST.recipient().id)

        assert append_recipient(path, SECOND.recipient())

    def test_a_secret_never_goes_into_it(self, path, key):
        with pytest.raises(ConfigError, match="public keys only"):
            append_recipient(path, FernetKey.parse(key))

        assert not path.exists()


class TestTrustedHosts:
    def test_a_line_is_a_public_key_and_a_name(self, path):
        path.write_text(f"# ours\n{'ab' * 32}  web 1\n{'cd' * 32}\n")

        assert load_signers(path) == {b"\xab" * 32: "web 1", b"\xcd" * 32: ""}

    def test_one_is_added_once(self, path):
        assert append_signer(path, b"\xab" * 32, "web1")
        assert not append_signer(path, b"\xab" * 32, "other")

        assert load_signers(path) == {b"\xab" * 32: "web1"}

    @pytest.mark.parametrize("line", ["ab" * 16, "ab" * 33, "xy" * 32, "web1 " + "ab" * 32])
    def test_anything_else_is_refused(self, path, line):
        path.write_text(line + "\n")

        with pytest.raises(ConfigError, match="is not the public key of a host"):
            load_signers(path)
