"""``service install`` and ``service uninstall``, into a directory in place of the machine's root.

Commands that change files are run, for a user that exists here; systemd's are only written down.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from backup.cli import servicing
from backup.errors import BackupError
from backup.service.fitness import Service
from backup.service.installing import Site, system_steps
from backup.service.places import Places
from backup.service.program import Program
from backup.service.steps import Answer, Command, Write, carry_out, run_command
from backup.service.unit import Needs, Profile
from tests.cli import done, run, take
from tests.conftest import NOBODY
from tests.needs import needs
from tests.unit_files import service

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
REAL = {"install", "cp", "chown", "chgrp", "chmod"}
UNIT = "etc/systemd/system/auto-backup.service"
CRON = "etc/cron.d/auto-backup"


class Commands:
    """Runs commands that change files, and notes all; words in ``fails`` make them fail.

    ``ground`` is the machine as ``service`` sees it; ``change`` says something else of it.
    """

    def __init__(self):
        self.called = []
        self.crontab = ""
        self.fails = ()
        self.version = 252

    def __call__(self, words, given):
        words = tuple(words)
        if words == ("crontab", "-l"):
            return Answer(0 if self.crontab else 1, self.crontab, "")
        if words == ("systemctl", "--version"):
            return Answer(0, f"systemd {self.version} (x)\n+PAM\n", "")
        self.called.append(words)
        if words[:2] == ("crontab", "-"):
            self.crontab = given
        if set(words) & set(self.fails):
            return Answer(1, "", "Job failed.\nSee the journal.")
        if words[0] in REAL:
            renamed = {"auto-backup": "nobody", "auto-backup:auto-backup": "nobody:nogroup"}
            words = [renamed.get(one, one) for one in words]
            if words[0] == "chgrp" or "-g" in words:
                place = 1 if words[0] == "chgrp" else words.index("-g") + 1
                words[place] = {"nobody": "nogroup"}.get(words[place], words[place])
            return run_command(words)
        return Answer(0, "", "")

    def change(self, **changes):
        self.ground = replace(self.ground, **changes)

    def of(self, name):
        return [one for one in self.called if one[0] == name]


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def machine(open_dir, commands, monkeypatch):
    """Return a directory that stands for the machine's root; systemd runs there."""
    root = open_dir / "root"
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "etc/cron.d").mkdir(parents=True)
    program = Program(("/usr/bin/true",), (Path("/usr/bin/true"),))
    commands.ground = servicing.Ground(
        Places(root, open_dir / "home_config"), commands, program, is_root=True, user=None
    )
    monkeypatch.setattr(servicing, "this_ground", lambda: commands.ground)
    return root


@pytest.fixture
def config(open_dir, key_file):
    """Return a configuration of root's, as a person would have it."""
    (open_dir / "etc").mkdir(mode=0o700)
    (open_dir / "source").mkdir()
    path = open_dir / "etc" / "config.yaml"
    path.write_text(
        f"version: 1\nhost: web1\nkey_file: {key_file}\n"
        f"stores: {{disk: {{url: {open_dir / 'store'}}}}}\n"
        "jobs: {one: {keep: {last: 3}, schedule: every day,"
        f" sources: [{open_dir / 'source'}]}}}}\n"
    )
    path.chmod(0o600)
    return path


def install(config, *options):
    return run("service", "install", f"--config={config}", *options)


def owners(top):
    return {one.lstat().st_uid for one in (top, *top.rglob("*"))}


