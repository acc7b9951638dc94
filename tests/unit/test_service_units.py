"""The units of all profiles: what they say, and what systemd says about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backup.config.models import Configuration
from backup.errors import ConfigError
from backup.pool.machine import Machine
from backup.service.credentials import Credential
from backup.service.marking import Found, judge, marked
from backup.service.needs import (
    in_homes,
    in_temporary,
    local_stores,
    most_memory,
    most_tasks,
    needs_network,
    sources_of,
    writable_paths,
)
from backup.service.unit import Needs, Profile, unit_text
from tests.unit_files import analyze, service, settings

GIB = 2**30
MACHINE = Machine(cores=4, memory=16 * GIB)
PROGRAM = ("/usr/bin/true", "--config=/etc/auto-backup/config.yaml", "daemon", "run")
KEY = Credential("key", Path("/etc/auto-backup/key"), "AUTO_BACKUP_KEY_FILE")


def configuration(**job):
    known = {"sources": ["/srv"], "stores": ["/var/backups/auto-backup"]}
    return Configuration.model_validate({"version": 1, "jobs": {"one": known | job}})


def needs(**said):
    return Needs(command=PROGRAM, **said)


ONLINE = needs(
    credentials=(KEY, KEY._replace(name="identity", variable="AUTO_BACKUP_IDENTITY")),
    writable=("-/srv/two words/100%", "-/var/backups"),
    environment=(("AUTO_BACKUP_HOST", "web1"), ("AUTO_BACKUP_SIGNERS", '/root/a "b" \\c %d')),
    network=True,
    homes=True,
    memory=3 * GIB,
)
EVERYWHERE = needs(writable=("-/srv",), homes=True, temporary=True)
LOCAL = needs(credentials=(KEY,), writable=("-/var/backups/auto-backup",))
ENCRYPTED = needs(
    credentials=(KEY._replace(path=Path("/etc/auto-backup/key.cred"), encrypted=True),)
)
CASES = {
    "online": ONLINE,
    "local": LOCAL,
    "everywhere": EVERYWHERE,
    "encrypted": ENCRYPTED,
    "bare": needs(),
}


class TestProfiles:
    def test_the_reader_has_one_capability_and_a_user_of_its_own(self):
        said = service(unit_text(Profile.READER, LOCAL))

        assert said["AmbientCapabilities"] == ["CAP_DAC_READ_SEARCH"]
        assert said["CapabilityBoundingSet"] == ["CAP_DAC_READ_SEARCH"]
        assert (said["User"], said["Group"]) == (["auto-backup"], ["auto-backup"])

    def test_root_has_those_of_files_and_of_other_users(self):
        said = service(unit_text(Profile.ROOT, LOCAL))

        capabilities = set(" ".join(said["CapabilityBoundingSet"]).split())
        assert {"CAP_CHOWN", "CAP_FOWNER", "CAP_SETFCAP", "CAP_SETUID"} < capabilities
        assert not {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"} & capabilities
        assert "User" not in said
        assert "RestrictSUIDSGID" not in said, "restored files may have such bits"

    def test_a_users_own_says_nothing_that_needs_root(self):
        text = unit_text(Profile.USER, ONLINE)

        forbidden = {"User", "StateDirectory", "AmbientCapabilities", "ProtectSystem"}
        assert forbidden & service(text).keys() == set()
        assert settings(text)["Install"]["WantedBy"] == ["default.target"]

    @pytest.mark.parametrize("profile", Profile)
    def test_each_is_watched_and_started_again(self, profile):
        said = service(unit_text(profile, LOCAL))

        assert said["Type"] == ["notify"]
        assert said["Restart"] == ["always"]
        assert said["KillMode"] == ["mixed"]
        assert said["ExecReload"] == ["kill -HUP $MAINPID"]
        assert said["WatchdogSec"] == ["5min"]
        assert said["SystemCallErrorNumber"] == ["EPERM"]

    @pytest.mark.parametrize("profile", [Profile.READER, Profile.ROOT])
    def test_a_service_of_the_system_has_its_state_where_systemd_makes_it(self, profile):
        said = service(unit_text(profile, LOCAL))

        assert said["StateDirectory"] == said["RuntimeDirectory"] == ["auto-backup"]
        assert said["RuntimeDirectoryMode"] == ["0750"]
        assert "AUTO_BACKUP_STATE_DIR=%S/auto-backup" in said["Environment"]

    def test_keys_are_handed_over_by_systemd(self):
        said = service(unit_text(Profile.READER, LOCAL))

        assert said["LoadCredential"] == ["key:/etc/auto-backup/key"]
        assert "AUTO_BACKUP_KEY_FILE=%d/key" in said["Environment"]

    def test_encrypted_ones_as_such(self):
        said = service(unit_text(Profile.ROOT, ENCRYPTED))

        assert said["LoadCredentialEncrypted"] == ["key:/etc/auto-backup/key.cred"]
        assert "LoadCredential" not in said

    def test_only_a_configuration_that_needs_it_gets_the_network(self):
        offline = service(unit_text(Profile.READER, LOCAL))
        online = service(unit_text(Profile.READER, ONLINE))

        assert offline["PrivateNetwork"] == ["yes"]
        assert offline["RestrictAddressFamilies"] == ["AF_UNIX"]
        assert "PrivateNetwork" not in online
        assert online["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]

    def test_homes_and_temporary_files_are_hidden_where_nothing_is_there(self):
        hidden = service(unit_text(Profile.READER, LOCAL))
        shown = service(unit_text(Profile.READER, EVERYWHERE))

        assert (hidden["ProtectHome"], hidden["PrivateTmp"]) == (["yes"], ["yes"])
        assert (shown["ProtectHome"], shown["PrivateTmp"]) == (["read-only"], ["no"])


class TestNames:
    def test_words_keep_their_blanks_quotes_and_percent_signs(self):
        command = ("/opt/my own/auto-backup", '--config=/etc/100%/$HOME/a\\b "c".yaml')

        (line,) = service(unit_text(Profile.READER, Needs(command=command)))["ExecStart"]

        program, config = line.removeprefix(":").split('" "')
        assert line.startswith(":"), "no variable is put in"
        assert program == '"/opt/my own/auto-backup'
        assert config == '--config=/etc/100%%/$HOME/a\\\\b \\"c\\".yaml"'

    @pytest.mark.parametrize("letter", ["'", '"', "\\"])
    def test_a_program_whose_name_systemd_does_not_take_is_refused(self, letter):
        with pytest.raises(ConfigError, match="systemd starts no program"):
            unit_text(Profile.ROOT, Needs(command=(f"/opt/{letter}/auto-backup",)))

    @pytest.mark.parametrize("name", ["/srv/two\nlines", "/srv/\udcff", "/srv/end "])
    def test_what_systemd_cannot_take_is_refused(self, name):
        with pytest.raises(ConfigError, match="systemd cannot take the name"):
            unit_text(Profile.READER, needs(writable=(name,)))


class TestWhatAConfigurationNeeds:
    def test_its_stores_are_writable_though_they_may_be_absent(self):
        assert list(writable_paths(configuration(), [])) == ["-/var/backups/auto-backup"]

    def test_of_a_disk_that_comes_and_goes_the_place_where_it_is_mounted(self):
        said = configuration(stores=["/srv/disk/a/b"], only_if={"mounted": "/srv/disk"})
        usual = configuration(stores=["/mnt/usb/a"])

        assert list(writable_paths(said, [])) == ["-/srv/disk"]
        assert list(writable_paths(usual, ["/", "/mnt/usb"])) == ["-/mnt/usb"]
        assert list(writable_paths(usual, ["/"])) == ["-/mnt/usb/a"]

    def test_a_disk_that_stays_is_not_writable_as_a_whole(self):
        said = configuration(stores=["/var/backups/a"])

        assert list(writable_paths(said, ["/", "/var"])) == ["-/var/backups/a"]

    @pytest.mark.parametrize(
        ("job", "expected"),
        [
            ({}, False),
            ({"only_if": {"mounted": "/mnt"}}, False),
            ({"only_if": {"reachable": "db1:5432"}}, True),
            ({"only_if": {"command": ["/usr/bin/test"]}}, True),
        ],
    )
    def test_conditions_may_need_the_network(self, job, expected):
        assert needs_network(configuration(**job)) is expected

    @pytest.mark.parametrize(
        ("source", "home", "temporary"),
        [
            ("/srv", False, False),
            ("/home/ann", True, False),
            ("/", True, True),
            ("/var", False, True),
            ("/tmp/x", False, True),  # noqa: S108 - a path
            ("/homes", False, False),
        ],
    )
    def test_sources_in_homes_and_around_them_are_seen(self, source, home, temporary):
        sources = sources_of(configuration(sources=[source]))

        assert in_homes(sources) is home
        assert in_temporary(sources) is temporary

    def test_links_are_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")

        assert local_stores(configuration(stores=[str(tmp_path / "link")])) == [tmp_path / "real"]

    def test_memory_leaves_two_runs_what_they_take(self):
        most = most_memory(configuration(compression="zstd", workers=8), MACHINE)

        assert 2 * (96 + 8 * 54) * 2**20 < most < 2 * GIB

    def test_the_limit_costs_xz_no_worker(self):
        most = most_memory(configuration(compression="xz"), MACHINE)
        inside = MACHINE._replace(memory=most or MACHINE.memory)

        from backup.manager.frame_pool import plan_workers  # noqa: PLC0415
        from backup.model import ArchiveType  # noqa: PLC0415

        assert plan_workers(inside, ArchiveType.TAR_XZ, 6) == 4

    def test_a_small_machine_has_no_limit_but_its_own(self):
        assert most_memory(configuration(), Machine(cores=2, memory=GIB)) is None

    def test_more_workers_may_be_more_processes(self):
        few, many = (most_tasks(configuration(workers=n), MACHINE) for n in (1, 64))

        assert few >= 128
        assert many >= 2 * 64


class TestMarks:
    def test_a_file_of_ours_is_known_and_so_are_its_changes(self):
        text = marked("a\nb\n")

        assert judge(None) is Found.NOTHING
        assert judge(text) is Found.OURS
        assert judge(text + "c\n") is Found.CHANGED
        assert judge("a\nb\n") is Found.FOREIGN


class TestSystemd:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("profile", Profile)
    def test_it_finds_nothing_wrong(self, profile, case, tmp_path):
        unit = tmp_path / "auto-backup.service"
        unit.write_text(unit_text(profile, CASES[case]))

        manager = "--user" if profile is Profile.USER else "--system"
        assert analyze(manager, "verify", "--man=no", unit) == (0, "")

    def test_it_finds_a_program_of_any_name(self, tmp_path):
        program = tmp_path / "my own $HOME 100%" / "auto-backup"
        unit = tmp_path / "auto-backup.service"
        unit.write_text(unit_text(Profile.ROOT, Needs(command=(str(program), "daemon", "run"))))
        assert "not executable" in analyze("--system", "verify", "--man=no", unit)[1]

        program.parent.mkdir()
        program.touch(mode=0o755)
        assert analyze("--system", "verify", "--man=no", unit) == (0, "")

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize(
        ("profile", "most"), [(Profile.READER, 17), (Profile.ROOT, 30)], ids=["reader", "root"]
    )
    def test_the_exposure_is_low(self, profile, most, case, tmp_path):
        unit = tmp_path / "auto-backup.service"
        unit.write_text(unit_text(profile, CASES[case]))

        status, told = analyze("security", "--offline=true", f"--threshold={most}", unit)

        assert status == 0, told

    def test_homes_temporary_files_and_the_network_at_once_cost_a_tenth(self, tmp_path):
        unit = tmp_path / "auto-backup.service"
        unit.write_text(unit_text(Profile.READER, replace(ONLINE, temporary=True)))

        assert analyze("security", "--offline=true", "--threshold=18", unit)[0] == 0

    def test_with_local_stores_it_is_lower_by_far(self, tmp_path):
        unit = tmp_path / "auto-backup.service"
        unit.write_text(unit_text(Profile.READER, LOCAL))

        assert analyze("security", "--offline=true", "--threshold=7", unit)[0] == 0

    def test_a_higher_exposure_would_be_found(self, tmp_path):
        unit = tmp_path / "auto-backup.service"
        text = unit_text(Profile.READER, ONLINE)
        unit.write_text(text.replace("ProtectSystem=strict\n", "").replace("CapabilityB", "# "))

        assert analyze("security", "--offline=true", "--threshold=17", unit)[0] != 0
