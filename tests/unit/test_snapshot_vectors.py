"""Every vector of the format has the outcome that it says, with the first reader."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

import pytest

from backup import errors
from backup.snapshot.frame import Section
from backup.snapshot.reader import open_snapshot
from backup.snapshot.source import BytesSource
from backup.snapshot.writer import END_OF_ARCHIVE
from tests.vectors import generate
from tests.vectors.reading import DIRECTORY, SUCCESS, read, read_vector, vector_names

NAMES = vector_names()
EXPECTED = {name: read_vector(name).expect for name in NAMES}
ARCHIVES = ["tar_xz", "tar_zst", "tar_gz", "tar_bz2", "tar"]


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_has_the_outcome_that_it_says(name):
    vector = read_vector(name)

    outcome = read(vector)

    assert outcome.result == vector.expect, outcome.message
    assert outcome.digest == (vector.content or vector.released)


def test_there_are_many_vectors_and_few_bytes():
    sizes = [(DIRECTORY / f"{name}.vector").stat().st_size for name in NAMES]

    assert len(NAMES) >= 400
    assert sum(sizes) < 1_500_000


@pytest.fixture(scope="module")
def made_anew(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vectors")
    subprocess.run(
        [sys.executable, DIRECTORY / "generate.py", directory], check=True, capture_output=True
    )
    return directory


def test_vectors_made_anew_have_the_same_names_and_outcomes(made_anew):
    differing = [
        name
        for name in NAMES
        if read(read_vector(name, made_anew), made_anew).result != read(read_vector(name)).result
    ]

    assert vector_names(made_anew) == NAMES
    assert differing == []


def test_vectors_made_anew_are_the_same_bytes_but_for_public_keys(made_anew):
    with_public_keys = {name for name in NAMES if b'"type":"hpke"' in read_vector(name).data[:9000]}

    differing = {name for name in NAMES if generate.VECTORS[name]() != whole_file(name, made_anew)}

    assert differing <= with_public_keys
    assert len(with_public_keys) < 10


def whole_file(name, directory):
    return (directory / f"{name}.vector").read_bytes()


def test_every_class_of_integrity_and_key_errors_occurs():
    """docs/FORMAT.md, section 10: "Each with an error of its own"."""
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.IntegrityError | errors.SecretKeyError)
        and not value.__subclasses__()
    }

    assert classes == set(EXPECTED.values()) - {SUCCESS}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_key_no_vector_opens(name):
    vector = read_vector(name)
    vector.identities = []

    outcome = read(vector)

    assert outcome.result != SUCCESS
    assert outcome.contents == []


@pytest.mark.parametrize("archive", ARCHIVES)
def test_the_archive_pieces_of_a_full_snapshot_are_a_tar(archive):
    """docs/FORMAT.md, section 5: "put together in the order of their numbers, are a tar.xz"."""
    vector = read_vector(f"{archive}_archive")
    reader = open_snapshot(BytesSource(vector.data), vector.identities)
    pieces = [
        reader.compressed_piece(row.section, number)
        for number, row in enumerate(reader.rows)
        if row.section is Section.ARCHIVE
    ]

    plain = reader.piece(Section.ARCHIVE, len(pieces) - 1)
    stream = io.BytesIO(b"".join(pieces))

    assert plain == END_OF_ARCHIVE
    assert tar_contents(stream, archive) == read(vector).contents


def tar_contents(stream, archive):
    if archive == "tar_zst":  # older versions of tarfile do not know it
        from backports import zstd  # noqa: PLC0415

        stream = io.BytesIO(b"".join(map(zstd.decompress, [stream.getvalue()])))
    with tarfile.open(fileobj=stream) as tar:
        return [tar.extractfile(member).read() for member in tar]


def test_the_readme_names_every_class_and_every_field():
    text = (DIRECTORY / "README.md").read_text()

    fields = {line.split(":")[0] for name in NAMES for line in head(name).splitlines()}
    assert [one for one in fields | set(EXPECTED.values()) if f"`{one}`" not in text] == []


def head(name):
    return whole_file(name, DIRECTORY).partition(b"\n\n")[0].decode()
