#!/usr/bin/env python3
"""Read auto-backup snapshots without auto-backup, by the specification in FORMAT.md alone.

  python3 recover.py list    SNAPSHOT.enc --key KEYFILE
  python3 recover.py extract SNAPSHOT.enc TARGET_DIR [PATH ...] --key KEYFILE
  python3 recover.py cat     SNAPSHOT.enc PATH --key KEYFILE > FILE
  python3 recover.py tar     SNAPSHOT.enc --key KEYFILE > x.tar.xz
  python3 recover.py check   SNAPSHOT.enc --key KEYFILE

Needs Python 3.9 and "cryptography" 38 (44 for passphrases, 47 for identities). Exit status: 2 wrong
call, 12 no key or a wrong one, 13 the snapshot is not as it was written, 16 refused or not done.
"""

import argparse
import bz2
import functools
import getpass
import importlib
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from contextlib import contextmanager, suppress
from hashlib import sha256
from hmac import digest as hmac
from types import SimpleNamespace

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER, KEYS = (b"auto-backup snapshot 1\n", 4096, 65536), (b"auto-backup keys 1\n", 4096, 65536, 20)
CHUNKS, FOOTER, IDENTITY = b"auto-backup chunks 1\n", b"auto-backup end\n", b"auto-backup-identity-1-"
LABEL, COST = b"auto-backup/1/", {"memory": 1 << 20, "time": 10, "lanes": 8}
ARCHIVE, INDEX, CHUNK_LIST, END = 1, 2, 3, 4
ORDER = {0: 0, ARCHIVE: 1, CHUNK_LIST: 2, INDEX: 3, END: 4}  # of the sections in a file
DEFAULTS = dict.fromkeys("mode uid gid size mtime ino fs".split(), 0)
DEFAULTS.update(links=1, t="", sha256="", error="", dev=[], xattrs=[], ext=[], chunks=[])
SHAPE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class RecoverError(Exception):
    status = 13  # of the process


NAMES = """NotASnapshot UnknownVersion UnknownSuite Header Footer Frame FrameOutOfPlace ForeignFrame
Truncated TrailingBytes Malformed Limit Digest MissingSnapshot Unsigned Signature UnknownSigner
WrongKey KeyMissing Restore""".split()
E = SimpleNamespace(**{n + "Error": type(n + "Error", (RecoverError,), {}) for n in NAMES})
E.WrongKeyError.status, E.KeyMissingError.status, E.RestoreError.status = 12, 12, 16
faults = []  # what was reported and gone past


def need(condition, error, message):
    if not condition:
        raise error(message)


@contextmanager
def guard(error, what, go_on=False):
    """Turn what Python raises for values of a wrong shape into ``error``; report it if ``go_on``."""
    try:
        try:
            yield
        except (*SHAPE, struct.error) as wrong:
            raise error(f"{what}: {wrong!r}") from wrong
        except OSError as wrong:
            raise E.RestoreError(f"{what}: {wrong}") from wrong
    except RecoverError as fault:
        if not go_on:
            raise
        faults.append(fault)
        print(f"recover: error: {type(fault).__name__}: {fault}", file=sys.stderr)


