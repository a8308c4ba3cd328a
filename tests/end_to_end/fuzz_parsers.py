"""What reads bytes from outside, as functions of bytes: each returns, or refuses them with an error of ours.

With atheris (``pip install -c constraints.txt atheris``), guided by coverage, until it is stopped or finds something:

    python tests/end_to_end/fuzz_parsers.py onnx runs/cartpole/deploy/policy.qdq.onnx [libFuzzer's flags]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from policyport.core.artifact import MANIFEST, read_manifest
from policyport.core.errors import PolicyportError
from policyport.core.tflite_file import read_tflite
from policyport.deploy.lower import lower
from policyport.firmware_bridge.frame import Decoder, Frame
from policyport.firmware_bridge.messages import Identity, Memory
from policyport.quantize.onnx_reader import read_onnx

Target = Callable[[bytes], None]

FOLDER = Path(tempfile.gettempdir())


def _frames(data: bytes) -> None:
    for item in Decoder().feed(data):
        if isinstance(item, Frame):
            for parse in (Identity.parse, Memory.parse):
                _refusing(parse, item.payload)
    for parse in (Identity.parse, Memory.parse):
        _refusing(parse, data)


def _refusing(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        parse(data)
    except PolicyportError:
        return


def _file(suffix: str, *readers: Callable[[Path], object]) -> Target:
    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="policyport-fuzz-") as folder:
            path = Path(folder) / f"file{suffix}"
            path.write_bytes(data)
            for read in readers:
                try:
                    read(path)
                except PolicyportError:
                    continue

    return target


def _manifest(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="policyport-fuzz-") as folder:
        (Path(folder) / MANIFEST).write_bytes(data)
        _refusing(lambda _: read_manifest(Path(folder)), data)


TARGETS: dict[str, Target] = {
    "frames": _frames,
    "manifest": _manifest,
    "onnx": _file(".onnx", lower, read_onnx),
    "tflite": _file(".tflite", read_tflite, lower),
}
"""Name to what is fuzzed."""


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A seed with some of its bytes changed, cut out, doubled, put in, or cut off."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at, span = chance.randrange(len(data) + 1), chance.choice((1, 1, 1, 2, 4, 16))
        match chance.randrange(6):
            case 0 | 1:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 2:
                data[at : at + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(data))).to_bytes(4, "little")
            case 3:
                del data[at : at + span]
            case 4:
                data[at:at] = data[at : at + span] if chance.random() < 0.5 else chance.randbytes(span)
            case _:
                data = data[:at] if chance.random() < 0.1 else data
    return bytes(data)


def main() -> None:
    """Fuzz one target with atheris from a seed file on."""
    import atheris

    name, seed, *flags = sys.argv[1:]
    atheris.instrument_all()
    with tempfile.TemporaryDirectory(prefix="policyport-corpus-") as corpus:
        (Path(corpus) / "seed").write_bytes(Path(seed).read_bytes())
        atheris.Setup([sys.argv[0], *flags, corpus], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
