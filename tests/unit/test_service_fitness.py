"""Which jobs a profile cannot run: the decision over facts, the facts, and what is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backup.config.models import Configuration
from backup.service.facts import (
    Facts,
    MountFact,
    PathFact,
    StoreFact,
    look_at,
    look_at_store,
    read_mounts,
)
from backup.service.fitness import Misfit, Service, misfits, paths_to_look_at
from backup.service.program import Part, Program, parts_of, program_problem
from backup.service.unit import Profile
from tests.cli import run, take

READER, ROOT = Service(Profile.READER, 990), Service(Profile.ROOT, None)
USER = Service(Profile.USER, None)
STORE, SOURCE = Path("/srv/store"), Path("/data")
KEY = Path("/etc/auto-backup/key")


def told(job, service, *, store=None, source=None, command=None, mounts=(), key=None):
    """Return what is told of a job, where the facts are as said and all else is well."""
    known = {"sources": [str(SOURCE)], "stores": [str(STORE)]}
    configuration = Configuration.model_validate({"version": 1, "jobs": {"one": known | job}})
    paths = {one: PathFact(one) for one in paths_to_look_at(configuration, [KEY])}
    paths |= {one.path: one for one in (source, command, key) if one is not None}
    store = store or StoreFact(STORE, owners=frozenset({990}))
    facts = Facts({store.path: store}, paths, tuple(mounts))
    return list(misfits(configuration, facts, service, [KEY]))


def reason(*arguments, **facts):
    (found,) = told(*arguments, **facts)
    assert found.job == "one"
    return found.reason


class TestStores:
    @pytest.mark.parametrize("service", [READER, ROOT, USER])
    def test_one_of_the_services_own_is_fine(self, service):
        assert told({}, service) == []

    def test_one_of_root_is_fine_because_it_is_given(self):
        assert told({}, READER, store=StoreFact(STORE, owners=frozenset({0}))) == []

    def test_one_that_is_not_there_is_made(self):
        assert told({}, READER, store=StoreFact(STORE, exists=False)) == []

    def test_one_of_somebody_else_is_not_taken_away(self):
        store = StoreFact(STORE, owners=frozenset({0, 1000}))

        assert "belongs to user number 1000" in reason({}, READER, store=store)
        assert told({}, ROOT, store=store) == []

    def test_one_with_other_things_in_it(self):
        store = StoreFact(STORE, owners=frozenset({0}), strange=STORE / "holiday.jpg")

        assert "holiday.jpg" in reason({}, READER, store=store)
        assert told({}, ROOT, store=store) == []

    @pytest.mark.parametrize("service", [READER, ROOT])
    def test_one_that_is_mounted_for_reading(self, service):
        store = StoreFact(STORE, read_only=True)

        assert "for reading only" in reason({}, service, store=store)


class TestSources:
    @pytest.mark.parametrize("service", [READER, ROOT])
    @pytest.mark.parametrize("path", ["/proc/1", "/dev/disk"])
    def test_what_a_service_has_of_its_own(self, service, path):
        job = {"sources": [path]}

        fact = PathFact(Path(os.path.realpath(path)))
        assert "of its own" in reason(job, service, source=fact)

    def test_a_file_that_only_root_reads_is_read(self):
        assert told({}, READER, source=PathFact(SOURCE, open=False)) == []

    def test_fuse_for_another_user_alone(self):
        mounts = [MountFact(Path("/"), "ext4"), MountFact(SOURCE, "fuse.sshfs", 1000)]

        assert "allow_other" in reason({}, READER, mounts=mounts)
        assert "allow_other" in reason({}, ROOT, mounts=mounts)

    def test_fuse_of_the_services_own_user(self):
        assert told({}, READER, mounts=[MountFact(SOURCE, "fuse.sshfs", 990)]) == []

    def test_what_is_mounted_over_it_counts(self):
        mounts = [MountFact(SOURCE, "fuse.sshfs", 1000), MountFact(SOURCE, "ext4")]

        assert told({}, READER, mounts=mounts) == []

    def test_nfs_gives_capabilities_nothing(self):
        mounts = [MountFact(SOURCE.parent, "nfs4")]

        closed, opened = PathFact(SOURCE, open=False), PathFact(SOURCE)
        assert "NFS" in reason({}, READER, mounts=mounts, source=closed)
        assert told({}, READER, mounts=mounts, source=opened) == []
        assert told({}, ROOT, mounts=mounts, source=closed) == []

    def test_nfs_may_not_let_root_in(self):
        refused = PathFact(SOURCE, open=False, refused=True)

        mounts = [MountFact(SOURCE, "nfs")]
        assert "root_squash" in reason({}, ROOT, mounts=mounts, source=refused)

    def test_a_users_own_service_reads_what_that_user_may_read(self):
        assert "you may not" in reason({}, USER, source=PathFact(SOURCE, refused=True))


class TestCommands:
    JOB = {"only_if": {"command": ["/usr/local/sbin/ready"]}}  # noqa: RUF012 - is not changed
    PATH = Path("/usr/local/sbin/ready")

    def test_one_that_all_may_run(self):
        assert told(self.JOB, READER) == []

    def test_one_that_only_root_may_run(self):
        command = PathFact(self.PATH, runs=False)

        assert "not for auto-backup to run" in reason(self.JOB, READER, command=command)
        assert told(self.JOB, ROOT, command=command) == []

    def test_one_that_is_not_there(self):
        command = PathFact(self.PATH, exists=False)

        assert "does not exist" in reason(self.JOB, ROOT, command=command)

    def test_nothing_gets_more_rights(self):
        job = {"only_if": {"command": ["/usr/bin/sudo", "true"]}}

        assert "no more rights" in reason(job, READER)
        assert told(job, ROOT) == []


class TestKeys:
    def test_a_missing_one_concerns_all_jobs(self):
        (found,) = told({}, READER, key=PathFact(KEY, exists=False))

        assert found.job == ""
        assert "key new" in str(found)

    def test_one_that_only_root_reads_is_handed_over(self):
        assert told({}, READER, key=PathFact(KEY, open=False)) == []


class TestFacts:
    def test_a_store_as_it_is_made(self, source, store, key_file):
        take("--source", source, "--store", store)
        (store / "lost+found").mkdir()

        found = look_at_store(store)

        assert found == StoreFact(store, owners=frozenset({os.getuid()}))

    @pytest.mark.parametrize("name", ["holiday.jpg", "h/j/notes.txt", "h/j/j.enc"])
    def test_anything_else_in_it_is_strange(self, source, store, key_file, name):
        take("--source", source, "--store", store)
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).touch()

        assert look_at_store(store).strange == store / name

    def test_also_a_link_and_a_second_name(self, store, tmp_path):
        store.mkdir()
        (tmp_path / "file").touch()
        (store / "recover.py").symlink_to(tmp_path / "file")
        assert look_at_store(store).strange == store / "recover.py"

        (store / "recover.py").unlink()
        (store / "recover.py").hardlink_to(tmp_path / "file")
        assert look_at_store(store).strange == store / "recover.py"

    def test_a_directory_that_is_not_there(self, store):
        assert look_at_store(store) == StoreFact(store, exists=False)
        assert look_at_store(store / "below").parent is False

    def test_paths_are_seen_as_others_see_them(self, open_dir):
        (open_dir / "closed").mkdir(mode=0o700)
        (open_dir / "closed" / "file").touch(mode=0o755)
        (open_dir / "file").touch(mode=0o755)

        assert (look_at(open_dir / "file").open, look_at(open_dir / "file").runs) == (True, True)
        assert look_at(open_dir / "closed" / "file").runs is False
        assert look_at(open_dir / "nothing").exists is False

    def test_mounts_and_whose_they_are(self, tmp_path):
        file = tmp_path / "mountinfo"
        file.write_text(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
            "2 1 0:5 / /home/a\\040b/m rw - fuse.sshfs x:/ rw,user_id=1000,group_id=1000\n"
            "3 1 0:6 / /mnt/all rw - fuse.sshfs x:/ rw,user_id=1000,allow_other\n"
            "4 1 0:7 / /srv rw - nfs4 s:/ rw,vers=4.2\n"
            "not a line\n"
        )

        assert list(read_mounts(file)) == [
            MountFact(Path("/"), "ext4"),
            MountFact(Path("/home/a b/m"), "fuse.sshfs", 1000),
            MountFact(Path("/mnt/all"), "fuse.sshfs"),
            MountFact(Path("/srv"), "nfs4"),
        ]


class TestPrograms:
    def test_one_of_the_system_can_be_run_by_all(self):
        parts = parts_of(Program(("/usr/bin/true",), (Path("/usr/bin/true"),)))

        assert {"/", "/usr", "/usr/bin", "/usr/bin/true"} <= {str(one.path) for one in parts}
        assert program_problem(parts, as_reader=True) is None

    @pytest.mark.parametrize(
        ("part", "as_reader", "as_root"),
        [
            (Part(Path("/root"), 0, 0o040700), "may not enter /root", None),
            (Part(Path("/opt/x"), 0, 0o100700), "may not read /opt/x", None),
            (Part(Path("/home/ann"), 1000, 0o040755), "can be changed", "can be changed"),
            (Part(Path("/shared"), 0, 0o040777), "can be changed", "can be changed"),
            (Part(Path("/tmp"), 0, 0o041777), None, None),  # noqa: S108 - sticky
        ],
    )
    def test_where_it_lies_matters(self, part, as_reader, as_root):
        for expected, is_reader in ((as_reader, True), (as_root, False)):
            found = program_problem([part], as_reader=is_reader)
            assert (found is None) == (expected is None)
            assert (expected or "") in (found or "")


class TestValidate:
    @pytest.fixture
    def config(self, tmp_path, source, key_file):
        path = tmp_path / "config.json"
        job = {"sources": [str(source)], "stores": [str(tmp_path / "store")], "keep": {"last": 1}}
        jobs = {"good": job, "bad": job | {"sources": ["/proc"]}}
        path.write_text(json.dumps({"version": 1, "jobs": jobs}))
        return path

    def test_each_job_that_cannot_run_is_named_with_its_reason(self, config):
        result = run("config", "validate", config, "--service", "reader")

        assert result.status == 2
        assert "not by a service (reader): job bad: its source /proc: " in result.err
        assert "job good" not in result.err
        assert result.out == ""

    def test_in_json(self, config):
        result = run("config", "validate", config, "--service", "root", "--json")

        (found,) = result.json["jobs_that_cannot_run"]
        assert Misfit(**found).job == "bad"
        assert result.json["problems"] == []

    def test_without_the_option_nobody_asks(self, config):
        assert run("config", "validate", config).status == 0

    def test_a_profile_that_does_not_exist(self, config):
        assert run("config", "validate", config, "--service", "admin").status == 2
