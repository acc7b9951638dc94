#!/usr/bin/env python3
"""Read auto-backup snapshots without auto-backup, by the specification in FORMAT.md alone.

  python3 recover.py list    SNAPSHOT.enc --key KEYFILE
  python3 recover.py extract SNAPSHOT.enc TARGET_DIR [PATH ...] --key KEYFILE
  python3 recover.py cat     SNAPSHOT.enc PATH --key KEYFILE > FILE
  python3 recover.py tar     SNAPSHOT.enc --key KEYFILE > x.tar.xz
  python3 recover.py check   SNAPSHOT.enc --key KEYFILE

Needs Python 3.9 and "cryptography" 38 (for passphrases 44, for identities 47). Exit status: 2 wrong
call, 12 no key or a wrong one, 13 the snapshot is not as it was written, 16 refused or not done.
"""

import argparse
import base64
import bz2
import contextlib
import functools
import getpass
import importlib
import json
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import zlib
from hashlib import sha256
from hmac import digest as hmac
from types import SimpleNamespace

from cryptography import exceptions, fernet
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER, KEYS = (b"auto-backup snapshot 1\n", 4096, 65536), (b"auto-backup keys 1\n", 4096, 65536, 20)
CHUNKS, FOOTER, IDENTITY = b"auto-backup chunks 1\n", b"auto-backup end\n", b"auto-backup-identity-1-"
ARCHIVE, INDEX, CHUNK_LIST, END = 1, 2, 3, 4
ORDER = {ARCHIVE: 1, CHUNK_LIST: 2, INDEX: 3, END: 4}  # of the sections in a file
DEFAULTS = dict(mode=0, uid=0, gid=0, size=0, mtime=0, ino=0, fs=0, links=1, t="", sha256="")
DEFAULTS.update(dev=[], xattrs=[], ext=[], chunks=[], error="")
SHAPE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class RecoverError(Exception):
    status = 13  # of the process; what the error means is in the name of the class


NAMES = """NotASnapshot UnknownVersion UnknownSuite Header Footer Frame FrameOutOfPlace ForeignFrame
Truncated TrailingBytes Malformed Limit Digest MissingSnapshot Unsigned Signature UnknownSigner
WrongKey KeyMissing Restore""".split()
E = SimpleNamespace(**{n + "Error": type(n + "Error", (RecoverError,), {}) for n in NAMES})
E.WrongKeyError.status, E.KeyMissingError.status, E.RestoreError.status = 12, 12, 16
faults = []  # what was reported and gone past


def report(error, note=False):
    print(f"recover: {'note' if note else 'error: ' + type(error).__name__}: {error}", file=sys.stderr)
    faults.extend([] if note else [error])


def need(condition, error, message):
    if not condition:
        raise error(message)


@contextlib.contextmanager
def guard(error, what):
    try:
        yield
    except (*SHAPE, struct.error) as wrong:  # what Python raises for values of a wrong shape
        raise error(f"{what}: {type(wrong).__name__} {wrong}") from wrong


def zstd():
    """Return a decompressor: from Python, from a package, or one around the zstd command."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if name != "zstandard":
                return module.ZstdDecompressor()
            run = module.ZstdDecompressor(max_window_size=1 << 27).stream_reader
            return SimpleNamespace(eof=True, unused_data=b"", decompress=lambda x, n: run(x).read(n))
    need(shutil.which("zstd"), E.RestoreError, "needs backports.zstd, zstandard, or the zstd command")
    call = "{ zstd -dcq || cat /dev/zero; } | head -c "  # too long when zstd fails, so refused
    run = functools.partial(subprocess.run, shell=True, stdout=subprocess.PIPE, check=True)
    return SimpleNamespace(
        eof=True, unused_data=b"", decompress=lambda x, n: run(call + str(n), input=x).stdout
    )


def unpack(archive, piece, limit, exact=True):
    """Return what one compressed stream holds: ``limit`` bytes, or at most as many."""
    try:
        if archive == "tar.zst":
            decoder = zstd()
        elif archive == "tar.xz":
            decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, 192 << 20)
        else:
            decoder = bz2.BZ2Decompressor() if archive == "tar.bz2" else zlib.decompressobj(31)
        data = decoder.decompress(piece, limit + 1)
    except RecoverError:
        raise
    except Exception as error:  # every library has its own
        raise E.MalformedError(f"a piece does not decompress: {error}") from error
    need(decoder.eof and not decoder.unused_data, E.MalformedError, "a piece is not one stream")
    need(len(data) <= limit, E.MalformedError, "a piece holds more than the table says")
    need(len(data) == limit or not exact, E.MalformedError, "a piece holds less than the table says")
    return data


def read_key(name):
    """Return the type of slot that a key file opens, its secret, and its recipient's id."""
    with open(name, "rb") as file, guard(E.KeyMissingError, f"{name} holds no key"):
        line = file.read(4096).strip()
        data = base64.urlsafe_b64decode(line[len(IDENTITY) * line.startswith(IDENTITY) :])
        if not line.startswith(IDENTITY):
            need(len(data) == 32, ValueError, "not 32 bytes")
            return "fernet", data, sha256(b"auto-backup/1/key-idfernet" + data).hexdigest()[:16]
        good = len(data) == 100 and sha256(IDENTITY + data[:96]).digest()[:4] == data[96:]
        need(good, ValueError, "the identity has a typing error")
    try:
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric import mlkem

        pair = mlkem.MLKEM768PrivateKey.from_seed_bytes(data[:64]), x25519.X25519PrivateKey
        pair = pair[0], pair[1].from_private_bytes(data[64:96])
    except (ImportError, exceptions.UnsupportedAlgorithm) as error:
        raise E.KeyMissingError("identities need cryptography 47 or newer") from error
    public = b"".join(key.public_key().public_bytes_raw() for key in pair)
    name = sha256(b"auto-backup/1/key-idhpke" + public).hexdigest()[:16]
    return "hpke", hpke.MLKEM768X25519PrivateKey(*pair), name


def derive(secret, core, label):
    return HKDF(SHA256(), 32, sha256(core).digest(), b"auto-backup/1/" + label).derive(secret)


def open_slot(slot, secret, core):
    """Return the data key, or None when the slot does not open."""
    if slot["type"] == "hpke":
        from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

        suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        with contextlib.suppress(exceptions.InvalidTag, ValueError):
            info = b"auto-backup/1/slot" + sha256(core).digest()
            return suite.decrypt(base64.b64decode(slot["wrapped"], validate=True), secret, info=info)
        return None
    if slot["type"] == "passphrase":
        salt, cost = base64.b64decode(slot["salt"], validate=True), [slot[n] for n in COST]
        good = len(salt) == 16 and all(type(n) is int and 0 < n <= COST[c] for n, c in zip(cost, COST))
        ...
