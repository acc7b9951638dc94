"""``ls``, ``cat``, ``restore`` and ``verify`` of zip and tar files, without any key or store."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile

import pytest

from tests.cli import done, load_all, run
from tests.hostile_archives import Thing, overlapping, tar_of, zip_of
from tests.lister import listing
from tests.needs import needs

FORMS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"]
THINGS = [
    Thing("dir", "docs/"),
    Thing("file", "docs/notes.txt", content=b"some notes"),
    Thing("link", "docs/link", "notes.txt"),
    Thing("file", "other", content=b"x" * 5000),
]


@pytest.fixture(params=["zip", "tar", "tar.gz"])
def archive(request, tmp_path):
    """Return an archive of a few things that somebody else has made."""
    path = tmp_path / f"a.{request.param}"
    mode = "w:gz" if request.param == "tar.gz" else "w"
    path.write_bytes(zip_of(THINGS) if request.param == "zip" else tar_of(THINGS, mode=mode))
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out"


def without_links(rows):
    """Return rows of a tree without what zip cannot tell."""
    return {
        path: row._replace(linked_names=frozenset(), attributes=frozenset(), data=(), mtime_ns=0)
        for path, row in rows.items()
        if row.type in "-dl"
    }


def remove_latin(tree):
    """Remove a name that is not UTF-8, which zip has no way to tell."""
    for path in tree.rglob("latin-*"):
        path.unlink()


class TestOwnArchives:
    @pytest.mark.parametrize("form", FORMS[1:])
    def test_a_tar_gives_back_the_tree_as_it_was(self, form, tree, tmp_path, target):
        path = tmp_path / f"a.{form}"
        done("archive", tree, "-o", path)

        assert run("verify", path).status == 0
        result = done("restore", path, "--target", target)

        assert listing(target / tree.name) == listing(tree)
        assert result.lines[0].startswith(f"restored {len(listing(tree))} entries")

    def test_a_zip_gives_back_what_zip_can_tell(self, tree, tmp_path, target):
        path = tmp_path / "a.zip"
        remove_latin(tree)
        run("archive", tree, "-o", path)

        assert done("verify", path).status == 0
        done("restore", path, "--target", target)

        assert without_links(listing(target / tree.name)) == without_links(listing(tree))

    @pytest.mark.parametrize("form", FORMS)
    def test_it_is_listed_and_read(self, form, source, tmp_path):
        (source / "notes.txt").write_text("some notes")
        path = tmp_path / f"a.{form}"
        done("archive", source, "-o", path)

        assert done("ls", path).lines == [source.name, f"{source.name}/notes.txt"]
        assert done("cat", path, f"{source.name}/notes.txt").raw == b"some notes"


class TestArchivesOfOthers:
    @pytest.mark.parametrize(
        ("tool", "name"),
        [
            (["tar", "-cf"], "a.tar"),
            (["tar", "--format=gnu", "-czf"], "a.tgz"),
            (["tar", "-cJf"], "a.tar.xz"),
            (["tar", "--zstd", "-cf"], "a.tar.zst"),
            (["bsdtar", "-cjf"], "a.tbz2"),
            (["bsdtar", "--format=pax", "-cf"], "b.tar"),
            (["zip", "-qry"], "a.zip"),
            (["bsdtar", "--format=zip", "-cf"], "b.zip"),
        ],
        ids=lambda one: one if isinstance(one, str) else one[0],
    )
    def test_what_other_tools_write_comes_back(self, tool, name, tree, tmp_path, target):
        needs(shutil.which(tool[0]) is not None, f"there is no {tool[0]}")
        for path in sorted(tree.rglob("*")):
            if not path.is_file() and not path.is_dir() and not path.is_symlink():
                path.unlink()
        command = [*tool, str(tmp_path / name), tree.name]
        subprocess.run(command, cwd=tree.parent, check=True, capture_output=True)

        done("verify", tmp_path / name)
        done("restore", tmp_path / name, "--target", target)

        assert without_links(listing(target / tree.name)) == without_links(listing(tree))


class TestListing:
    def test_names_are_as_the_archive_has_them(self, archive):
        assert done("ls", archive).lines == ["docs", "docs/link", "docs/notes.txt", "other"]

    def test_some_paths_alone_are_listed(self, archive):
        assert done("ls", archive, "docs").lines == ["docs", "docs/link", "docs/notes.txt"]

    def test_a_path_that_is_not_there_is_told(self, archive):
        result = run("ls", archive, "nothing")

        assert result.status == 16
        assert "the archive does not hold /nothing" in result.err

    def test_json_tells_each_member(self, archive):
        result = done("--json", "ls", archive, "other")

        assert '"path":"other","type":"file"' in result.out.replace(": ", ":").replace(", ", ",")

    def test_modes_and_targets_are_told(self, archive):
        lines = done("ls", "-l", archive).lines

        assert lines[1].startswith("lrwxrwxrwx")
        assert lines[1].endswith("docs/link -> notes.txt")

    def test_a_member_is_written_to_standard_output(self, archive):
        assert done("cat", archive, "docs/notes.txt").raw == b"some notes"

    def test_what_is_no_file_is_not_written(self, archive):
        assert "not a file, but a directory" in run("cat", archive, "docs").err


class TestRestoring:
    def test_everything_comes_back(self, archive, target):
        result = done("restore", archive, "--target", target)

        assert result.lines[0].startswith("restored 4 entries (2 files")
        assert (target / "docs" / "link").read_bytes() == b"some notes"
        assert (target / "docs").stat().st_mtime == 1_600_000_000

    def test_some_paths_come_back_without_the_others(self, archive, target):
        done("restore", archive, "docs/notes.txt", "--target", target, "--strip", "1")

        assert [path.name for path in target.iterdir()] == ["notes.txt"]

    def test_nothing_is_overwritten_unless_somebody_says_so(self, archive, target):
        target.mkdir()
        (target / "other").write_bytes(b"mine")

        refused = run("restore", archive, "--target", target)
        assert refused.status == 16
        assert "already has /other" in refused.err
        assert (target / "other").read_bytes() == b"mine"

        done("--yes", "restore", archive, "--target", target, "--overwrite", "always")
        assert (target / "other").read_bytes() == b"x" * 5000

    def test_what_is_unchanged_is_kept(self, archive, target):
        done("restore", archive, "--target", target)
        before = (target / "other").stat().st_ino
        (target / "docs" / "notes.txt").write_bytes(b"SOME NOTES")
        os.utime(target / "docs" / "notes.txt", (0, 1_600_000_000))

        again = done("--yes", "restore", archive, "--target", target, "--overwrite", "if-changed")

        assert (target / "other").stat().st_ino == before
        assert (target / "docs" / "notes.txt").read_bytes() == b"some notes"
        assert "1 replaced what was there" in again.out

    def test_the_plan_is_told_and_nothing_done(self, archive, target):
        result = done("-n", "restore", archive, "--target", target)

        assert "would restore 4 entries (2 files" in result.lines[0]
        assert not target.exists()

    def test_in_place_is_refused_with_the_reason(self, archive):
        result = run("restore", archive, "--in-place")

        assert result.status == 2
        assert "the names in a plain archive are relative" in result.err

    def test_delete_is_refused_with_the_reason(self, archive, target):
        result = run("restore", archive, "--target", target, "--overwrite", "always", "--delete")

        assert result.status == 16
        assert "does not tell what it left out" in result.err

    def test_a_cut_off_one_gives_what_came_before_and_says_so(self, tmp_path, target):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of(THINGS)[:3000])

        result = run("restore", path, "--target", target)

        assert result.status == 13
        assert "the archive ends within /other" in result.err
        assert (target / "docs" / "notes.txt").read_bytes() == b"some notes"
        assert not (target / "other").exists()

    def test_a_damaged_member_is_left_out_and_told(self, tmp_path, target):
        path = tmp_path / "a.zip"
        path.write_bytes(zip_of(THINGS, method=zipfile.ZIP_STORED).replace(b"some notes", b"none"))
        path.write_bytes(zip_of(THINGS, method=0).replace(b"some notes", b"some n0tes"))

        result = run("restore", path, "--target", target)

        assert result.status == 13
        assert "/docs/notes.txt" in result.err
        assert sorted(os.listdir(target / "docs")) == ["link"]  # noqa: PTH208 - with links
        assert (target / "other").exists()

    def test_a_password_is_told_as_not_supported(self, tmp_path, target):
        needs(shutil.which("zip") is not None, "there is no zip")
        (tmp_path / "x").write_text("secret")
        subprocess.run(["zip", "-q", "-P", "pw", "a.zip", "x"], cwd=tmp_path, check=True)

        assert done("ls", tmp_path / "a.zip").lines == ["x"]
        for command in (("restore", "--target", target), ("verify",)):
            result = run(command[0], tmp_path / "a.zip", *command[1:])
            assert result.status == 16
            assert "encrypted with a password" in result.err

    def test_a_user_gets_what_is_his_and_is_told_of_owners(self, open_dir, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        path = open_dir / "a.tar"
        path.write_bytes(tar_of([Thing("file", "x", fields=(("uid", 12), ("mode", 0o4755)))]))

        load_all()
        with as_nobody():
            result = run(
                *("restore", path, "--target", open_dir / "out", "--state-dir", open_dir / "state")
            )

        assert "owners are not set: only root may" in result.err
        assert (open_dir / "out" / "x").stat().st_mode & 0o7777 == 0o755


class TestVerifying:
    def test_it_says_what_was_compared_and_what_that_is_worth(self, archive):
        result = done("verify", archive)

        assert result.out.startswith(f"holds    {archive}: 4 members and")
        assert "proves less than a snapshot" in result.err

    def test_an_archive_that_is_not_compressed_has_no_checksums(self, tmp_path):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of(THINGS))

        assert "checksums of its headers only" in done("verify", path).err

    def test_damage_is_told_with_member_and_place(self, tmp_path):
        path = tmp_path / "a.zip"
        path.write_bytes(zip_of(THINGS, method=0).replace(b"some notes", b"some n0tes"))

        result = run("verify", path)

        assert result.status == 13
        assert result.out.startswith(f"damaged  {path}")
        assert "/docs/notes.txt at byte" in result.err

    def test_overlapping_members_are_damage(self, tmp_path):
        path = tmp_path / "a.zip"
        path.write_bytes(overlapping(3))

        assert "overlap" in run("verify", path).err

    def test_several_are_told_one_by_one_and_in_json(self, tmp_path, archive):
        bad = tmp_path / "bad.tar"
        bad.write_bytes(tar_of(THINGS)[:3000])

        result = run("--json", "verify", archive, bad)

        assert result.status == 13
        assert [one["holds"] for one in result.json] == [True, False]
        assert "ends within" in result.json[1]["errors"][0]["message"]


class TestWhatIsAnArchive:
    def test_its_content_counts_not_its_name(self, archive, tmp_path):
        path = tmp_path / "download"
        path.write_bytes(archive.read_bytes())

        assert done("ls", path).lines[0] == "docs"

    def test_what_says_to_be_one_and_is_none_is_told(self, tmp_path):
        path = tmp_path / "a.zip"
        path.write_bytes(b"nothing of the kind")

        result = run("ls", path)

        assert result.status == 13
        assert "is no zip archive, whatever its name says" in result.err

    def test_a_path_to_something_else_is_told(self, tmp_path):
        (tmp_path / "notes").write_text("nothing of the kind")

        result = run("restore", tmp_path / "notes", "--target", tmp_path / "out")

        assert result.status == 13
        assert "neither a snapshot nor a plain archive" in result.err

    def test_where_no_snapshot_has_the_name_of_a_file_it_says_how_to_mean_the_file(
        self, tmp_path, monkeypatch, key_file
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "photos").write_bytes(b"7z")

        for command in ("ls", "verify"):
            result = run(command, "photos", "-s", tmp_path / "store")

            assert result.status == 10
            assert "to mean it, say ./photos" in result.err

    def test_something_packed_that_is_no_tar_is_told(self, tmp_path):
        path = tmp_path / "a.tar.gz"
        path.write_bytes(b"\x1f\x8b" + bytes(40))

        assert "packed with gzip, but no tar" in run("verify", path).err

    def test_one_that_is_not_there_is_told(self, tmp_path):
        result = run("ls", tmp_path / "a.zip")

        assert result.status == 10
        assert "there is no file" in result.err

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.zip")

        assert run("ls", tmp_path / "a.zip").status == 10

    def test_a_file_cannot_take_the_place_of_a_snapshots_name(
        self, source, store, key_file, tmp_path, monkeypatch
    ):
        """An attacker who may write to where somebody works must not give him other contents."""
        (source / "right").touch()
        done("--now", "--source", source, "--store", store, "--job", "docs")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "testhost").mkdir()
        for name in ("latest", "docs", "testhost/docs"):
            (tmp_path / name).write_bytes(tar_of([Thing("file", "wrong")]))

            assert done("ls", name, "--store", store).lines[-1] == f"{source}/right"
        assert done("ls", "./docs", "--store", store).lines == ["wrong"]
