from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli import COMMAND, done, environment, load_all, run
from tests.processes import wait_until


@pytest.fixture
def sources(tmp_path):
    """Make two directories; one holds what nobody wants to have saved."""
    for name in ("www/cache/page", "www/index", "www/error.log", "etc/passwd", "etc/hosts.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.fixture
def configure(tmp_path, key_file):
    """Return a function that writes a configuration of two jobs and returns its path."""

    def write(**changes):
        content = {
            "version": 1,
            "host": "web1",
            "stores": {
                "disk": {"url": str(tmp_path / "disk")},
                "second": {"url": str(tmp_path / "second")},
            },
            "defaults": {"stores": ["disk", "second"], "compression": "zstd"},
            "jobs": {
                "shop": {
                    "sources": [
                        {"path": str(tmp_path / "www"), "exclude": ["cache/", "*.log"]},
                        str(tmp_path / "etc"),
                    ]
                },
                "etc": {"sources": [str(tmp_path / "etc")], "stores": "disk"},
            },
        }
        for key, value in changes.items():
            content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
        path = tmp_path / "config.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture(autouse=True)
def no_host_from_the_environment(monkeypatch):
    monkeypatch.delenv("AUTO_BACKUP_HOST")


def stored(store):
    return sorted(path.name.split("-")[0] for path in store.rglob("*.enc"))


def stored_live(store):
    """Return the snapshots in ``store`` that do not lie in the trash."""
    return [one for one in store.rglob("*.enc") if not one.with_name(one.name + ".trash").exists()]


class TestRunningJobs:
    def test_now_alone_runs_every_job_into_its_stores(self, sources, configure, tmp_path):
        result = done("--config", configure(), "--now")

        assert stored(tmp_path / "disk" / "web1") == ["etc", "shop"]
        assert stored(tmp_path / "second" / "web1") == ["shop"]
        assert [line for line in result.lines if line.endswith(":")] == ["shop:", "etc:"]

    def test_only_those_that_are_named_are_run(self, sources, configure, tmp_path):
        done("--config", configure(), "--now", "etc")

        assert stored(tmp_path / "disk") == ["etc"]
        assert not (tmp_path / "second").exists()

    def test_job_as_an_option_names_one_too(self, sources, configure, tmp_path):
        done("--config", configure(), "--now", "--job", "etc")

        assert stored(tmp_path / "disk") == ["etc"]

    def test_patterns_of_a_source_count_for_it_alone(self, sources, configure, tmp_path):
        config = configure()
        done("--config", config, "--now", "shop")

        names = done("--config", config, "ls", "shop").lines

        assert str(tmp_path / "etc" / "hosts.log") in names
        assert str(tmp_path / "www" / "index") in names
        assert not any("cache/" in name or name.endswith("error.log") for name in names)

    def test_what_an_option_says_wins(self, sources, configure, tmp_path):
        done(
            *("--config", configure(), "--now", "shop", "--compression", "gzip", "--tag", "hand"),
            *("--exclude", "hosts.log", "--store", "second"),
        )

        [file] = (tmp_path / "second").rglob("*.enc")
        assert file.name.endswith(".tar.gz.enc")
        assert not (tmp_path / "disk").exists()
        names = done("--store", tmp_path / "second", "ls", "latest").lines
        assert str(tmp_path / "etc" / "hosts.log") not in names

    def test_a_dry_run_changes_nothing(self, sources, configure, tmp_path):
        result = done("--config", configure(), "--now", "-n")

        assert result.out.count("nothing has been changed") == 2
        assert not (tmp_path / "disk").exists()

    def test_json_has_an_object_for_each_job(self, sources, configure):
        told = done("--config", configure(), "--now", "--json").json

        assert [(one["job"], one["exit_status"]) for one in told] == [("shop", 0), ("etc", 0)]

    def test_a_store_of_the_environment_wins_over_those_of_the_job(
        self, sources, configure, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("AUTO_BACKUP_STORE", str(tmp_path / "usb"))
        done("--config", configure(), "--now", "etc")

        assert stored(tmp_path / "usb" / "web1") == ["etc"]
        assert not (tmp_path / "disk").exists()

    def test_recipients_of_the_environment_win_over_those_of_the_job(
        self, sources, configure, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", str(tmp_path / "said-by-the-environment"))
        config = configure(
            jobs={"etc": {"sources": [str(tmp_path / "etc")], "recipients": "/said/by/the/job"}}
        )

        assert "said-by-the-environment" in run("--config", config, "--now", "etc").err

    def test_jobs_that_are_named_in_two_ways_are_refused(self, sources, configure, tmp_path):
        result = run("--config", configure(), "--now", "etc", "--job", "shop")

        assert result.status == 2
        assert "--now etc shop" in result.err
        assert not (tmp_path / "disk").exists()

    def test_a_store_that_a_job_names_by_its_path_is_read_where_none_is_named(
        self, sources, configure, tmp_path
    ):
        job = {"sources": [str(tmp_path / "etc")], "stores": str(tmp_path / "own")}
        config = configure()
        config.write_text(json.dumps({"version": 1, "host": "web1", "jobs": {"etc": job}}))
        result = done("--config", config, "--now")

        assert "no --store given" not in result.err
        assert [one["job"] for one in done("--config", config, "snapshots", "--json").json] == [
            "etc"
        ]

    def test_a_job_and_a_source_contradict_each_other(self, sources, configure):
        result = run("--config", configure(), "--now", "shop", "--source", sources / "etc")

        assert result.status == 2
        assert "the job's name behind --job" in result.err


class TestJobsThatFail:
    def test_one_that_fails_does_not_keep_the_others_from_being_run(
        self, sources, configure, tmp_path
    ):
        shutil.rmtree(tmp_path / "www")
        result = run("--config", configure(), "--now")

        assert result.status == 1
        assert "job shop has failed:" in result.err
        assert stored(tmp_path / "disk") == ["etc"]

    def test_what_fails_before_it_begins_is_in_the_log_too(self, sources, configure, tmp_path):
        shutil.rmtree(tmp_path / "www")
        run("--config", configure(), "--now", "--log-file", tmp_path / "log")

        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

        assert [(one["job"], one.get("status")) for one in lines if "job" in one][:1] == [
            ("shop", None)
        ]
        assert "www" in next(one["error"] for one in lines if "error" in one)

    def test_its_reason_is_in_the_json(self, sources, configure, tmp_path):
        shutil.rmtree(tmp_path / "www")

        told = run("--config", configure(), "--now", "--json").json

        assert "www" in told[0]["error"]
        assert [one["exit_status"] for one in told] == [1, 0]

    def test_a_call_that_is_interrupted_tells_in_json_what_is_done(
        self, sources, configure, tmp_path
    ):
        big = tmp_path / "big"
        big.mkdir()
        for number in range(4):
            (big / f"{number}").write_bytes(os.urandom(16_000_000))
        jobs = {"last": {"sources": [str(big)], "compression": "xz", "workers": 1, "level": 9}}
        log = tmp_path / "log"
        command = [*COMMAND, "--config", configure(jobs=jobs), "--now", "--json", "--log-file", log]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            wait_until(lambda: log.exists() and '"job":"last"' in log.read_text())
            process.send_signal(signal.SIGINT)
            out = process.communicate()[0]

        assert process.returncode == 130
        assert [one["job"] for one in json.loads(out)] == ["shop", "etc"]

    def test_an_output_that_cannot_be_written_stops_none(self, sources, configure, tmp_path):
        command = [*COMMAND, "--config", configure(), "--now"]
        unbuffered = environment() | {"PYTHONUNBUFFERED": "1"}
        with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
            result = subprocess.run(
                command, env=unbuffered, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )

        assert result.returncode == 1
        assert "cannot write to standard output" in result.stderr
        assert stored(tmp_path / "disk" / "web1") == ["etc", "shop"]

    def test_a_host_that_cannot_be_one_is_told_once(self, sources, configure):
        result = run("--config", configure(), "--now", "--host", "a b")

        assert result.status == 2
        assert result.err.count("cannot be the name of a host") == 1

    def test_an_unknown_job_is_refused_with_a_suggestion_before_any_is_run(
        self, sources, configure, tmp_path
    ):
        result = run("--config", configure(), "--now", "etc", "shopp")

        assert result.status == 2
        assert "did you mean shop?" in result.err
        assert not (tmp_path / "disk").exists()

    def test_without_a_configuration_there_are_no_jobs(self):
        result = run("--now", "shop")

        assert result.status == 2
        assert "there is no configuration" in result.err

    def test_a_level_that_does_not_fit_is_refused_before_any_job_is_run(
        self, sources, configure, tmp_path
    ):
        result = run("--config", configure(), "--now", "--compression", "xz", "--level", "22")

        assert result.status == 2
        assert not (tmp_path / "disk").exists()


class TestKeeping:
    def test_a_job_is_rotated_after_its_snapshot(self, sources, configure, tmp_path):
        config = configure(defaults={"keep": {"last": 2}})
        for _ in range(4):
            result = done("--config", config, "--now", "etc")

        assert "1 snapshot into the trash" in result.out
        assert len(done("--config", config, "snapshots", "--json", "--job", "etc").json) == 2

    def test_what_it_deletes_is_in_the_log(self, sources, configure, tmp_path):
        config = configure(defaults={"keep": {"last": 1}})
        for _ in range(2):
            done("--config", config, "--now", "etc", "--log-file", tmp_path / "log")

        last = json.loads((tmp_path / "log").read_text().splitlines()[-1])

        assert (last["action"], last["status"], len(last["trashed"])) == ("rotate", "done", 1)

    def test_a_rotation_that_fails_is_told_and_the_snapshot_stands(
        self, sources, configure, tmp_path
    ):
        config = configure(defaults={"keep": {"last": 1}})
        done("--config", config, "--now", "etc")
        [old] = (tmp_path / "disk").rglob("*.enc")
        (old.parent / f"{old.name}.trash").mkdir()

        result = run("--config", config, "--now", "etc")

        assert result.status == 14
        assert "has not been rotated to the end" in result.err
        assert len(stored(tmp_path / "disk")) == 2

    def test_a_store_may_keep_more_or_less_than_the_job_says(self, sources, configure, tmp_path):
        stores = {"second": {"url": str(tmp_path / "second"), "keep": {"last": 1}}}
        config = configure(
            stores={"disk": {"url": str(tmp_path / "disk")}} | stores,
            defaults={"keep": {"last": 3}, "stores": ["disk", "second"]},
        )
        for _ in range(4):
            told = done("--config", config, "--now", "shop", "--json").json

        assert [len(one["trashed"]) for one in told[0]["rotated"]] == [1, 1]
        kept = {
            store: len(done("--config", config, "snapshots", "--json", "-s", store).json)
            for store in ("disk", "second")
        }
        assert kept == {"disk": 3, "second": 1}

    def test_a_store_that_keeps_all_does_so_whatever_the_job_says(
        self, sources, configure, tmp_path
    ):
        stores = {"disk": {"url": str(tmp_path / "disk"), "keep": {}}}
        config = configure(stores=stores, defaults={"keep": {"last": 1}, "stores": ["disk"]})
        for _ in range(3):
            done("--config", config, "--now", "etc")

        assert done("--config", config, "rotate", "--json").json[0]["trashed"] == []
        assert len(stored_live(tmp_path / "disk")) == 3

    def test_what_a_job_says_counts_in_its_own_stores_alone(self, sources, configure, tmp_path):
        config = configure(defaults={"keep": {"last": 1}})
        for _ in range(2):
            done("--config", config, "--now", "etc", "--store", tmp_path / "usb")

        told = done("--config", config, "rotate", "--store", tmp_path / "usb", "--json").json

        assert [one["trashed"] for one in told] == [[]]
        assert len(stored_live(tmp_path / "usb")) == 2

    def test_another_host_that_an_option_names_is_not_rotated(self, sources, configure, tmp_path):
        config = configure(defaults={"keep": {"last": 1}})
        for _ in range(2):
            result = done("--config", config, "--now", "etc", "--host", "web2")

        assert "etc is not rotated: what to keep is said of web1, this host" in result.err
        assert len(stored_live(tmp_path / "disk" / "web2")) == 2

    def test_a_store_without_the_new_snapshot_is_not_rotated(self, sources, configure, tmp_path):
        config = configure(defaults={"keep": {"last": 1}})
        for _ in range(2):
            done("--config", config, "--now", "shop")
        (tmp_path / "second").rename(tmp_path / "away")
        (tmp_path / "second").write_text("no directory")
        result = run("--config", config, "--now", "shop", "--json")

        assert result.status == 14
        assert result.err.count("error:") == 1
        [rotated] = result.json[0]["rotated"]
        assert rotated["store"] == (tmp_path / "disk").as_uri()

    def test_errors_of_the_source_push_out_no_snapshot_that_has_none(self, open_dir, as_nobody):
        (open_dir / "tree").mkdir()
        (open_dir / "tree" / "file").write_text("what matters")
        job = {"sources": [str(open_dir / "tree")], "stores": str(open_dir / "store")}
        config = open_dir / "config.json"
        config.write_text(
            json.dumps({"version": 1, "host": "h", "jobs": {"etc": job | {"keep": {"last": 1}}}})
        )
        options = [f"--config={config}", f"--key-file={open_dir / 'key'}"]
        options.append(f"--state-dir={open_dir / 'state'}")
        load_all()

        with as_nobody():
            done("key", "new", *options)
            whole = done("--now", "--json", *options).json[0]["files"][0]
        (open_dir / "tree" / "file").chmod(0)
        with as_nobody():
            statuses = [run("--now", *options).status for _ in range(3)]

        assert statuses == [3, 3, 3]
        assert {Path(whole)} < set(stored_live(open_dir / "store"))
        assert len(stored_live(open_dir / "store")) == 2

    def test_without_keep_nothing_is_ever_deleted(self, sources, configure, tmp_path):
        config = configure()
        for _ in range(3):
            told = done("--config", config, "--now", "etc", "--json").json
        result = done("--config", config, "rotate")

        assert told[0]["rotated"] == []
        assert "nothing is deleted: say what to keep" in result.err
        assert len(stored(tmp_path / "disk")) == 3

    def test_rotate_goes_by_the_configuration(self, sources, configure, tmp_path):
        for _ in range(3):
            done("--config", configure(), "--now", "etc")
        config = configure(jobs={"etc": {"sources": [str(tmp_path / "etc")], "keep": {"last": 1}}})

        result = done("--config", config, "rotate", "-s", "disk", "--json")

        assert len(result.json[0]["trashed"]) == 2

    def test_what_other_hosts_have_there_is_left_alone(self, sources, configure, tmp_path):
        for _ in range(3):
            done("--now", "--source", sources / "etc", "--store", tmp_path / "disk", "--host", "b")
        config = configure(defaults={"keep": {"last": 1}, "stores": ["disk"]})

        result = done("--config", config, "rotate", "--json")

        assert [one["trashed"] for one in result.json if one["host"] == "b"] == [[]]


class TestWhatTheConfigurationSaysElsewhere:
    def test_a_store_has_its_name_in_every_command(self, sources, configure):
        config = configure()
        done("--config", config, "--now", "shop")

        by_name = done("--config", config, "snapshots", "--store", "second", "--json").json

        assert [one["job"] for one in by_name] == ["shop"]

    def test_a_name_that_no_store_has_is_refused_with_a_suggestion(self, sources, configure):
        result = run("--config", configure(), "snapshots", "--store", "disc")

        assert result.status == 2
        assert "there is no store 'disc'; did you mean disk?" in result.err
        assert "./disc" in result.err

    def test_a_directory_that_is_here_needs_no_name(
        self, sources, configure, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "old").mkdir()

        result = done("--config", configure(), "snapshots", "--store", "old")

        assert f"there is no snapshot in {tmp_path}/old" in result.err

    def test_the_first_of_the_stores_is_read_where_none_is_named(self, sources, configure):
        config = configure()
        done("--config", config, "--now", "etc")

        assert "passwd" in done("--config", config, "ls", "etc").out

    def test_the_environment_wins_over_it(self, sources, configure, tmp_path, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_HOST", "other")
        done("--config", configure(), "--now", "etc")

        assert stored(tmp_path / "disk" / "other") == ["etc"]

    def test_its_key_file_is_taken_where_nobody_names_one(
        self, sources, configure, key_file, monkeypatch, tmp_path
    ):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        config = configure(key_file=str(key_file))
        done("--config", config, "--now", "etc")

        assert done("--config", config, "verify").status == 0

    def test_no_key_is_made_for_an_empty_store_where_another_one_has_snapshots(
        self, sources, configure, tmp_path, monkeypatch
    ):
        config = configure()
        done("--config", config, "--now", "etc")
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
        jobs = {"new": {"sources": [str(tmp_path / "etc")], "stores": "second"}}
        result = run("--config", configure(jobs=jobs), "--now", "new")

        assert result.status == 12
        assert f"{tmp_path}/disk holds snapshots that need one" in result.err
        assert not (tmp_path / "new").exists()

    def test_a_broken_one_stops_a_command_that_needs_it_and_no_other(
        self, sources, configure, tmp_path, key_file
    ):
        done("--config", configure(), "--now", "etc")
        broken = tmp_path / "broken.yaml"
        broken.write_text("version: 1\njobs: [\n")

        result = run("--config", broken, "snapshots")
        call = ("--config", broken, "--store", tmp_path / "disk", "--host", "web1")
        works = run(*call, "restore", "etc", "--target", tmp_path / "back")

        assert result.status == 2
        assert f"{broken}:" in result.err
        assert works.status == 0
        assert run("--config", "/dev/null", "--store", tmp_path / "disk", "snapshots").status == 0


class TestWhy:
    def test_the_line_is_found_of_a_job_with_a_dot_in_its_name(self, sources, configure, tmp_path):
        jobs = {"my.job": {"sources": [str(tmp_path / "etc")], "exclude": "*.log"}}
        config = configure(jobs=jobs)

        result = done("--config", config, "why", tmp_path / "etc/hosts.log", "--job", "my.job")

        assert f'excluded by {config}:1 "*.log"' in result.out

    def test_without_a_source_the_jobs_are_asked(self, sources, configure, tmp_path):
        config = configure()

        result = done("--config", config, "why", tmp_path / "www" / "error.log")

        assert result.lines == [
            f'shop: {tmp_path}/www/error.log: not saved: excluded by {config}:1 "*.log"',
            f"etc: {tmp_path}/www/error.log: not saved: not below any source",
        ]

    def test_a_job_that_cannot_be_run_does_not_hide_the_others(self, sources, configure, tmp_path):
        shutil.rmtree(tmp_path / "www")

        result = run("--config", configure(), "why", tmp_path / "etc" / "passwd")

        assert result.status == 1
        assert "job shop cannot be run" in result.err
        assert result.lines == [f"etc: {tmp_path}/etc/passwd: saved"]

    def test_a_job_can_be_named(self, sources, configure, tmp_path):
        config = configure()

        told = done("--config", config, "why", tmp_path / "etc", "--job", "etc", "--json").json

        assert [(one["job"], one["saved"]) for one in told] == [("etc", True)]