class TestReader:
    def test_its_unit_runs_the_daemon_with_this_configuration(self, machine, config, commands):
        result = install(config)

        said = service((machine / UNIT).read_text())
        assert result.status == 0, result.err
        assert said["ExecStart"] == [f":/usr/bin/true --config={config} daemon run"]
        assert said["User"] == ["auto-backup"]
        assert commands.of("systemctl") == [
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "auto-backup.service"),
            ("systemctl", "restart", "auto-backup.service"),
        ]

    def test_a_configuration_by_which_nothing_would_run_is_refused(self, machine, config, commands):
        config.write_text(config.read_text().replace("schedule: every day,", ""))
        result = install(config)

        assert result.status == 2
        assert "no job in" in result.err
        assert commands.called == []
        assert not (machine / UNIT).exists()

    def test_its_user_is_made_the_way_of_systemd(self, machine, config, commands):
        install(config)

        file = machine / "etc/sysusers.d/auto-backup.conf"
        assert "u auto-backup - " in file.read_text()
        assert any("sysusers" in one[0] and one[1] == str(file) for one in commands.called)

    def test_systemd_makes_that_user(self, machine, config, tmp_path):
        needs(shutil.which("systemd-sysusers"), "systemd-sysusers is not installed")
        install(config)
        (tmp_path / "etc").mkdir()
        file = machine / "etc/sysusers.d/auto-backup.conf"
        subprocess.run(
            ["systemd-sysusers", f"--root={tmp_path}", "-"], input=file.read_bytes(), check=True
        )

        (line,) = (tmp_path / "etc/passwd").read_text().splitlines()
        name, _, _, _, _, home, shell = line.split(":")
        assert (name, home, shell) == ("auto-backup", "/var/lib/auto-backup", "/usr/sbin/nologin")

    def test_a_host_that_only_writes_has_no_key_to_hand_over(
        self, machine, config, key_file, monkeypatch
    ):
        key_file.unlink()
        done("key", "new", "--public", f"--identity={config.parent.parent / 'identity'}")
        public = (config.parent.parent / "identity.pub").read_text().splitlines()[-1]
        text = config.read_text().replace(f"key_file: {key_file}\n", f"recipients: [{public}]\n")
        config.write_text(text)
        monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", "")
        result = install(config)

        assert result.status == 0, result.err
        assert "LoadCredential" not in (machine / UNIT).read_text()

    def test_its_key_is_handed_over_and_stays_closed(self, machine, config, key_file):
        install(config)

        said = service((machine / UNIT).read_text())
        assert said["LoadCredential"] == [f"key:{key_file}"]
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600

    def test_one_that_is_encrypted_beside_it_is_taken_instead(self, machine, config, key_file):
        key_file.with_name(key_file.name + ".cred").write_text("sealed by systemd-creds")
        key_file.unlink()
        result = install(config)

        assert result.status == 0, result.err
        said = service((machine / UNIT).read_text())
        assert said["LoadCredentialEncrypted"] == [f"key:{key_file}.cred"]

    def test_the_configuration_is_readable_for_its_group_and_nobody_else(self, machine, config):
        (config.parent / "conf.d").mkdir(mode=0o700)
        (config.parent / "conf.d" / "10.yaml").write_text("defaults: {compression: zstd}\n")
        (config.parent / "conf.d" / "10.yaml").chmod(0o600)
        (config.parent / ".env").write_text("# nothing\n")
        (config.parent / ".env").chmod(0o600)
        result = install(config)

        assert result.status == 0, result.err
        for path, mode in (
            (config, 0o640),
            (config.parent, 0o750),
            (config.parent / "conf.d", 0o750),
            (config.parent / "conf.d" / "10.yaml", 0o640),
            (config.parent / ".env", 0o640),
        ):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert path.group() == "nogroup"

    def test_the_host_stays_the_same_signer(self, machine, config, open_dir):
        done("--now", "--config", config)
        before = Path(os.environ["AUTO_BACKUP_STATE_DIR"])
        install(config)

        state = machine / "var/lib/auto-backup"
        assert (state / "host-signing-key").read_bytes() == (
            before / "host-signing-key"
        ).read_bytes()
        assert {"catalog.sqlite", "chains", "backup.log"} < set(os.listdir(state))  # noqa: PTH208
        assert owners(state) == {NOBODY}

    def test_what_it_has_learned_since_is_not_written_over(self, machine, config):
        done("--now", "--config", config)
        install(config)
        state = machine / "var/lib/auto-backup"
        (state / "host-signing-key").write_text("its own by now")
        install(config)

        assert (state / "host-signing-key").read_text() == "its own by now"

    def test_lists_of_keys_are_named_and_stay_in_sight(
        self, machine, config, open_dir, monkeypatch
    ):
        (open_dir / "trusted").touch()
        lists = {"SIGNERS": f"{open_dir}/trusted", "RECIPIENTS": "/home/ann/a.pub:/srv/b.pub"}
        for name, path in lists.items():
            monkeypatch.setenv(f"AUTO_BACKUP_{name}", path)
        said = service(install(config, "-n").out.replace("    ", ""))

        named = {f"AUTO_BACKUP_{name}={path}" for name, path in lists.items()}
        assert named < set(said["Environment"])
        assert said["ProtectHome"] == ["read-only"]

    def test_a_store_of_root_is_given_to_it(self, machine, config, open_dir):
        done("--now", "--config", config)
        assert owners(open_dir / "store") == {0}
        install(config)

        assert owners(open_dir / "store") == {NOBODY}

    def test_a_store_that_is_not_there_is_made(self, machine, config, open_dir):
        install(config)

        status = (open_dir / "store").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o700)

    def test_a_directory_with_other_things_is_not_given_away(self, machine, config, open_dir):
        done("--now", "--config", config)
        (open_dir / "store" / "holiday.jpg").write_text("not ours")
        result = install(config)

        assert result.status == 2
        assert "holiday.jpg" in result.err
        assert f"chown -R auto-backup: {open_dir / 'store'}" in result.err
        assert owners(open_dir / "store") == {0}
        assert not (machine / UNIT).exists()

    def test_one_of_another_user_neither(self, machine, config, open_dir):
        done("--now", "--config", config)
        os.chown(open_dir / "store" / "recover.py", 4321, 4321)

        assert "belongs to user number 4321" in install(config).err

    def test_installed_twice_it_is_stopped_before_its_files_change(self, machine, config, commands):
        install(config)
        first = (machine / UNIT).read_text()
        commands.change(user=NOBODY)
        commands.called.clear()
        result = install(config)

        assert result.status == 0, result.err
        assert commands.called[0] == ("systemctl", "stop", "auto-backup.service")
        assert (machine / UNIT).read_text() == first


