"""What the YAML library's complaints mean, in our words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from backup.config.problems import FileProblem, Place

_WORDS = (
    (r"character '\\t'", "a tab stands where only spaces may: indent with spaces"),
    (
        r"mapping values are not allowed",
        (
            "there is a ':' where no key can be: keys of one level are indented alike,"
            " and a text with ': ' in it stands in quotes"
        ),
    ),
    (r"unexpected end of stream|scanning a quoted", "a quote is opened here, and not closed"),
    (r"parsing a flow mapping", "what begins with { here is not closed, or lacks a comma"),
    (r"parsing a flow sequence", "what begins with [ here is not closed, or lacks a comma"),
    (r"parsing a flow node", "a { or [ is not closed"),
    (r"while parsing a block", "it is not indented as the lines above are"),
    (r"could not find expected ':'", "there is a word, and no ':' behind it"),
    (r"unknown escape|chr\(\)|hexadecimal", "a \\ in quotes stands before what it cannot escape"),
    (r"cannot start any token", "a text cannot begin with {}: write it in quotes"),
    (r"special characters are not allowed", "there is a control character"),
    (r"YAML 1\.|%|directive", "a line that begins with % is not allowed here"),
    (r"anchor|alias", "behind & and * stands a name"),
)
_AT_ITS_START = re.compile(r"quoted|flow")


def syntax_problem(error: Exception, file: Path, content: str) -> FileProblem:
    """Return what is wrong with a file's content, and the line as far as the library tells one."""
    problem, context = str(getattr(error, "problem", "") or error), _text(error, "context")
    problem = problem.partition("\n")[0]
    text = next(
        (words for pattern, words in _WORDS if re.search(pattern, f"{context}; {problem}")),
        "it is not YAML",
    )
    found = re.search(r"'(.{1,6})'", problem)
    line = _line(error, context, content)
    return FileProblem(Place(file, line), text.replace("{}", found[0] if found else ""))


def _text(error: Exception, name: str) -> str:
    return str(getattr(error, name, "") or "")


def _line(error: Any, context: str, content: str) -> int:
    mark = getattr(error, "problem_mark", None)
    if _AT_ITS_START.search(context):  # where it begins says more than where the file ends
        mark = getattr(error, "context_mark", None) or mark
    if mark is not None:
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return content.count("\n", 0, position) + 1 if isinstance(position, int) else 0
