"""What becomes of bytes on their way: flipped bits, cut ends, zeroed and misplaced pieces; each drawn from a seed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from random import Random

import msgspec

from edge_vae.bundle import Bundle, Manifest

__all__ = ["BUNDLE_DAMAGES", "DAMAGES", "Damage", "contents", "with_model", "zipped"]

Damage = Callable[[bytes, Random], bytes]
"""(sound bytes, what is drawn with) to damaged ones; by chance they may be equal."""


def flipped(sound: bytes, chance: Random) -> bytes:
    damaged = bytearray(sound)
    for _ in range(chance.choice([1, 1, 1, 4, 16])):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def truncated(sound: bytes, chance: Random) -> bytes:
    return sound[: chance.randrange(len(sound))]


def zeroed(sound: bytes, chance: Random) -> bytes:
    at, size = chance.randrange(len(sound)), chance.choice([1, 16, 256, 4096])
    return sound[:at] + bytes(len(sound[at : at + size])) + sound[at + size :]


def overwritten(sound: bytes, chance: Random) -> bytes:
    """A word that means a number, an offset or a length becomes another, most often an extreme one."""
    at = chance.randrange(len(sound) // 4) * 4
    word = chance.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(sound), chance.getrandbits(32)])
    return sound[:at] + word.to_bytes(4, "little") + sound[at + 4 :]


def spliced(sound: bytes, chance: Random) -> bytes:
    """A piece stands in another's place."""
    size = chance.choice([4, 64, 1024])
    to, at = (chance.randrange(len(sound) - size) for _ in range(2))
    return sound[:to] + sound[at : at + size] + sound[to + size :]


def lengthened(sound: bytes, chance: Random) -> bytes:
    """A piece stands there twice."""
    at, size = chance.randrange(len(sound)), chance.choice([1, 64, 1024])
    return sound[: at + size] + sound[at:]


DAMAGES: dict[str, Damage] = {
    "flipped": flipped,
    "truncated": truncated,
    "zeroed": zeroed,
    "overwritten": overwritten,
    "spliced": spliced,
    "lengthened": lengthened,
}
"""What happens to any file."""


def swapped(sound: bytes, chance: Random) -> bytes:
    """Two entries have each other's contents, in a ZIP that is whole."""
    entries = contents(sound)
    one, other = chance.sample(sorted(entries), 2)
    return zipped(entries | {one: entries[other], other: entries[one]})


def exchanged(sound: bytes, chance: Random) -> bytes:
    """A model is damaged in a ZIP that is whole, and its hash in the manifest stays."""
    entries = contents(sound)
    name = chance.choice([name for name in entries if name.endswith(".tflite")])
    damage = DAMAGES[chance.choice(sorted(DAMAGES))]
    while (damaged := damage(entries[name], chance)) == entries[name]:
        pass
    return zipped(entries | {name: damaged})


BUNDLE_DAMAGES: dict[str, Damage] = DAMAGES | {"swapped": swapped, "exchanged": exchanged}
"""What happens to a bundle, by somebody with a ZIP program too."""


def contents(packed: bytes) -> dict[str, bytes]:
    """The entries of a bundle."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes]) -> bytes:
    """Packed in a whole ZIP with the hash that is right for it, so that only the content is to blame."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
        archive.comment = bytes(64)
    before = file.getvalue()[:-64]
    return before + hashlib.sha256(before).hexdigest().encode()


def with_model(bundle: Bundle, name: str, model: bytes) -> Bundle:
    """A whole bundle with another model in one's place, and the hash that is right for it."""
    before, after = (hashlib.sha256(one).hexdigest().encode() for one in (bundle.models[name], model))
    manifest = msgspec.json.decode(msgspec.json.encode(bundle.manifest).replace(before, after), type=Manifest)
    return Bundle(manifest, {**bundle.models, name: model}, bundle.golden, bundle.reference)