class TestRoot:
    def test_it_needs_no_user_and_gives_nothing_away(self, machine, config, commands, open_dir):
        done("--now", "--config", config)
        result = install(config, "--profile", "root")

        assert result.status == 0, result.err
        assert not (machine / "etc/sysusers.d").exists()
        assert owners(open_dir / "store") == owners(machine / "var/lib/auto-backup") == {0}
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert "User" not in service((machine / UNIT).read_text())

    def test_it_takes_over_what_a_reader_had(self, machine, config, commands):
        done("--now", "--config", config)
        install(config)
        commands.change(user=NOBODY)
        result = install(config, "--profile", "root")

        assert result.status == 0, result.err
        assert owners(machine / "var/lib/auto-backup") == {0}


class TestUser:
    def test_its_unit_is_in_the_home_and_its_manager_is_told(
        self, machine, config, commands, open_dir
    ):
        result = install(config, "--user")

        unit = open_dir / "home_config/systemd/user/auto-backup.service"
        assert result.status == 0, result.err
        assert "DynamicUser" not in unit.read_text()
        assert ("systemctl", "--user", "restart", "auto-backup.service") in commands.called
        assert "loginctl enable-linger" in result.err

    def test_what_this_call_says_the_service_says_too(self, machine, config, tmp_path):
        result = install(config, "--user", f"--state-dir={tmp_path / 'state'}", "-n")

        assert f"Environment=AUTO_BACKUP_STATE_DIR={tmp_path / 'state'}" in result.out


class TestCron:
    def test_root_gets_a_file_of_its_own(self, machine, config):
        result = install(config, "--cron")

        *_, line = (machine / CRON).read_text().splitlines()
        assert result.status == 0, result.err
        assert line.startswith("*/5 * * * * root ")
        assert line.endswith(" --quiet schedule run --due")
        assert f"--config={config}" in line
        assert "flock -n" in line

    def test_the_line_runs(self, machine, config, private_home):
        install(config, "--cron")
        *_, line = (machine / CRON).read_text().splitlines()
        shell = line.partition(" root ")[2]

        assert subprocess.run(["/bin/sh", "-c", shell], check=False).returncode == 0

    def test_percent_signs_are_no_line_breaks(self, machine, config):
        odd = config.parent.parent / "100%"
        config.parent.rename(odd)
        install(odd / config.name, "--cron")

        assert r"100\%/config.yaml" in (machine / CRON).read_text()

    def test_a_users_crontab_keeps_its_own_lines(
        self, machine, config, commands, tmp_path, monkeypatch
    ):
        (tmp_path / "crontab").touch(mode=0o755)  # that it is there is all that is asked
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        commands.change(is_root=False)
        commands.crontab = "0 3 * * * mine # no line break at the end"
        for _ in range(2):
            assert install(config, "--cron").status == 0
        assert commands.crontab.count("schedule run --due") == 1
        done("service", "uninstall")

        assert commands.crontab == "0 3 * * * mine # no line break at the end\n"

    def test_systemd_and_cron_do_not_both_run_the_jobs(self, machine, config):
        install(config, "--cron")
        result = install(config)

        assert result.status == 2
        assert "cron runs the jobs already" in result.err
        assert not (machine / UNIT).exists()


