"""Zip and tar files that mean harm: nothing outside of the target is reached, as root neither."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli import run
from tests.hostile import canaries, make_canaries
from tests.hostile_archives import Thing, cases, tar_of, zip_of

CASES = list(cases())
TOLD = {0, 3, 13, 16}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def outside(tmp_path):
    """A tree beside the target, which must be the same when the test is over."""
    directory = make_canaries(tmp_path)
    before = canaries(directory)
    yield directory
    assert canaries(directory) == before


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target"
    yield path
    subprocess.run(["rm", "-rf", path], check=True)  # it may be deeper than Python goes


class TestArchivesThatMeanHarm:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence[:90])
    def test_nothing_outside_changes_and_what_is_wrong_is_told(
        self, case, tmp_path, target, outside
    ):
        path = case.write(tmp_path, outside)
        beside = names(tmp_path)

        result = run("restore", path, "--target", target)

        assert {*names(tmp_path)} - {*beside} <= {"target"}
        assert "Traceback" not in result.err
        assert result.status in TOLD
        assert result.status == 0 or "auto-backup: " in result.err
        assert "\x1b" not in result.out + result.err

    @pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.sentence[:90])
    def test_what_there_is_already_is_not_followed_either(self, case, tmp_path, target, outside):
        path = case.write(tmp_path, outside)
        target.mkdir()
        for name in ("x", "l", "a", "d"):
            (target / name).symlink_to(outside)

        for policy in ("always", "if-changed", "never"):
            result = run("--yes", "restore", path, "--target", target, "--overwrite", policy)

            assert "Traceback" not in result.err
            assert result.status in TOLD

    @pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.sentence[:90])
    def test_listing_and_verifying_touch_nothing(self, case, tmp_path, outside):
        path = case.write(tmp_path, outside)
        beside = names(tmp_path)

        for command in ("ls", "verify"):
            result = run(command, path)

            assert "Traceback" not in result.err
            assert result.status in TOLD
        assert names(tmp_path) == beside

    def test_there_are_as_many_as_promised(self):
        assert len({case.sentence for case in CASES}) == len(CASES) > 600


class TestWhatIsRefused:
    @pytest.mark.parametrize(("make", "end"), [(tar_of, "tar"), (zip_of, "zip")])
    def test_a_name_that_leads_out_is_left_out_and_told_and_the_rest_restored(
        self, make, end, tmp_path, target, outside
    ):
        path = tmp_path / f"a.{end}"
        path.write_bytes(make([Thing("file", "../outside/x"), Thing("file", "good")]))

        result = run("restore", path, "--target", target)

        assert result.status == 3
        assert "/../outside/x" in result.err
        assert (target / "good").read_bytes() == b"written"
        assert names(target) == ["good"]

    @pytest.mark.parametrize(("make", "end"), [(tar_of, "tar"), (zip_of, "zip")])
    def test_what_lies_below_a_link_is_told_before_anything_is_done(
        self, make, end, tmp_path, target, outside
    ):
        path = tmp_path / f"a.{end}"
        path.write_bytes(make([Thing("link", "l", str(outside)), Thing("file", "l/secret")]))

        plan = run("--dry-run", "restore", path, "--target", target)

        assert "it lies below /l, which is a symbolic link there" in plan.out
        assert not target.exists()

    def test_the_mode_of_the_target_is_not_the_archives_to_set(self, tmp_path, target):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of([Thing("dir", "./"), Thing("file", "./x")]))
        target.mkdir(mode=0o700)

        assert run("restore", path, "--target", target).status == 0

        assert target.stat().st_mode & 0o777 == 0o700
