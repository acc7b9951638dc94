"""``--workers``, and the same for programs."""

from __future__ import annotations

import pytest

from backup.errors import InvalidArgumentError
from backup.manager import BackupManager
from tests.cli import done, run
from tests.processes import Watch

pytestmark = pytest.mark.usefixtures("key_file")
TWO_FRAMES = 17_000_000


@pytest.fixture
def much(source):
    (source / "file").write_bytes(bytes(TWO_FRAMES))
    return source


class TestTheCommand:
    @pytest.mark.parametrize("value", ["0", "-1", "257", "99999999999999999999"])
    @pytest.mark.parametrize("now", ["--now", "backup"])
    def test_refuses_what_is_no_number_of_workers(self, now, value, source, store):
        result = run(now, f"--workers={value}", "--source", source, "--store", store)

        assert result.status == 2
        assert f"there can be 1 to 256 workers, not {value}" in result.err
        assert not store.exists()

    @pytest.mark.parametrize("value", ["two", "1.5", "", "all"])
    def test_refuses_what_is_no_number(self, value, source, store):
        result = run("--now", f"--workers={value}", "--source", source, "--store", store)

        assert result.status == 2
        assert "--workers" in result.err
        assert not store.exists()

    def test_takes_it_before_and_behind_the_other_options(self, source, store):
        (source / "file").touch()
        done("--workers", "1", "--now", "--source", source, "--store", store)
        done("--now", "--source", source, "--store", store, "--workers", 1)
        done("backup", "--workers=1", "--source", source, "--store", store)

    def test_plans_with_it_as_well(self, source, store):
        (source / "file").touch()
        done("-n", "--now", "--workers", 2, "--source", source, "--store", store)
        assert run("-n", "--now", "--workers", 0, "--source", source).status == 2


class TestAProgram:
    @pytest.mark.parametrize("workers", [0, -3, 257])
    def test_is_refused_what_is_no_number_of_workers(self, workers, source, store, key):
        with pytest.raises(InvalidArgumentError, match="1 to 256 workers"):
            BackupManager(source, store, key, workers=workers)

    @pytest.mark.parametrize(("workers", "processes"), [(1, 0), (2, 2), (3, 3)])
    def test_has_as_many_as_it_asks_for(self, workers, processes, much, store, key):
        manager = BackupManager(much, store, key, level=1, workers=workers)
        with Watch() as watch:
            manager.create_snapshot()

        assert len(watch.workers) == processes

    def test_has_none_where_there_is_little_to_do(self, tree, store, key):
        with Watch() as watch:
            BackupManager(tree, store, key, workers=3).create_snapshot()

        assert not watch.nurseries