class TestDryRun:
    @pytest.mark.parametrize("way", [(), ("--profile", "root"), ("--user",), ("--cron",)])
    def test_it_tells_each_file_and_command_and_changes_nothing(
        self, machine, config, commands, open_dir, way
    ):
        before = sorted(open_dir.rglob("*"))
        result = install(config, *way, "-n")

        assert result.status == 0, result.err
        assert [one for one in result.lines if one.startswith("write ")]
        assert sorted(open_dir.rglob("*")) == before
        assert commands.called == []

    def test_it_tells_what_is_then_done(self, machine, config, commands):
        done("--now", "--config", config)
        planned = install(config, "-n", "--json").json
        told = install(config, "--json").json

        assert told["steps"] == planned["steps"]
        assert (planned["done"], told["done"]) == (False, True)
        assert [tuple(one["run"]) for one in planned["steps"] if "run" in one] == commands.called

    def test_it_tells_why_it_would_be_refused(self, machine, config):
        (machine / "run/systemd/system").rmdir()
        result = install(config, "-n")

        assert result.status == 2
        assert "it would be refused: systemd does not run here" in result.err
        assert f"write   {machine / UNIT}" in result.out


class TestRefusals:
    def test_without_systemd_nothing_is_written(self, machine, config, commands):
        (machine / "run/systemd/system").rmdir()
        result = install(config)

        assert result.status == 2
        assert "--cron" in result.err
        assert not (machine / UNIT).exists()
        assert commands.called == []

    def test_an_old_systemd_is_told(self, machine, config, commands):
        commands.version = 247

        assert "systemd 247 is too old" in install(config).err

    def test_only_root_installs_one_of_the_system(self, machine, config, commands):
        commands.change(is_root=False)
        result = install(config)

        assert result.status == 2
        assert "--user" in result.err

    def test_a_program_in_a_closed_home(self, machine, config, commands, tmp_path):
        (tmp_path / "venv").mkdir(mode=0o700)
        program = tmp_path / "venv" / "auto-backup"
        program.touch(mode=0o755)
        commands.change(program=Program((str(program),), (program,)))
        result = install(config)

        assert result.status == 2
        assert "cannot start the program" in result.err
        assert "/usr/bin/python3 -m venv /opt/auto-backup" in result.err

    @pytest.mark.parametrize("profile", ["reader", "root"])
    def test_a_program_that_others_can_change(self, machine, config, commands, open_dir, profile):
        program = open_dir / "auto-backup"
        program.touch(mode=0o755)
        os.chown(program, NOBODY, NOBODY)
        commands.change(program=Program((str(program),), (program,)))

        assert "can be changed by others" in install(config, "--profile", profile).err

    def test_a_missing_key(self, machine, config, key_file):
        key_file.unlink()
        result = install(config)

        assert result.status == 2
        assert "auto-backup key new" in result.err

    def test_a_file_that_is_not_ours(self, machine, config):
        (machine / UNIT).parent.mkdir(parents=True)
        (machine / UNIT).write_text("[Service]\nExecStart=/usr/bin/mine\n")
        result = install(config, "--yes")

        assert result.status == 2
        assert "mine" in (machine / UNIT).read_text()

    def test_one_that_somebody_has_changed_unless_that_is_agreed(self, machine, config):
        install(config)
        with (machine / UNIT).open("a") as file:
            file.write("# by hand\n")

        assert "somebody has changed" in install(config).err
        assert "# by hand" in (machine / UNIT).read_text()
        assert install(config, "--yes").status == 0
        assert "# by hand" not in (machine / UNIT).read_text()

    def test_jobs_without_a_store_that_is_named(self, machine, open_dir, key_file, source):
        config = open_dir / "config.json"
        job = {"sources": [str(source)], "schedule": "every day"}
        config.write_text(json.dumps({"version": 1, "jobs": {"a": job}}))
        result = install(config)

        assert result.status == 2
        assert "job a: it does not say where to" in result.err

    def test_a_daemon_that_runs_the_jobs_from_another_state(self, machine, config):
        state = Path(os.environ["AUTO_BACKUP_STATE_DIR"])
        state.mkdir()
        with (state / "daemon.pid").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = install(config)

        assert result.status == 2
        assert f"a daemon runs the jobs already, with its state in {state}" in result.err
        assert install(config).status == 0

    def test_two_ways_at_once(self, machine, config):
        assert install(config, "--user", "--cron").status == 2

    def test_a_profile_that_does_not_exist(self, machine, config):
        assert "there are: reader, root" in install(config, "--profile", "admin").err

    def test_a_command_that_fails_ends_it_and_is_told(self, machine, config, commands):
        commands.fails = ("enable",)
        result = install(config)

        assert result.status == 1
        assert "systemctl enable auto-backup.service" in result.err
        assert "Job failed." in result.err
        assert ("systemctl", "restart", "auto-backup.service") not in commands.called


