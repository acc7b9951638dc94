"""Writes section 11 of docs/FORMAT.md: every step of opening one vector, as numbers.

``python tests/vectors/worked_example.py`` prints it; a test compares it with the document.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
import sys
import zlib
from hashlib import sha256
from pathlib import Path

from cryptography.fernet import Fernet

NAME = "two_files_in_one_frame"
_FIRST = 48


def derive(secret: bytes, salt: bytes, label: bytes) -> bytes:
    """Return 32 bytes by HKDF-SHA-256."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), label + b"\1", "sha256")


def fernet(key: bytes) -> Fernet:
    """Return what opens tokens of 32 key bytes."""
    return Fernet(base64.urlsafe_b64encode(key))


def worked_example() -> str:
    """Return the section."""
    path = Path(__file__).parent / f"{NAME}.vector"
    head, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
    secret = base64.urlsafe_b64decode(fields["key"])
    preamble, core, slots = data.split(b"\n", 3)[:3]
    start = len(preamble) + len(core) + len(slots) + 3
    salt = sha256(core).digest()
    slot = next(one for one in json.loads(slots) if one["type"] == "fernet")
    kek = derive(secret, salt, b"auto-backup/1/slot")
    data_key = fernet(kek).decrypt(slot["wrapped"].encode())
    mac_key = derive(data_key, salt, b"auto-backup/1/header-mac")
    frames_key = derive(data_key, salt, b"auto-backup/1/frames")
    (length,) = struct.unpack_from(">I", data, start + 32)
    token = data[start + 36 : start + 36 + length]
    message = fernet(frames_key).decrypt(base64.urlsafe_b64encode(token))
    section, owner, number, size = struct.unpack_from(">B16sII", message)
    end_offset = int.from_bytes(data[-24:-16], "big")
    (end_length,) = struct.unpack_from(">I", data, end_offset)
    end_token = data[end_offset + 4 : end_offset + 4 + end_length]
    end_message = fernet(frames_key).decrypt(base64.urlsafe_b64encode(end_token))
    end_size = struct.unpack_from(">I", end_message, 21)[0]
    end = zlib.decompress(end_message[25 : 25 + end_size], 31)
    line, _, rest = end.partition(b"\n")
    rows = json.loads(line)["frames"]
    facts = [
        ("the key file", fields["key"]),
        ("core line", core.decode()),
        ("core digest", salt.hex()),
        ("KEK", kek.hex()),
        ("data key", data_key.hex()),
        ("key of the header's mac", mac_key.hex()),
        (f"mac, at {start}", hmac.digest(mac_key, data[:start], "sha256").hex()),
        ("key of the frames", frames_key.hex()),
        (f"frame 0, at {start + 32}: length", str(length)),
        ("its token begins", token[:_FIRST].hex()),
        ("its tag", token[-32:].hex()),
        ("its message begins", message[:25].hex()),
        (
            "which says",
            f"section {section}, snapshot {owner.hex()}, number {number}, length {size}",
        ),
        ("footer", data[-24:].hex()),
        ("which says", f"the end begins at {end_offset}"),
        ("JSON line of the end", line.decode()),
        ("row of frame 0", rest[:49].hex()),
        ("SHA-256 of the end's body", sha256(line + b"\n" + rest[: 49 * rows]).hexdigest()),
        ("public key that signs", rest[49 * rows :][:32].hex()),
        ("signature", rest[49 * rows :][32:].hex()),
    ]
    text = "\n".join(f"{name}\n    {value}" for name, value in facts)
    return (
        "## 11. A worked example\n\n"
        f"`tests/vectors/{NAME}.vector` (its bytes behind the first empty line), opened step by\n"
        "step. All values are hexadecimal but for texts and numbers.\n\n"
        f"```text\n{text}\n```\n"
    )


if __name__ == "__main__":
    sys.stdout.write(worked_example())
