"""The floors: what the system has, without index, proof, deduplication or (mostly) encryption."""

from __future__ import annotations

from benchmarks.contenders import Contender, Place, Program, Step

_TAR = Program(("tar", "--version"))
_PACK = {"zstd": ("zstd", "-3", "-T0", "-q"), "xz": ("xz", "-6", "-T0")}
_UNPACK = {"zstd": ("zstd", "-d", "-q", "-c"), "xz": ("xz", "-d", "-T0", "-c")}
_TEST = {"zstd": ("zstd", "-t", "-q"), "xz": ("xz", "-t", "-T0")}


class Tar(Contender):
    """A compressed tar file."""

    kind = "floor"

    def __init__(self, compressor: str) -> None:
        self.key = f"tar-{compressor}"
        self.name = f"tar | {compressor} -T0"
        self.programs = (_TAR, Program((compressor, "--version")))
        self._compressor = compressor

    def first(self, place: Place) -> Step:
        return Step((_packing(place), _PACK[self._compressor]), output=place.repository)

    def restore(self, place: Place) -> Step:
        return Step((*self._opened(place), _unpacking(place)))

    def restore_one(self, place: Place) -> Step:
        return Step((*self._opened(place), (*_unpacking(place), _relative(place))))

    def verify(self, place: Place) -> Step:
        return Step(((*_TEST[self._compressor], str(place.repository)),))

    def _opened(self, place: Place) -> tuple[tuple[str, ...], ...]:
        return ((*_UNPACK[self._compressor], str(place.repository)),)


class TarGpg(Tar):
    """A compressed tar file, encrypted with a passphrase."""

    def __init__(self, compressor: str) -> None:
        super().__init__(compressor)
        self.key += "-gpg"
        self.name += " | gpg"
        self.programs = (*self.programs, Program(("gpg", "--version")))

    def first(self, place: Place) -> Step:
        seal = (*_gpg(place), "--symmetric", "--cipher-algo", "AES256", "--compress-algo", "none")
        return Step((_packing(place), _PACK[self._compressor], seal), output=place.repository)

    def verify(self, place: Place) -> Step:
        return Step((_decrypting(place), _TEST[self._compressor]))

    def _opened(self, place: Place) -> tuple[tuple[str, ...], ...]:
        return (_decrypting(place), _UNPACK[self._compressor])


def _packing(place: Place) -> tuple[str, ...]:
    return ("tar", "-cf", "-", "-C", "/", str(place.source.relative_to("/")))


def _unpacking(place: Place) -> tuple[str, ...]:
    return ("tar", "-xf", "-", "-C", str(place.target))


def _relative(place: Place) -> str:
    return str(place.one.relative_to("/"))


def _gpg(place: Place) -> tuple[str, ...]:
    secret = ("--pinentry-mode", "loopback", "--passphrase-file", str(place.secret))
    return ("gpg", "--batch", "--quiet", *secret)


def _decrypting(place: Place) -> tuple[str, ...]:
    return (*_gpg(place), "--decrypt", str(place.repository))
