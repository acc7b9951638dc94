from __future__ import annotations

import os

import pytest

from backup.config.reading import examine, load_configuration
from backup.errors import ConfigError
from tests.cli import run


@pytest.fixture
def problems(tmp_path):
    """Return a function that gives the problems of a text, each without its file."""
    path = tmp_path / "config.yaml"

    def telling(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = [str(one) for one in examine(path).problems]
        assert all(one.startswith(str(path)) for one in found)
        return [one.removeprefix(str(path)).removeprefix(":") for one in found]

    return telling


def job(text):
    return f"version: 1\njobs:\n  a:\n    sources: [/etc]\n    {text}\n"


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (job("compresion: xz"), "5: jobs.a.compresion: unknown key; did you mean compression?"),
            ("version: 1\njob: {}", "2: job: unknown key; did you mean jobs?"),
            (job("keep: {dayly: 3}"), "5: jobs.a.keep.dayly: unknown key; did you mean daily?"),
            (
                "version: 1\nstores: {d: {url: /a, zzz: 1}}",
                "2: stores.d.zzz: unknown key; known are keep, url",
            ),
            (
                "version: 1\njobs: {a: {sources: [{path: /a, excludes: x}]}}",
                "2: jobs.a.sources[0].excludes: unknown key; did you mean exclude?",
            ),
            ("version: 1\njobs: {a: {}}", "2: jobs.a: sources is missing"),
            ("jobs:\n", " version is missing"),
            (
                "version: 1\nhost: a\nhost: b",
                "3: host: it is told twice, first in line 2",
            ),
            (job("sources: [/b]"), "5: jobs.a.sources: it is told twice, first in line 4"),
            (job("keep:"), "5: jobs.a.keep: nothing stands behind it: say it, or leave it out"),
            (
                "version: 1\njobs:\n  'a b': {sources: [/a]}",
                (
                    "3: jobs.\"a b\": 'a b' cannot be the name of a job; a name has letters,"
                    " digits, '.', '_' and '-', at most 64 of them,"
                    " and begins with a letter or a digit"
                ),
            ),
        ],
    )
    def test_wrong_ones_are_told_with_line_and_suggestion(self, problems, text, problem):
        assert problems(text) == [problem]


