"""The service below a real systemd: process 1 of namespaces of its own, over a layer in memory.

``machines`` boots it; ``systemd/probe.py`` finds out there what is judged here.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pytest
from machines import DEPTH, boot

READER = 1 << 2  # CAP_DAC_READ_SEARCH
# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID; SETFCAP
OF_ROOT = 0xFF | 1 << 31
USER = {"reader": "auto-backup", "root": "root"}
STATE, STORE = "/var/lib/auto-backup", "/var/backups/auto-backup"
OFFLINE = {"reader": 0.6, "root": 1.8}  # exposure, as docs/SERVICE.md has it
ONLINE = {"reader": 1.7, "root": 3.0}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return boot("reader", tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return boot("root", tmp_path_factory.mktemp("root"))


@pytest.fixture(params=["reader", "root"])
def either(request):
    return request.getfixturevalue(request.param)


def capabilities(found, kind):
    return int(found["process"][f"Cap{kind}"], 16)


def exposure(text):
    return float(re.search(r"exposure level for \S+: ([\d.]+)", text)[1])


class TestInstalled:
    def test_systemd_is_process_1(self, either):
        assert either["process_1"] == "systemd"

    def test_the_installation_says_that_it_runs(self, either):
        done = either.of("install")["done"]
        assert (done["status"], done["err"]) == (0, "")
        assert "the service runs" in done["out"]

    def test_each_job_can_be_run(self, either):
        assert either.of("install")["fit"]["status"] == 0

    def test_it_has_told_that_it_is_ready_when_the_installation_ends(self, either):
        unit = either.of("install")["unit"]
        assert (unit["Type"], unit["ActiveState"], unit["SubState"]) == (
            "notify",
            "active",
            "running",
        )

    def test_it_starts_at_each_boot(self, either):
        assert either.of("install")["unit"]["UnitFileState"] == "enabled"

    def test_its_status_line_says_what_is_next(self, either):
        assert re.fullmatch(r"next: closed at .*\d\d:\d\d", either.of("run")["unit"]["StatusText"])

    def test_another_job_is_taken_in_by_the_same_command(self, either):
        again = either.of("condition")["again"]
        assert again["status"] == 0
        assert "the service runs" in again["out"]


class TestRights:
    def test_the_reader_is_a_user_of_its_own(self, reader):
        process, unit = reader.of("run")["process"], reader.of("run")["unit"]
        assert unit["User"] == "auto-backup"
        assert "0" not in process["Uid"].split() + process["Gid"].split()

    def test_root_is_root(self, root):
        assert set(root.of("run")["process"]["Uid"].split()) == {"0"}

    @pytest.mark.parametrize("kind", ["Inh", "Prm", "Eff", "Bnd", "Amb"])
    def test_the_reader_may_read_every_file_and_nothing_more(self, reader, kind):
        assert capabilities(reader.of("run"), kind) == READER

    @pytest.mark.parametrize(
        ("kind", "expected"), [("Prm", OF_ROOT), ("Eff", OF_ROOT), ("Bnd", OF_ROOT), ("Amb", 0)]
    )
    def test_root_has_nine_capabilities(self, root, kind, expected):
        assert capabilities(root.of("run"), kind) == expected

    def test_system_calls_are_filtered(self, either):
        assert either.of("run")["process"]["Seccomp"] == "2"

    def test_nothing_that_it_starts_gets_more_rights(self, either):
        assert either.of("run")["process"]["NoNewPrivs"] == "1"

    def test_with_local_stores_alone_it_has_no_network(self, either):
        assert either.of("run")["has_own_network"]

    def test_systemd_thinks_of_the_running_unit_what_the_documents_say(self, either):
        profile = either["profile"]
        assert exposure(either.of("run")["security"]) <= OFFLINE[profile]
        assert exposure(either.of("condition")["security"]) <= ONLINE[profile]


class TestKeys:
    def test_the_key_is_the_copy_that_systemd_hands_over(self, either):
        variables = either.of("run")["variables"]
        expected = "/run/credentials/auto-backup.service/key"
        assert variables["AUTO_BACKUP_KEY_FILE"] == expected

    def test_the_copy_is_for_the_service_alone(self, either):
        user = USER[either["profile"]]
        found = either.of("run")["credential"]
        assert {one.partition(":")[0] for one in found.values()} == {user}
        assert {one.partition(" ")[2] for one in found.values()} == {"0500", "0400"}

    def test_the_key_stays_with_root(self, either):
        assert list(either.of("run")["key"].values()) == ["root:root 0600"]


class TestRuns:
    def test_a_file_that_only_root_may_read_is_in_the_snapshot(self, either):
        letter = either.of("run")["letter"]
        assert (letter["status"], letter["out"]) == (0, "Dear Ann\n")

    def test_what_root_has_saved_before_is_known_and_opens(self, either):
        assert either.of("run")["earlier"]["out"] == "Dear Ann\n"
        assert {one["job"] for one in either.of("run")["snapshots"]} == {"before", "closed"}

    def test_a_condition_of_the_reader_cannot_read_that_file(self, reader):
        found = reader.of("condition")
        assert found["outcome"] == "/usr/bin/may-begin says no: exit status 1"
        assert found["answer"].startswith("auto-backup\n")

    def test_a_condition_of_the_reader_has_no_capabilities(self, reader):
        held = re.findall(r"Cap\w+:\s*(\w+)", reader.of("condition")["answer"])
        assert [int(one, 16) for one in held] == [0, 0]

    def test_a_condition_of_root_can_read_it_and_so_the_job_has_run(self, root):
        assert root.of("condition")["job"]["outcome"] == "done"

    def test_a_condition_gets_nothing_that_leads_to_keys_or_to_systemd(self, either):
        answer = either.of("condition")["answer"]
        assert not re.search("CREDENTIALS|AUTO_BACKUP|NOTIFY|WATCHDOG", answer)


class TestAsking:
    def test_a_run_by_hand_is_the_services(self, either):
        found = either.of("hand_over")
        assert (found["done"]["status"], found["done"]["err"]) == (0, "")
        assert "saved 2 entries" in found["done"]["out"]
        assert found["begun"] == 1
        assert (found["last"]["cause"], found["last"]["outcome"]) == ("by hand", "done")

    def test_root_learns_how_the_jobs_are(self, either):
        told = json.loads(either.of("hand_over")["status"]["out"])
        assert [one["job"] for one in told["jobs"]] == ["before", "closed", "asked"]

    def test_so_does_a_member_of_the_group(self, either):
        status = either.of("hand_over")["ann"]["status"]
        assert status["status"] == 0, status
        assert re.search(r"^closed +ok", status["out"], re.MULTILINE)

    def test_another_user_is_refused(self, either):
        found = either.of("hand_over")["otto"]
        assert found["status"]["status"] == 2
        assert found["status"]["out"] == ""
        assert "PermissionError" in found["socket"]["err"]


class TestReload:
    def test_a_bad_configuration_is_told_in_the_status_line(self, either):
        unit = either.of("reload")["unit"]
        assert unit["ActiveState"] == "active"
        assert "config.yaml:8: jobs.closed.schedule" in unit["StatusText"]
        assert "it is not used; the one before goes on" in either.of("reload")["journal"]

    def test_the_old_one_goes_on(self, either):
        assert either.of("reload")["jobs"] == ["before", "closed", "asked"]

    def test_the_command_tells_what_is_wrong(self, either):
        told = either.of("reload")["by_command"]
        assert told["status"] == 2
        assert "the daemon goes on by the old one" in told["err"]

    def test_a_good_one_is_used_by_the_same_process(self, either):
        found = either.of("reload")
        assert found["good"]["status"] == 0
        assert found["same"]


class TestEnding:
    def test_it_does_not_end_by_itself(self, either):
        before = either.of("kill")["before"]
        assert before["NRestarts"] == "0", either.of("hang")["journal"]

    def test_a_daemon_that_was_killed_is_started_again(self, either):
        before, unit = either.of("kill")["before"], either.of("kill")["unit"]
        assert unit["ActiveState"] == "active"
        assert int(unit["NRestarts"]) == int(before["NRestarts"]) + 1

    def test_its_run_counts_as_interrupted_and_is_made_up_for(self, either):
        found = either.of("kill")
        assert found["first"]["outcome"] == "interrupted"
        again, ended = (
            datetime.fromisoformat(one) for one in (found["job"]["next"], found["first"]["ended"])
        )
        assert again - ended < timedelta(minutes=1, seconds=5)
        assert DEPTH == "ci" or found["again"]

    def test_it_is_stopped_within_5_seconds_while_a_run_goes_on(self, either):
        found = either.of("stop")
        assert found["seconds"] < 5
        assert (found["unit"]["ActiveState"], found["unit"]["Result"]) == ("inactive", "success")
        assert found["ended"] == 1  # in good order

    def test_the_run_is_recorded_and_leaves_no_file(self, either):
        found = either.of("stop")
        assert found["last"]["outcome"] == "interrupted"
        assert found["partial"] == []

    def test_one_that_hangs_is_started_again(self, either):
        unit = either.of("hang")["unit"]
        assert unit["ActiveState"] == "active"
        assert unit["NRestarts"] != "0"
        assert "auto-backup.service: Watchdog timeout" in either.of("hang")["journal"]


class TestOwners:
    def test_all_of_state_and_store_is_the_services(self, either):
        user = USER[either["profile"]]
        found = either.of("hang")["owners"]
        strange = {
            path: one
            for path, one in found.items()
            if path.startswith((STATE, STORE)) and not one.startswith(f"{user}:{user} ")
        }
        assert {STATE, STORE, f"{STATE}/runs.sqlite", f"{STATE}/host-signing-key"} <= set(found)
        assert strange == {}

    def test_nobody_else_may_look_into_them(self, either):
        found = either.of("hang")["owners"]
        assert {found[one].partition(" ")[2] for one in (STATE, STORE)} == {"0700"}

    def test_the_socket_is_for_the_group(self, either):
        user = USER[either["profile"]]
        found = either.of("hang")["owners"]
        assert found["/run/auto-backup"] == f"{user}:auto-backup 0750"
        assert found["/run/auto-backup/control.sock"] == f"{user}:auto-backup 0660"


class TestUninstalled:
    def test_it_has_ended_and_systemd_knows_it_no_more(self, either):
        found = either.of("uninstall")
        assert found["done"]["status"] == 0
        assert (found["unit"]["ActiveState"], found["unit"]["UnitFileState"]) == ("inactive", "")

    def test_only_state_and_users_are_left_of_it(self, either):
        """What useradd and systemd-sysusers keep of the files that they change does not count."""
        before = set(either.of("prepare")["names"])
        after = set(either.of("uninstall")["names"])
        files_of_users = r"/etc/(\.pwd\.lock|sysusers\.d|(passwd|shadow|group|gshadow|sub[ug]id)-?)"
        new = {one for one in after - before if not re.fullmatch(files_of_users, one)}
        mail = {one for one in new if one.startswith(("/var/mail", "/var/spool/mail"))}
        assert new - mail == {STATE}
        assert before - after == {one for one in before if "/auto-backup.service.d" in one}

    def test_the_configuration_stays(self, either):
        found = either.of("uninstall")["owners"]
        group = "auto-backup" if either["profile"] == "reader" else "root"
        assert found["/etc/auto-backup/config.yaml"].startswith(f"root:{group} 06")
        assert "/etc/auto-backup/key" in found


class TestOfOneUser:
    """``service install --user``, below a systemd of that user."""

    def test_it_is_installed_runs_and_takes_a_snapshot(self, reader):
        found = reader.of("of_user")
        assert found["done"]["status"] == 0, found["done"]
        assert {"Type=notify", "ActiveState=active", "UnitFileState=enabled"} <= set(
            found["unit"].splitlines()
        )

    def test_it_is_uninstalled_and_nothing_is_said_of_the_machines(self, reader):
        found = reader.of("of_user")
        assert found["gone"]["status"] == 0
        assert found["active"] == "inactive"
        assert "/var/lib/auto-backup" not in found["gone"]["err"]
        assert "the user auto-backup" not in found["gone"]["err"]
