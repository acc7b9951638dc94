"""The page with the key: what stands on it gets everything back."""

from __future__ import annotations

import base64
import re
import shlex
import stat
import subprocess
import sys
from hashlib import sha256
from html import unescape

import pytest
import zxingcpp

from backup.cli.paper_page import PaperKey, grouped, terminal_code
from backup.manager.recovery_files import recovery_files
from tests.cli import done, environment, run, run_on_terminal, take
from tests.lister import listing


@pytest.fixture
def saved(key_file, source, store):
    """Return the source of a snapshot in ``store``."""
    (source / "letter.txt").write_text("dear reader")
    (source / "deep").mkdir()
    (source / "deep" / "data").write_bytes(bytes(range(256)) * 100)
    take("--source", source, "--store", store)
    return source


def page_of(*options):
    return done("key", "export", *options).out


def key_lines(page):
    """Return what somebody types who has the page: the groups, and their checks."""
    return re.findall(r"^    (\S.*?)\s+\[([0-9a-f]{4})\]$", page, re.MULTILINE)


def steps(page):
    return [line[2:] for line in page.splitlines() if line.startswith("$ ")]


def scanned(svg):
    """Return what a scanner reads from the code that an SVG draws."""
    width = int(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    dots = bytearray(b"\xff" * width * width)
    scale = int(re.search(r"scale\((\d+)\)", svg)[1])
    x = y = 0
    for kind, numbers in re.findall(r"([Mmh])([-\d. ]+)", re.search(r' d="([^"]+)"', svg)[1]):
        values = [float(one) for one in re.findall(r"-?\d*\.?\d+", numbers)]
        if kind == "M":
            x, y = values[0] * scale, values[1] * scale
        elif kind == "m":
            x, y = x + values[0] * scale, y + values[1] * scale
        else:
            for row in range(scale):
                at = int(y - scale / 2 + row) * width + int(x)
                dots[at : at + int(values[0]) * scale] = bytes(int(values[0]) * scale)
            x += values[0] * scale
    return read_code(bytes(dots), width)


def read_code(dots, width):
    (found,) = zxingcpp.read_barcodes(memoryview(dots).cast("B", (len(dots) // width, width)))
    return found.text


class TestThePage:
    def test_the_key_that_is_typed_from_it_opens_the_snapshot(self, saved, store, tmp_path, key):
        lines = key_lines(page_of("-s", store))
        typed = tmp_path / "typed"
        typed.write_text("".join(f"{line}\n" for line, _ in lines))
        typed.chmod(0o600)

        assert "".join(line.replace(" ", "") for line, _ in lines) == key
        done("verify", "-s", store, "--key-file", typed)

    def test_each_line_can_be_checked_with_sha256sum(self, saved, store):
        for line, check in key_lines(page_of("-s", store)):
            command = f"printf %s {shlex.quote(line.replace(' ', ''))} | sha256sum"
            out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
            assert out.stdout.startswith(check)

    def test_it_tells_what_it_is_of_whom_and_that_it_is_secret(self, saved, store):
        page = page_of("-s", store)

        assert done("key", "show", "--json").json["id"] in page.splitlines()[0]
        assert "of host testhost, printed 20" in page
        assert "WHO HAS THIS PAGE CAN READ EVERYTHING" in page
        assert sha256(recovery_files()["recover.py"]).hexdigest() in page

    def test_it_fits_a_page(self, saved, store):
        lines = page_of("-s", store).splitlines()

        assert len(lines) < 60
        assert max(len(line) for line in lines if str(store) not in line) <= 90

    def test_the_lines_on_it_do_what_they_say(self, saved, store, tmp_path):
        page = page_of("-s", store)
        lines = steps(page)
        typed = "".join(f"{line}\n" for line, _ in key_lines(page))
        bin_dir = tmp_path / "bin"
        bin_dir.mkdir()
        for name, what in (("auto-backup", "-m backup"), ("python3", "")):
            (bin_dir / name).write_text(f'#!/bin/sh\nexec {sys.executable} {what} "$@"\n')
            (bin_dir / name).chmod(0o755)
        env = environment() | {"PATH": f"{bin_dir}:/usr/bin:/bin"}
        env.pop("AUTO_BACKUP_KEY_FILE")

        outputs = []
        for number, line in enumerate(lines):
            place = tmp_path / "with" if number < len(lines) - 1 else tmp_path / "without"
            place.mkdir(exist_ok=True)
            if place.name == "without":
                (place / "key").write_text(typed)
            result = subprocess.run(
                ["sh", "-ec", line],
                cwd=place,
                env=env,
                input=typed,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, (line, result.stderr)
            outputs.append(result.stdout)

        assert len(lines) == 6
        assert sha256(recovery_files()["recover.py"]).hexdigest() in outputs[4]
        for name in ("with", "without"):
            restored = tmp_path / name / "back" / str(saved).lstrip("/")
            assert listing(restored) == listing(saved)

    def test_a_private_key_is_exported_in_the_same_way(self, source, store, tmp_path, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        (source / "letter.txt").write_text("dear reader")
        done("key", "new", "--public", "--identity", tmp_path / "pair")
        snapshot = take("--source", source, "-s", store, "--recipient", f"{tmp_path}/pair.pub")

        page = page_of("-s", store, "--identity", tmp_path / "pair")
        typed = tmp_path / "typed"
        typed.write_text("".join(line.replace(" ", "") for line, _ in key_lines(page)))
        typed.chmod(0o600)

        done("verify", "-s", store, "--identity", typed)
        recover = [sys.executable, store / "recover.py", "check", snapshot, "--key"]
        for file in (typed, tmp_path / "pair"):
            subprocess.run([*recover, file], check=True, capture_output=True)

    def test_a_store_that_is_absent_is_no_hindrance(self, key_file, tmp_path):
        assert "HOST/JOB" in page_of("-s", tmp_path / "absent")

    def test_without_a_key_there_is_no_page(self, store):
        assert run("key", "export", "-s", store).status == 12


class TestTheFile:
    @pytest.mark.parametrize("name", ["page.html", "page.txt"])
    def test_it_is_for_its_owner_only_and_replaces_nothing(self, saved, store, tmp_path, name):
        path = tmp_path / name
        told = done("key", "export", "--paper", path, "-s", store)
        before = path.read_bytes()

        again = run("key", "export", "--paper", path, "-s", store)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "this page is the key" in told.err
        assert (again.status, path.read_bytes()) == (12, before)

    def test_the_html_needs_nothing_else_and_says_the_same(self, saved, store, tmp_path):
        done("key", "export", "--paper", tmp_path / "page.html", "-s", store)
        html = (tmp_path / "page.html").read_text()

        text = re.search(r"<pre>(.*)</pre>", html, re.DOTALL)[1]
        assert unescape(re.sub(r"</?span>", "", text)) == page_of("-s", store)
        assert "<span>--key-file</span>" in text
        assert not re.search(r"https?:|src=|href=|<script", html)

    def test_the_code_on_it_is_the_key(self, saved, store, tmp_path, key):
        done("key", "export", "--paper", tmp_path / "page.html", "-s", store)

        assert scanned((tmp_path / "page.html").read_text()) == key

    def test_nothing_of_the_secret_is_told_or_logged(self, saved, store, tmp_path, key):
        told = done("key", "export", "--paper", tmp_path / "page.html", "-s", store)
        tried = done("key", "export", "-n", "-s", store)
        log = next(tmp_path.parents[0].rglob("backup.log"), None)
        logged = log.read_text() if log else ""

        shown = told.out + told.err + tried.out + tried.err + logged
        assert key[:8] not in shown
        assert next(grouped(key))[0] not in shown

    def test_no_representation_shows_it(self, key):
        page = PaperKey(key, "--key-file", "fernet", "0" * 16, "h", "d", (), "p", "r")

        assert repr(page) == f"PaperKey({'0' * 16})"


class TestTheTerminal:
    @pytest.mark.parametrize("length", [44, 159])
    def test_its_code_can_be_scanned(self, length):
        secret = base64.b64encode(bytes(range(120))).decode()[:length]
        halves = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
        rows = []
        for line in terminal_code(secret).splitlines():
            for half in (0, 1):
                row = bytes(halves[one][half] for one in line for _ in range(4))
                rows += [row] * 4

        assert read_code(b"".join(rows), len(rows[0])) == secret

    def test_it_is_shown_there_before_the_page(self, saved, store, key):
        status, shown = run_on_terminal("key", "export", "-s", store, columns=120)

        assert status == 0
        assert terminal_code(key).splitlines()[3] in shown
        assert "this page is the key" in shown