class TestUninstall:
    @pytest.mark.parametrize("way", [(), ("--profile", "root"), ("--user",), ("--cron",)])
    def test_what_was_written_is_gone_and_all_else_is_there(
        self, machine, config, open_dir, commands, way
    ):
        taken = take("--source", open_dir / "source", "--store", open_dir / "store")
        before = {one for one in open_dir.rglob("*") if one.is_file()}
        install(config, *way)
        result = done("service", "uninstall", f"--config={config}")

        after = {one for one in open_dir.rglob("*") if one.is_file()}
        made = {one for one in after - before if "var/lib" not in str(one)}
        assert made == set()
        assert before <= after
        assert taken.exists()
        assert "what stays: keys, snapshots" in result.err

    def test_systemd_is_told(self, machine, config, commands):
        install(config)
        commands.called.clear()
        done("service", "uninstall")

        assert commands.called == [
            ("systemctl", "disable", "--now", "auto-backup.service"),
            ("systemctl", "daemon-reload"),
        ]

    def test_a_file_that_somebody_has_changed_stays(self, machine, config):
        install(config)
        with (machine / UNIT).open("a") as file:
            file.write("# by hand\n")

        assert run("service", "uninstall").status == 2
        assert (machine / UNIT).exists()
        assert run("service", "uninstall", "--yes").status == 0
        assert not (machine / UNIT).exists()

    def test_a_foreign_unit_is_left_alone(self, machine, commands):
        (machine / UNIT).parent.mkdir(parents=True)
        (machine / UNIT).write_text("[Service]\n")
        result = done("service", "uninstall")

        assert "there is no service" in result.err
        assert (machine / UNIT).exists()
        assert commands.called == []

    def test_a_dry_run_tells_it(self, machine, config):
        install(config)
        result = done("service", "uninstall", "-n")

        assert f"remove  {machine / UNIT}" in result.lines
        assert (machine / UNIT).exists()


class TestUserOfOldSystems:
    SITE = Site(
        places=Places(Path("/nowhere"), Path("/nowhere/home")),
        service=Service(Profile.READER, None),
    )

    def test_it_is_made_by_useradd_where_there_are_no_files_for_that(self):
        steps = system_steps(self.SITE, Needs(command=("/usr/bin/true",)))

        assert isinstance(steps[0], Command)
        assert steps[0].words[:2] == ("useradd", "--system")
        assert steps[0].words[-1] == "auto-backup"

    def test_and_only_once(self):
        site = replace(self.SITE, service=Service(Profile.READER, 990))
        steps = system_steps(site, Needs(command=("/usr/bin/true",)))

        assert not any("useradd" in str(one) for one in steps)


class TestSteps:
    def test_a_file_is_there_whole_with_its_mode(self, tmp_path):
        path = tmp_path / "a" / "b"
        carry_out([Write(path, "text", 0o640)], run_command)

        assert path.read_text() == "text"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert [one.name for one in path.parent.iterdir()] == ["b"]

    def test_a_place_that_cannot_be_written_is_our_error(self, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(BackupError, match="cannot write"):
            carry_out([Write(tmp_path / "file" / "b", "text")], run_command)

    def test_so_is_a_command_that_does_not_exist(self):
        with pytest.raises(BackupError, match="cannot run no-such-command"):
            carry_out([Command(("no-such-command",), "try")], run_command)
