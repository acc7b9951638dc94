"""``only_if``: real sockets, commands and mounts; what stands in /sys is told by a directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from backup.conditions import (
    NO_CONDITIONS,
    Conditions,
    Surroundings,
    make_conditions,
    reason_against,
)
from backup.errors import InvalidArgumentError
from tests.needs import needs
from tests.ordinary_user import python_for_all

EVERYBODY = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"} | {
    one for one in os.environ if one.startswith("LC_")
}


@pytest.fixture
def supplies(tmp_path):
    """Return a function that writes down a power supply, and returns the surroundings."""

    def write(name, **words):
        (tmp_path / "supplies" / name).mkdir(parents=True)
        for word, value in words.items():
            (tmp_path / "supplies" / name / word).write_text(value + "\n")
        return Surroundings(supplies=tmp_path / "supplies")

    return write


MAINS = Conditions(mains_power=True)
ON_BATTERY = "not on mains power"


class TestMainsPower:
    def test_a_machine_without_a_battery_has_it(self, tmp_path, supplies):
        assert reason_against(MAINS, Surroundings(supplies=tmp_path / "nothing")) is None
        assert reason_against(MAINS, supplies("AC", type="Mains", online="0")) is None

    def test_a_laptop_on_its_battery_has_not(self, supplies):
        supplies("AC", type="Mains", online="0")
        around = supplies("BAT0", type="Battery", status="Discharging")

        assert reason_against(MAINS, around) == ON_BATTERY

    @pytest.mark.parametrize("kind", ["Mains", "USB"])
    def test_a_laptop_with_its_charger_has(self, supplies, kind):
        supplies("BAT0", type="Battery", status="Discharging")  # a weak charger
        around = supplies("AC", type=kind, online="1")

        assert reason_against(MAINS, around) is None

    def test_a_full_battery_does_not_feed_the_machine(self, supplies):
        assert reason_against(MAINS, supplies("BAT0", type="Battery", status="Full")) is None

    def test_the_battery_of_a_mouse_is_none_of_the_machine(self, supplies):
        mouse = supplies("hid", type="Battery", status="Discharging", scope="Device")

        assert reason_against(MAINS, mouse) is None


class TestMounted:
    def test_proc_is_and_a_directory_is_not(self, tmp_path):
        assert reason_against(Conditions(mounted=("/proc",))) is None
        assert reason_against(Conditions(mounted=("/proc", str(tmp_path)))) == (
            f"nothing is mounted on {tmp_path}"
        )

    def test_a_link_leads_there(self, tmp_path):
        (tmp_path / "link").symlink_to("/proc")

        assert reason_against(Conditions(mounted=(str(tmp_path / "link"),))) is None

    def test_what_is_not_there_is_not(self, tmp_path):
        assert reason_against(Conditions(mounted=(str(tmp_path / "no"),))) is not None

    def test_names_with_spaces_are_found_without_a_look_at_the_mount(self, tmp_path):
        table = tmp_path / "mountinfo"
        table.write_text(r"36 35 98:0 / /mnt/a\040dead\134disk rw - nfs4 server:/x rw" + "\n")
        around = Surroundings(mounts=table)

        assert reason_against(Conditions(mounted=(r"/mnt/a dead\disk",)), around) is None

    def test_where_only_an_automounter_waits_nothing_is_mounted(self, tmp_path):
        table = tmp_path / "mountinfo"
        table.write_text(f"36 35 0:40 / {tmp_path} rw - autofs systemd-1 rw\n")
        around = Surroundings(mounts=table)

        assert reason_against(Conditions(mounted=(str(tmp_path),)), around) is not None

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ("31 29 8:1 /srv/disk /srv/disk rw - ext4 /dev/sda1 rw", False),
            ("31 29 8:1 /srv/other /srv/disk rw - ext4 /dev/sda1 rw", True),
            ("31 29 8:2 / /srv/disk rw - ext4 /dev/sdb1 rw", True),
            (
                (
                    "31 29 8:1 /srv/disk /srv/disk rw - ext4 /dev/sda1 rw\n"
                    "32 31 8:2 / /srv/disk rw - ext4 /dev/sdb1 rw"
                ),
                True,
            ),
        ],
        ids=["itself", "another directory", "a disk", "a disk over itself"],
    )
    def test_a_directory_over_itself_is_no_disk(self, tmp_path, rows, expected):
        table = tmp_path / "mountinfo"
        table.write_text(f"29 1 8:1 / / rw - ext4 /dev/sda1 rw\n{rows}\n")
        around = Surroundings(mounts=table)

        is_mounted = reason_against(Conditions(mounted=("/srv/disk",)), around) is None

        assert is_mounted is expected

    def test_what_systemd_makes_writable_for_a_service_is_no_disk(self, tmp_path):
        if os.geteuid() != 0:
            pytest.skip("only root can mount")
        condition = Conditions(mounted=(str(tmp_path),))
        done = subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=False)
        needs(done.returncode == 0, "nothing can be mounted here")
        try:
            assert reason_against(condition) is not None
            subprocess.run(["mount", "-t", "tmpfs", "disk", tmp_path], check=True)
            assert reason_against(condition) is None
            subprocess.run(["umount", tmp_path], check=True)
        finally:
            subprocess.run(["umount", "-l", tmp_path], check=True)

    def test_without_the_table_nothing_is(self, tmp_path):
        around = Surroundings(mounts=tmp_path / "none")

        assert reason_against(Conditions(mounted=("/proc",)), around) is not None


class TestReachable:
    def test_what_listens_is(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"

            assert reason_against(Conditions(reachable=(address,))) is None
        assert reason_against(Conditions(reachable=(address,))) == (
            f"cannot reach {address}: connection refused"
        )

    def test_what_does_not_answer_is_not(self):
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            full = [socket.socket() for _ in range(3)]
            for one in full:
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            address = f"127.0.0.1:{server.getsockname()[1]}"
            reason = reason_against(Conditions(reachable=(address,)), Surroundings(connecting=0.2))
            for one in full:
                one.close()

        assert reason == f"cannot reach {address}: no answer in 0.2 s"

    def test_a_name_that_there_is_not(self):
        reason = reason_against(Conditions(reachable=("no-such-host.invalid:5432",)))

        assert reason is not None
        assert reason.startswith("cannot reach no-such-host.invalid:5432: ")


class TestCommand:
    def test_its_status_decides(self, tmp_path):
        asked = Conditions(command=("/usr/bin/test", "-e", str(tmp_path / "x")))

        assert reason_against(asked) == "/usr/bin/test says no: exit status 1"
        (tmp_path / "x").touch()
        assert reason_against(asked) is None

    def test_no_shell_is_involved(self, tmp_path):
        reason_against(Conditions(command=("/bin/echo", ";", "touch", str(tmp_path / "x"))))

        assert not (tmp_path / "x").exists()

    def test_one_that_hangs_is_ended(self):
        asked = Conditions(command=("/bin/sleep", "600"))
        began = time.monotonic()

        assert reason_against(asked, Surroundings(asking=0.2)) == (
            "/bin/sleep says no: no answer in 0.2 s"
        )
        assert time.monotonic() - began < 5

    def test_one_that_is_not_there_says_no(self):
        assert reason_against(Conditions(command=("/no/such",))) == (
            "/no/such says no: cannot start /no/such: No such file or directory"
        )

    def test_it_gets_no_secret_of_the_environment(self, monkeypatch, tmp_path):
        for name in ("AUTO_BACKUP_KEY_FILE", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "HOME"):
            monkeypatch.setenv(name, "secret")
        script = f"env > {tmp_path}/env"

        assert reason_against(Conditions(command=("/bin/sh", "-c", script))) is None
        found = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
        assert found - {"PWD", "SHLVL", "OLDPWD", "_"} <= EVERYBODY
        assert {"HOME", "PATH"} <= found

    def test_it_may_not_read_what_only_the_right_to_save_everything_opens(self, open_dir):
        python, env = python_for_all()
        needs(shutil.which("setpriv"), "setpriv is not installed")
        secret = open_dir / "secret"
        secret.write_text("for root alone")
        secret.chmod(0o600)
        rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        reader = ["setpriv", "--reuid", "65534", "--clear-groups", *rights]
        done = subprocess.run(
            [*reader, python, "-B", "-c", WITH_RIGHTS, secret],
            env=env,
            cwd=open_dir,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines() == [
            "for root alone",  # the process itself
            "for root alone",  # a run of our own command
            "/bin/cat says no: exit status 1",
        ], done.stderr


WITH_RIGHTS = """
import sys
from backup.child_run import ChildRun
from backup.conditions import Conditions, reason_against
print(open(sys.argv[1]).read())
print(ChildRun(["/bin/cat", sys.argv[1]]).run().out.decode())
print(reason_against(Conditions(command=("/bin/cat", sys.argv[1]))))
"""


class TestSaid:
    def test_all_of_it(self):
        said = {
            "mains_power": True,
            "mounted": "/mnt/disk/",
            "reachable": ["db1:5432", "[::1]:22"],
            "command": ["/usr/bin/test", "-e", "/x"],
        }

        assert make_conditions(said) == Conditions(
            mains_power=True,
            mounted=("/mnt/disk",),
            reachable=("db1:5432", "[::1]:22"),
            command=("/usr/bin/test", "-e", "/x"),
        )
        assert make_conditions({}) == NO_CONDITIONS
        assert reason_against(NO_CONDITIONS) is None

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"mains_power": False}, "mains_power can only be true"),
            ({"mains_power": "yes"}, "mains_power can only be true"),
            ({"mounted": "mnt"}, "an absolute path, not 'mnt'"),
            ({"mounted": []}, "mounted needs a text such as /mnt/disk"),
            ({"reachable": "db1"}, "a host and a port, not 'db1'"),
            ({"reachable": "db1:0"}, "a host and a port"),
            ({"reachable": "db1:70000"}, "a host and a port"),
            ({"reachable": 5432}, "reachable needs a text"),
            ({"command": "test -e /x"}, "a list that begins with the program's absolute path"),
            ({"command": ["test"]}, "absolute path"),
            ({"mount": "/x"}, "'mount' is no condition"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, said, words):
        with pytest.raises(InvalidArgumentError, match=words):
            make_conditions(said)

    def test_a_word_that_is_nearly_right_is_suggested(self):
        with pytest.raises(InvalidArgumentError) as caught:
            make_conditions({"reachabel": "x:1"})
        assert caught.value.hint == "did you mean reachable?"


def test_a_mount_that_may_be_dead_is_not_looked_at(tmp_path):
    table, dead = tmp_path / "mountinfo", tmp_path / "dead"
    table.write_text(f"36 35 0:40 / {dead} rw - nfs4 server:/x rw\n")
    looked = []

    def hear(event, arguments):
        if arguments and arguments[0] == str(dead):
            looked.append(event)

    sys.addaudithook(hear)
    assert os.listdir(tmp_path) == ["mountinfo"]  # noqa: PTH208 - what is heard are calls of os
    with pytest.raises(FileNotFoundError):
        os.listdir(dead)  # noqa: PTH208
    assert looked == ["os.listdir"]
    assert reason_against(Conditions(mounted=(str(dead),)), Surroundings(mounts=table)) is None
    assert looked == ["os.listdir"]