class TestValues:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("level: '6'", "level: it has to be a whole number, not '6'"),
            ("level: 1.5", "level: it has to be a whole number, not 1.5"),
            ("level: true", "level: it has to be a whole number, not true"),
            ("workers: 0", "workers: it has to be at least 1, not 0"),
            ("workers: 257", "workers: it has to be at most 256, not 257"),
            ("tags: [7]", "tags[0]: it has to be a text: write 7 in quotes"),
            ("tags: {a: b}", "tags: it has to be a list, not a mapping"),
            ("stores: []", "stores: it needs at least one, not an empty list"),
            ("exclude_caches: maybe", "exclude_caches: it has to be true or false, not 'maybe'"),
            ("keep: 3", ("keep: it has to be a mapping with keys of its own"
             " (daily, hourly, last, monthly, tags, weekly, within, yearly), not 3")),
            ("keep: {last: 0}", "keep.last: it has to be at least 1, not 0"),
            ("keep: {tags: [a]}", ("keep: a policy of tags alone would delete all snapshots without"
             " them; say what to keep of the others, for example last=1")),
            ("keep: {within: 3 parsecs}", ("keep.within: 'parsecs' in '3 parsecs' is not a unit;"
             " units are h (hours), d (days) and w (weeks); for a year say 365d")),
            ("keep: {within: 3}", "keep.within: it has to be a number and a unit, such as 30 days"),
            ("exclude_larger_than: 5 lightyears", ("exclude_larger_than: '5 lightyears' is not a"
             " size; a number and a unit: 500K, 100M, 1.5GiB, 2TB")),
            ("compression: zst", "compression: there is no compression 'zst'; did you mean zstd?"),
            ("compression: q", ("compression: there is no compression 'q';"
             " use xz, zstd, gzip, bzip2, none")),
            ("exclude: ['# x']", ('exclude[0]: the pattern "# x" is a comment; to leave out what'
             " begins with '#', write it as \\# x")),
            ("exclude_if_present: a/b", ("exclude_if_present: 'a/b' is not the name of a file in a"
             " directory; name it without a directory, in UTF-8, such as .nobackup")),
            ("recipients: some.pub", ("recipients: it has to be an absolute path:"
             " a service has no directory of its own")),
            ("recipients: auto-backup-identity-abc", ("recipients: a private key does not belong"
             " into a configuration")),
            ("stores: disk", "stores[0]: there is no store 'disk'"),
            ("stores: ftp://u:geheim@x/", ("stores[0]: there is no storage for URLs that begin with"
             " ftp://; use the path of a directory, or one of file://")),
            ("level: 12", ("level: the compression xz has no level 12: it has 0 to 9,"
             " and 6 where none is said")),
        ],
    )  # fmt: skip
    def test_wrong_ones_are_told_in_our_words(self, problems, text, problem):
        assert problems(job(text)) == [f"5: jobs.a.{problem}"]

    def test_a_store_that_is_not_there_is_told_with_those_that_are(self, problems):
        text = "version: 1\nstores: {offsite: {url: /a}}\ndefaults: {stores: [offsit]}"

        assert problems(text) == [
            "3: defaults.stores[0]: there is no store 'offsit'; did you mean offsite?"
        ]

    def test_two_names_of_one_place_are_refused(self, problems, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        stores = f"a: {{url: {tmp_path}/disk}}, b: {{url: file://{tmp_path}/link}}"

        assert problems(f"version: 1\nstores: {{{stores}}}") == [
            "2: stores.b.url: it is the same place as the store a: one name is enough"
        ]

    def test_with_several_stores_a_job_has_to_say_which(self, problems):
        text = "version: 1\nstores: {a: {url: /a}, b: {url: /b}}\njobs: {x: {sources: [/x]}}"

        assert problems(text) == [
            (
                "3: jobs.x: it does not say to which stores; there are a, b:"
                " name some behind stores, here or in defaults"
            )
        ]
        assert problems(text + "\ndefaults: {stores: b}") == []

    def test_a_level_of_defaults_has_to_fit_each_job(self, problems):
        text = "version: 1\ndefaults: {compression: zstd, level: 19}\njobs:\n"

        assert problems(text + "  a: {sources: [/a], compression: xz}") == [
            (
                "4: jobs.a.compression: the compression xz has no level 19: it has 0 to 9,"
                " and 6 where none is said"
            )
        ]
        assert problems(text + "  a: {sources: [/a], compression: xz, level: 9}") == []
        assert problems("version: 1\ndefaults: {level: 19}\njobs: {a: {sources: [/a]}}") == [
            (
                "2: defaults.level: the compression xz of jobs.a has no level 19: it has 0 to 9,"
                " and 6 where none is said"
            )
        ]

    def test_a_newer_version_is_not_guessed_at(self, problems):
        assert problems("version: 2") == ["1: version: it has to be 1, not 2"]

    def test_a_password_in_a_url_is_not_told(self, problems):
        told = " ".join(problems("version: 1\nstores: {a: {url: 'file://u:geheim@x/'}}"))

        assert "geheim" not in told
        assert "file://u:***@x/" in told


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a:\n\tb: 1", "2: a tab stands where only spaces may: indent with spaces"),
            ("a: 'x\nb: 2", "1: a quote is opened here, and not closed"),
            ("a: [1\nb: 2", "1: what begins with [ here is not closed, or lacks a comma"),
            ("a: {b: 1\nc: 2", "1: what begins with { here is not closed, or lacks a comma"),
            ("a: 1\n  b: 2", ("2: there is a ':' where no key can be: keys of one level are"
             " indented alike, and a text with ': ' in it stands in quotes")),
            ("b:\n   c: 1\n  d: 2", "3: it is not indented as the lines above are"),
            ("a: @b", "1: a text cannot begin with '@': write it in quotes"),
            ("a: 1\nb: \x07", "2: there is a control character"),
            ('a: "\\q"', "1: a \\ in quotes stands before what it cannot escape"),
            ('a: "\\ud800"', "1: an escape such as \\ud800 is half a character"),
            ("a: *b", "1: *b refers to nothing that stands before it"),
            ("a: !!python/object:os.system x", ("1: '!!python/object:os.system' is a tag,"
             " which is not allowed here")),
            ("a: 1\n---\nb: 1", "2: a second document begins with '---'; one is allowed"),
            ("? [a]\n: b", "1: a key has to be a word"),
            ("- a\n- b", "1: it has to begin with keys, such as jobs:"),
            ("text", "1: it has to begin with keys, such as jobs:"),
            ("a: " + "[" * 31, "1: more than 30 levels are nested"),
            (b"a: 1\nb: \xff", "2: it is not UTF-8"),
            (b"a" * (1024 * 1024 + 1), " it is longer than 1,048,576 bytes"),
        ],
    )  # fmt: skip
    def test_what_is_no_yaml_is_told_in_our_words(self, problems, text, problem):
        assert [one for one in problems(text) if "version is missing" not in one] == [problem]

    def test_an_empty_file_lacks_all(self, problems):
        assert problems("") == [" version is missing"]
        assert problems("# nothing") == [" version is missing"]

    def test_anchors_that_multiply_are_refused_at_once(self, problems):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 25)
        ]  # fmt: skip

        assert problems("\n".join(lines)) == ["5: there are more than 20,000 values"]

    def test_anchors_do_not_nest_deeper_than_other_values(self, problems):
        lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [[[*a{n - 1}]]]" for n in range(1, 3000)]

        assert problems("\n".join(lines)) == ["11: more than 30 levels are nested"]

    def test_an_anchor_within_itself_is_refused(self, problems):
        assert problems("a: &x [*x]") == ["1: *x refers to nothing that stands before it"]