def zstd():
    """Return a decompressor of Python, of a package, or one around the zstd command."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        with suppress(ImportError):
            decoder = importlib.import_module(name).ZstdDecompressor()
            strict = {"allow_extra_data": False} if name == "zstandard" else {}
            return decoder, functools.partial(decoder.decompress, **strict)
    need(shutil.which("zstd"), E.RestoreError, "needs backports.zstd, zstandard or the zstd command")
    run = functools.partial(subprocess.run, shell=True, stdout=subprocess.PIPE, check=True)
    call = "{ zstd -dcq || cat /dev/zero; } | head -c "  # what fails becomes too long
    return None, lambda piece, limit: run(call + str(limit), input=piece).stdout


def unpack(archive, piece, limit, exact=True):
    """Return what one compressed stream holds: ``limit`` bytes, or at most as many."""
    kinds = {"tar.xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, 192 << 20)}
    kinds.update({"tar.bz2": bz2.BZ2Decompressor, "tar.zst": zstd})
    made = kinds.get(archive, lambda: zlib.decompressobj(31))()
    decoder, decompress = made if type(made) is tuple else (made, made.decompress)
    try:
        data = decompress(piece, limit + 1)
    except Exception as error:  # every library has its own
        raise E.MalformedError(f"a piece does not decompress: {error}") from error
    whole = getattr(decoder, "eof", True) and not getattr(decoder, "unused_data", b"")
    need(whole or len(data) > limit, E.MalformedError, "a piece is not one complete stream")
    need(len(data) <= limit, E.MalformedError, "a piece holds more than it may")
    need(len(data) == limit or not exact, E.MalformedError, "a piece holds less than was recorded")
    return data


def read_key(name):
    """Return the type of slot that a key file opens, and the secret in it."""
    with guard(E.KeyMissingError, f"{name} holds no key"), open(name, "rb") as file:
        line = file.read(4096).strip()
        kind = "hpke" if line.startswith(IDENTITY) else "fernet"
        data = urlsafe_b64decode(line[len(IDENTITY) :] if kind == "hpke" else line)
        body, check = (data[:96], data[96:]) if kind == "hpke" else (data, b"")
        need(check == sha256(IDENTITY + body).digest()[: len(check)], ValueError, "typing error")
        need(len(data) == {"hpke": 100, "fernet": 32}[kind], ValueError, "wrong length")
        return kind, body


def open_slot(slot, kind, secret, core):
    """Return the data key and the id that the slot of this secret has."""
    info, wrapped, material, key = LABEL + b"slot", slot["wrapped"], secret, None
    try:
        if kind == "hpke":
            from cryptography.hazmat.primitives import hpke
            from cryptography.hazmat.primitives.asymmetric import mlkem

            pair = [mlkem.MLKEM768PrivateKey.from_seed_bytes(secret[:64])]
            pair.append(x25519.X25519PrivateKey.from_private_bytes(secret[64:]))
            material = b"".join(half.public_key().public_bytes_raw() for half in pair)
            suite = hpke.Suite(
                hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM
            )
            private = hpke.MLKEM768X25519PrivateKey(*pair)
            with suppress(InvalidTag, ValueError):
                key = suite.decrypt(b64decode(wrapped), private, info + sha256(core).digest())
        if kind == "passphrase":
            from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

            good = all(0 < slot[name] <= most for name, most in COST.items())
            need(good, E.LimitError, "a passphrase slot asks for too much memory or time")
            costs = dict(memory_cost=slot["memory"], iterations=slot["time"], lanes=slot["lanes"])
            material = b64decode(slot["salt"])
            secret = Argon2id(salt=material, length=32, **costs).derive(secret)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise E.KeyMissingError(f"this key needs a newer cryptography: {error}") from error
    if kind != "hpke":
        with suppress(InvalidToken):
            kek = urlsafe_b64encode(derive(secret, core, b"slot"))
            key = Fernet(kek).decrypt(wrapped.encode())
    return key, kind != "passphrase" and sha256(LABEL + b"key-id" + kind.encode() + material)


def derive(secret, core, label):
    return HKDF(SHA256(), 32, sha256(core).digest(), LABEL + label).derive(secret)


def read_header(data, layout, keys, data_key=None):
    """Return core line, data key and length of a header, or of a keys file, whose mac holds."""
    preamble, *limits = layout
    need(not preamble.startswith(data), E.TruncatedError, "the file ends within its first line")
    need(data.startswith(preamble[:-2]), E.NotASnapshotError, "the file is not a snapshot")
    need(data.startswith(preamble), E.UnknownVersionError, "a version unknown to this reader")
    at, lines = len(preamble), []
    for limit in limits:
        stop = data.find(b"\n", at, at + limit + 1)
        need(stop >= 0 or len(data) > at + limit, E.TruncatedError, "the file ends in its header")
        need(stop >= 0, E.LimitError, "a line of the header is too long")
        lines.append(data[at:stop])
        at = stop + 1
    need(len(data) >= at + 32, E.TruncatedError, "the file ends in its header")
    core, opened, ours = lines[0], data_key, False
    with guard(E.HeaderError, "the header is damaged"):
        suite, slots = json.loads(core.decode())["suite"], json.loads(lines[1].decode())
        need(suite == "fernet-1", E.UnknownSuiteError, f"suite {suite!r} is unknown to this reader")
        sizes = [len(slot.get("wrapped", "")) for slot in slots]
        need(1 <= len(sizes) <= 32 and max(sizes) <= 8192, E.LimitError, "too many or long slots")
        for kind, secret in [] if opened else keys:
            fitting = [slot for slot in slots if slot["type"] == kind]
            for slot in fitting[: 4 if kind == "passphrase" else None]:
                key, name = open_slot(slot, kind, secret, core)
                ours = ours or name and name.hexdigest()[:16] == slot["id"]
                opened = opened or key
    need(opened or keys, E.KeyMissingError, "no key was given")
    need(opened or not ours, E.HeaderError, "the header is damaged: the slot does not open")
    need(opened, E.WrongKeyError, "the snapshot is sealed for other keys than those given")
    need(len(opened) == 32, E.MalformedError, "a slot holds no data key")
    mac = hmac(derive(opened, core, b"header-mac"), data[:at], "sha256")
    need(mac == data[at : at + 32], E.HeaderError, "the header is damaged or was changed")
    return core, opened, at + 32


class Snapshot:
    def __init__(self, path, ring, data_key=None, keys_file=None):
        self.path, self.ring, self.file = path, ring, open(path, "rb")
        self.size, self.start, self.others = os.path.getsize(path), None, {}
        head = self.read(0, 1 << 17)
        try:
            line, key, self.start = read_header(head, HEADER, ring.keys, data_key)
        except RecoverError as damage:
            try:
                with open(keys_file or path + ".keys", "rb") as file:
                    line, key, _ = read_header(file.read(1 << 17), KEYS, ring.keys, data_key)
            except (OSError, RecoverError):
                raise damage from None
            with suppress(RecoverError):  # only the recipients are others
                line, key, self.start = read_header(head, HEADER, [], key)
            self.damage = damage
        with guard(E.MalformedError, "the header"):
            core = self.core = json.loads(line.decode())
            self.id, self.cap, self.archive = core["id"], core["cap"], core["archive"]
            good = self.archive in ("tar.xz", "tar.zst", "tar.gz", "tar.bz2", "tar")
            need(good, E.UnknownSuiteError, f"archive type {self.archive!r}")
            need(4096 <= self.cap <= 1 << 26, E.LimitError, f"frame cap {self.cap}")
            for text, size in ((self.id, 16), (core["chain"], 16), (core["previous"] or "0" * 64, 32)):
                need(bytes.fromhex(text).hex() == text and len(text) == 2 * size, ValueError, text)
            need(0 < core["seq"] < 1 << 63, ValueError, "seq")
            self.time, self.digest = struct.pack(">Q", core["time"]), sha256(line).hexdigest()
        self.fernet = Fernet(urlsafe_b64encode(derive(key, line, b"frames")))
        self.signed = LABEL + b"sign" + sha256(HEADER[0] + line + b"\n").digest()
        self.longest = 57 + (self.cap // 16 + 1) * 16
        try:
            footer = self.read(max(self.size - 24, 0), 24)
            need(footer[8:] == FOOTER, E.FooterError, "the footer is damaged")
            self.read_end(int.from_bytes(footer[:8], "big"), self.size - 24)
        except (E.UnsignedError, E.SignatureError, E.UnknownSignerError):
            raise
        except RecoverError:
            self.explain(footer)  # raises what tells more
            raise

    def read(self, at, size):
        self.file.seek(at)
        return self.file.read(size)

    def open_frame(self, at, tag=b""):
        """Return section, number, piece and tag of the frame at ``at``, and where it ends."""
        length = int.from_bytes(self.read(at, 4), "big")
        need(89 <= length <= self.longest, E.FrameError, f"the frame at {at} has a wrong length")
        token, where = self.read(at + 4, length), f"the frame at {at}"
        try:
            message = self.fernet.decrypt(urlsafe_b64encode(token))
        except InvalidToken:
            foreign = token[1:9] != self.time and token[-32:] != tag
            kind = E.ForeignFrameError if foreign else E.FrameError
            raise kind(f"{where} is damaged, changed, or another snapshot's") from None
        need(len(message) <= self.cap, E.LimitError, f"{where} is longer than the cap")
        section, owner, number, size = struct.unpack_from(">B16sII", message)
        need(owner.hex() == self.id, E.ForeignFrameError, f"{where} is of snapshot {owner.hex()}")
        good = token[1:9] == self.time and 25 + size <= len(message)
        good = good and not message[25 + size :].strip(b"\0")
        need(good, E.MalformedError, f"{where} has a wrong time, length or padding")
        return section, number, message[25 : 25 + size], token[-32:], at + 4 + length

    def read_end(self, start, stop):
        """Take in the end, which lies between two offsets, and check signature and table."""
        at, end, numbers = start, b"", []
        while at < stop:
            section, number, piece, _, at = self.open_frame(at)
            numbers.append(number)
            place = section == END and number == numbers[0] + len(numbers) - 1
            need(place, E.FrameOutOfPlaceError, f"frame {number} stands in the end")
            kind = "tar.gz" if self.archive == "tar" else self.archive
            end += unpack(kind, piece, self.cap, exact=False)
            need(len(end) <= 512 << 20, E.LimitError, "the end is too long")
        need(numbers and at == stop, E.FooterError, "the footer does not point to the end")
        with guard(E.MalformedError, "the end"):
            line, _, rest = end.partition(b"\n")
            self.end = json.loads(line.decode())
            self.count, others = self.end["frames"], self.end.get("snapshots", [])
            self.ids = [self.id] + [other["id"] for other in others]
            self.rows, block = rest[: 49 * self.count], rest[49 * self.count :]
            need(len(self.rows) == 49 * self.count, ValueError, "rows are missing")
            need(len(block) in (0, 96), ValueError, "wrong signature block")
        need(block, E.UnsignedError, "the snapshot is not signed")
        self.signer = block[:32].hex()
        try:
            public = ed25519.Ed25519PublicKey.from_public_bytes(block[:32])
            public.verify(block[32:], self.signed + sha256(end[:-96]).digest())
        except (InvalidSignature, ValueError):
            raise E.SignatureError("the signature is wrong") from None
        trusted = not self.ring.signers or self.signer in self.ring.signers
        need(trusted, E.UnknownSignerError, f"signed by {self.signer}, who is not trusted")
        need(numbers[0] == self.count, E.FrameOutOfPlaceError, "frames before the end are missing")
        at, before = self.start, 0
        for section, offset, length, plain, tag in struct.iter_unpack(">BQII32s", self.rows):
            if section:
                at = offset if at is None else at
                need(length <= self.longest and plain <= 1 << 26, E.LimitError, "a frame is too long")
                good = section != END and ORDER.get(section, 0) >= before and offset == at
                need(good, E.MalformedError, f"the frame table has a gap at {offset}")
                at, before = at + 4 + length, ORDER[section]
            else:
                empty = not (offset or length or plain or any(tag))
                need(empty, E.MalformedError, "the frame table has a wrong row")
        need(at in (None, start), E.FrameOutOfPlaceError, "the frames do not fill the file")
