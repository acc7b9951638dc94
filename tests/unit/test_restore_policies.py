"""What becomes of what exists: every policy on every kind of thing in every state."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from backup.errors import InvalidArgumentError, RestoreError
from backup.manager import BackupManager, take_snapshot
from backup.model import ExcludeRules
from backup.restore.decision import Action
from backup.restore.manager import RestoreManager
from backup.storage.local import LocalStorage
from tests.lister import listing

MOMENT = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9
POLICIES = ["always", "if-changed", "if-newer", "never"]
KINDS = ["file", "large file", "link", "pipe", "twin"]
if os.geteuid() == 0:
    KINDS.append("device")


def make(kind, path, number=0):
    """Make something; another ``number`` gives something else of the same kind."""
    if kind == "file":
        path.write_text(f"content {number}")
    elif kind == "large file":
        path.write_bytes(bytes([65 + number]) * 300_000)
    elif kind == "link":
        path.symlink_to(f"target {number}")
    elif kind == "pipe":
        os.mkfifo(path, 0o600 if number else 0o640)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3 + 2 * number))
    elif kind == "directory":
        path.mkdir()
    elif kind == "full directory":
        path.mkdir()
        (path / "in it").write_text("precious")
    else:
        path.write_text(f"twin {number}")
        path.with_name("z-twin").unlink(missing_ok=True)
        path.with_name("z-twin").hardlink_to(path)


def set_time(path, ns):
    os.utime(path, ns=(0, ns), follow_symlinks=False)


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def things(directory, policy):
    """Return the rows of a directory; its own time is only as it was if it is restored too."""
    rows = listing(directory)
    if policy in {"if-newer", "never"}:
        rows[b""] = rows[b""]._replace(mtime_ns=0)
    return rows


@pytest.fixture
def restores(store, key):
    return RestoreManager(store, key)


@pytest.fixture
def saved(source, store, make_request):
    """Return a function that saves one thing in a directory, and returns its path."""

    def save(kind, **fields):
        make(kind, source / "x")
        set_time(source / "x", MOMENT)
        take_snapshot(make_request(source, cap=64 * 1024, **fields), LocalStorage(store))
        return source / "x"

    return save


class TestOneThing:
    @pytest.mark.parametrize("policy", [None, *POLICIES])
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_missing_comes_back(self, saved, restores, source, kind, policy):
        path = saved(kind)
        rows = things(source, policy)
        path.unlink()
        if kind == "twin" and policy is None:  # its other name is there
            path.with_name("z-twin").unlink()

        restores.restore("latest", in_place=True, overwrite=policy)

        after = things(source, policy)
        if kind == "twin" and policy in {"if-newer", "never"}:
            # The name that stayed may be another file's by now, so the two are not linked.
            rows = {
                name: row._replace(linked_names=frozenset({name})) for name, row in rows.items()
            }
        assert after == rows

    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_the_same_is_written_only_by_always(
        self, saved, restores, source, kind, policy
    ):
        path = saved(kind)
        rows, inode = listing(source), path.lstat().st_ino

        report = restores.restore("latest", in_place=True, overwrite=policy)

        assert listing(source) == rows
        assert (path.lstat().st_ino == inode) == (policy != "always")
        assert report.replaced == (0 if policy != "always" else 2 if kind == "twin" else 1)

    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("change", ["newer", "older"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_differs_is_replaced_as_the_policy_says(  # noqa: PLR0917 - fixtures
        self, saved, restores, source, kind, change, policy
    ):
        path = saved(kind)
        rows = things(source, policy)
        path.unlink()
        make(kind, path, 1)
        set_time(path, MOMENT + (DAY if change == "newer" else -DAY))
        before = things(source, policy)

        restores.restore("latest", in_place=True, overwrite=policy)

        replaced = policy in {"always", "if-changed"} or (policy, change) == ("if-newer", "older")
        assert things(source, policy) == (rows if replaced else before)

    @pytest.mark.parametrize("kind", ["file", "large file", "twin"])
    def test_another_content_of_the_same_size_and_time_is_found_by_reading(
        self, saved, restores, source, kind
    ):
        path = saved(kind)
        rows = listing(source)
        with path.open("r+b") as file:
            file.write(b"C")
        set_time(path, MOMENT)
        plan = restores.plan_restore("latest", in_place=True, overwrite="if-changed")

        report = restores.restore("latest", in_place=True, overwrite="if-changed")

        assert plan.tallies[Action.COMPARE].count == (2 if kind == "twin" else 1)
        assert report.replaced >= 1
        assert listing(source) == rows

    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("kind", ["file", "pipe", "directory"])
    def test_metadata_alone_is_mended_in_place(self, saved, restores, source, kind, policy):
        path = saved(kind)
        rows, inode = listing(source), path.lstat().st_ino
        path.chmod(0o7)
        set_time(path, MOMENT)
        changed = listing(source)

        report = restores.restore("latest", in_place=True, overwrite=policy)

        if policy == "if-changed" or (policy == "always" and kind == "directory"):
            assert report.mended >= 1
            assert path.lstat().st_ino == inode
        assert listing(source) == (rows if policy in {"always", "if-changed"} else changed)

    @pytest.mark.parametrize("delete", [False, True])
    @pytest.mark.parametrize("policy", [None, *POLICIES])
    @pytest.mark.parametrize("now", ["file", "link", "pipe", "directory", "full directory"])
    @pytest.mark.parametrize("was", ["file", "link", "pipe", "directory"])
    def test_another_kind_of_thing_is_replaced_as_the_policy_says(  # noqa: PLR0917 - fixtures
        self, saved, restores, source, was, now, policy, delete
    ):
        if was == now.split()[-1]:
            pytest.skip("it is the same kind")
        path = saved(was)
        rows = things(source, policy)
        remove(path)
        make(now, path, 1)
        set_time(path, MOMENT - DAY)  # so that if-newer replaces it
        before = listing(source)
        refused = policy is None or (now == "full directory" and not delete and policy != "never")

        if refused:
            with pytest.raises(RestoreError) as caught:
                restores.restore("latest", in_place=True, overwrite=policy, delete=delete)
            assert "nothing has been changed" in caught.value.hint
            assert listing(source) == before
            return
        report = restores.restore("latest", in_place=True, overwrite=policy, delete=delete)

        if policy != "never":
            assert things(source, policy) == rows
        elif now == "full directory" and delete:
            assert (path / "in it").exists()  # it is kept, and so is what is in it
        else:
            assert listing(source)[b"x"].type == before[b"x"].type
        assert report.problems == []

    def test_a_file_that_got_another_name_is_replaced_and_the_other_one_left_alone(
        self, saved, restores, source, tmp_path
    ):
        path = saved("file")
        (tmp_path / "other").hardlink_to(path)
        path.chmod(0o777)

        restores.restore("latest", in_place=True, overwrite="if-changed")

        assert (tmp_path / "other").stat().st_mode & 0o777 == 0o777
        assert path.stat().st_mode & 0o777 == 0o644
        assert path.stat().st_nlink == 1

    def test_names_of_one_file_get_their_metadata_by_a_new_file(
        self, saved, restores, source, tmp_path
    ):
        path = saved("twin")
        rows = listing(source)
        (tmp_path / "foreign").hardlink_to(path)
        path.chmod(0o600)
        set_time(path, MOMENT)

        report = restores.restore("latest", in_place=True, overwrite="if-changed")

        assert report.problems == []
        assert listing(source) == rows
        assert (tmp_path / "foreign").stat().st_mode & 0o777 == 0o600

    def test_a_damaged_content_does_not_take_the_place_of_a_good_one(
        self, saved, restores, source, store
    ):
        path = saved("large file")
        file = next(store.rglob("*.enc"))
        reader = restores.open("latest")
        data = bytearray(file.read_bytes())
        for number in {chunk.extent.frame for chunk in reader.chunks(list(reader.entries())[-1])}:
            data[reader.rows[number].offset + 100] ^= 1
        file.write_bytes(data)
        path.write_text("better than nothing")

        report = restores.restore("latest", in_place=True, overwrite="always")

        assert len(report.damaged) == 1
        assert path.read_text() == "better than nothing"


class TestDeleting:
    @pytest.fixture
    def full(self, tree, store, make_request, restores):
        take_snapshot(make_request(tree), LocalStorage(store))
        return tree

    def delete(self, restores, **options):
        return restores.restore("latest", in_place=True, overwrite="always", delete=True, **options)

    def test_only_what_is_below_restored_directories_goes(self, full, restores):
        for place in ("docs", "docs/deep", "shared", "."):
            (full / place / "mine").write_text("mine")

        report = restores.restore(
            "latest", None, [full / "docs"], in_place=True, overwrite="if-changed", delete=True
        )

        assert report.deleted == 2
        assert not (full / "docs" / "mine").exists()
        assert not (full / "docs" / "deep" / "mine").exists()
        assert (full / "shared" / "mine").exists()
        assert (full / "mine").exists()

    def test_whole_directories_go_with_all_that_is_in_them(self, full, restores):
        rows = listing(full)
        (full / "new" / "deep" / "er").mkdir(parents=True)
        (full / "new" / "deep" / "file").write_text("x" * 100)
        (full / "new" / "link").symlink_to(full / "docs")
        plan = restores.plan_restore("latest", in_place=True, overwrite="always", delete=True)

        report = self.delete(restores)

        [(path, doomed)] = plan.deletions.items()
        assert path.endswith(b"/new")
        assert (doomed.names, doomed.size) == (report.deleted, 100) == (5, 100)
        assert listing(full) == rows

    def test_what_came_after_the_plan_stays(self, full, restores):
        def add(_report, _path):
            (full / "docs" / "late").write_text("late")

        restores.restore(
            "latest", in_place=True, overwrite="if-changed", delete=True, on_restored=add
        )

        assert (full / "docs" / "late").read_text() == "late"

    def test_a_socket_stays_because_no_snapshot_holds_any(self, full, restores):
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(full)  # a socket's path is short
            server.bind("docs/socket")
            os.chdir(here)

            report = self.delete(restores)

        assert stat.S_ISSOCK((full / "docs" / "socket").stat().st_mode)
        assert report.left == 1

    def test_snapshots_and_what_is_ours_stay(self, full, restores, store, private_home):
        shutil.copytree(store, full / "a copy of a store")
        (full / "key").write_text("secret")
        plan = restores.plan_restore(
            "latest", in_place=True, overwrite="always", delete=True, own=[full / "key"]
        )

        told = dict(plan.tallies[Action.LEAVE].examples)

        assert plan.deletions == {}
        assert {os.fsdecode(path).rpartition("/")[2]: reason for path, reason in told.items()} == {
            "a copy of a store": told[os.fsencode(full / "a copy of a store").lstrip(b"/")],
            "key": "not deleted: it belongs to auto-backup",
        }
        assert any("it belongs to a snapshot" in reason for reason in told.values())

    def test_the_store_within_a_source_is_neither_deleted_nor_written_to(
        self, tree, make_request, key
    ):
        inside = tree / "store"
        manager = RestoreManager(inside, key)
        take_snapshot(make_request(tree), LocalStorage(inside))
        rows = listing(tree)
        (inside / "notes").write_text("mine")
        (tree / "new").write_text("new")

        self.delete(manager)

        assert (inside / "notes").exists()
        (inside / "notes").unlink()
        os.utime(inside, ns=(0, rows[b"store"].mtime_ns))
        assert listing(tree) == rows

    def test_a_directory_that_could_not_be_listed_loses_nothing(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        source = open_dir / "source"
        (source / "closed").mkdir(parents=True)
        (source / "closed" / "never seen").write_text("precious")
        (source / "closed").chmod(0o700)
        source.chmod(0o755)
        with as_nobody():
            BackupManager(source, open_dir / "store", key, state=open_dir / "s").create_snapshot()

        with pytest.raises(RestoreError, match="1 of what was there could not be read"):
            self.delete(RestoreManager(open_dir / "store", key))

        assert (source / "closed" / "never seen").exists()

    def test_a_snapshot_with_rules_deletes_nothing(self, source, store, make_request, restores):
        (source / "kept").touch()
        request = make_request(source, rules=ExcludeRules(exclude=("*.log",)))
        take_snapshot(request, LocalStorage(store))
        (source / "left out.log").touch()

        with pytest.raises(RestoreError, match="taken with rules") as caught:
            self.delete(restores)

        assert "without --delete" in caught.value.hint
        assert (source / "left out.log").exists()


class TestStrip:
    def test_leading_components_are_taken_off(self, tree, store, make_request, restores, tmp_path):
        take_snapshot(make_request(tree), LocalStorage(store))
        depth = len(tree.parts) - 1
        out = tmp_path / "out"

        restores.restore("latest", out, strip=depth)

        rows = listing(tree)
        again = listing(out)
        assert again.pop(b"").type == rows.pop(b"").type
        assert again == rows

    def test_what_has_no_name_left_is_told(self, source, store, make_request, restores, tmp_path):
        (source / "x").touch()
        (source / "d").mkdir()
        (source / "d" / "y").touch()
        take_snapshot(make_request(source), LocalStorage(store))

        plan = restores.plan_restore("latest", tmp_path / "out", strip=len(source.parts))

        assert [path for path, _ in plan.tallies[Action.LEAVE].examples] == [
            os.fsencode(source / "x").lstrip(b"/")
        ]
        assert plan.tallies[Action.CREATE].count == 2

    def test_two_that_would_have_one_name_are_refused(
        self, source, store, make_request, restores, tmp_path
    ):
        for name in ("a", "b"):
            (source / name).mkdir()
            (source / name / "same").write_text(name)
        take_snapshot(make_request(source), LocalStorage(store))

        with pytest.raises(RestoreError, match="two entries would be '/same'"):
            restores.restore("latest", tmp_path / "out", strip=len(source.parts))

        assert not (tmp_path / "out").exists()

    def test_stripped_and_deleted_is_a_mirror(self, tree, store, make_request, restores, tmp_path):
        take_snapshot(make_request(tree), LocalStorage(store))
        options = {"strip": len(tree.parts) - 1, "overwrite": "always", "delete": True}
        restores.restore("latest", tmp_path / "out", **options)
        rows = listing(tmp_path / "out")
        (tmp_path / "out" / "new").mkdir()
        (tmp_path / "out" / "old").unlink()

        restores.restore("latest", tmp_path / "out", **options)

        again = listing(tmp_path / "out")
        assert again.pop(b"").type == rows.pop(b"").type
        assert again == rows


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"in_place": True, "strip": 1}, "--strip does not go with --in-place"),
            ({"in_place": True, "target": "/tmp/x"}, "either to a target or in place"),  # noqa: S108
            ({}, "either to a target or in place"),
            ({"target": "x", "strip": -1}, "less than nothing"),
            ({"target": "x", "overwrite": "sometimes"}, "no way to overwrite"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, restores, options, words):
        with pytest.raises(InvalidArgumentError, match=words):
            restores.restore("latest", **options)