class TestAllAtOnce:
    def test_each_is_a_line_in_the_order_of_the_files(self, tmp_path):
        path, beside = tmp_path / "config.yaml", tmp_path / "conf.d" / "x.yaml"
        beside.parent.mkdir()
        path.write_text("version: 1\nhost: 5\njobs: {a: {sources: [etc], stores: nowhere}}")
        beside.write_text("hots: web1")

        with pytest.raises(ConfigError) as caught:
            load_configuration(path)

        head, *lines = caught.value.message.splitlines()
        assert head == "4 problems in the configuration:"
        assert [line.split(": ")[0:2] for line in lines] == [
            [f"  {beside}:1", "hots"],
            [f"  {path}:2", "host"],
            [f"  {path}:3", "jobs.a.sources[0]"],
            [f"  {path}:3", "jobs.a.stores[0]"],
        ]

    def test_the_command_tells_each_on_a_line_and_nothing_of_it_acts_on_a_terminal(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text('version: 1\nhost: "a\\nb"\n"x\\e[31m\\ny": 1')

        result = run("config", "show", "--config", path)

        head, *lines, hint = result.err.splitlines()
        assert (result.status, head) == (2, "auto-backup: error: 2 problems in the configuration:")
        assert lines == [
            (
                f"  {path}:2: host: 'a\\nb' cannot be the name of a host; a name has letters,"
                " digits, '.', '_' and '-', at most 64 of them, and begins with a letter or a digit"
            ),
            (
                f'  {path}:3: "x\\x1b[31m\\ny": unknown key; known are defaults, host, jobs,'
                " key_file, recipients, stores, version"
            ),
        ]
        assert hint == (
            "auto-backup: hint: 'auto-backup config validate' checks it again;"
            " --config /dev/null leaves it aside"
        )

    def test_one_stands_in_the_first_line(self, tmp_path):
        path = tmp_path / "config.yaml"

        result = run("config", "show", "--config", path)

        assert result.err.splitlines()[0] == f"auto-backup: error: {path}: there is no such file"

    def test_a_directory_is_told_as_what_cannot_be_read(self, tmp_path):
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "x.yaml").mkdir()
        (tmp_path / "config.yaml").write_text("version: 1")

        (problem,) = examine(tmp_path / "config.yaml").problems

        assert problem.text == f"it cannot be read: {os.strerror(21)}"
