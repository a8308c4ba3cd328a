"""Somebody else's runtime on a Linux board, behind the bridge that our own firmware speaks.

    python -m policyport.hil.agent DEPLOY --runtime tflite --listen 3334
    python -m policyport.hil.agent DEPLOY --runtime onnx --serial /dev/ttyGS0

DEPLOY is the folder of a deploy artifact, copied to the board: the agent computes its ``policy.tflite`` or
``policy.qdq.onnx``. ``python -m policyport.hil.peer`` measures it from the host as ``policyport hil`` does our program.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from policyport.core.artifact import Artifact, open_artifact
from policyport.core.errors import BoardError, PolicyportError, UnsupportedModelError
from policyport.core.semantics import Integers
from policyport.deploy.exports import (
    ONNX_NAME,
    TFLITE_NAME,
    observations_for,
    tflite_input,
    tflite_interpreter,
    tflite_output,
)
from policyport.deploy.program import Program, program_sha256, read_program
from policyport.firmware_bridge.frame import PROTOCOL_VERSION
from policyport.firmware_bridge.messages import Identity, Memory
from policyport.firmware_bridge.server import Device, Server, clock_overhead_ns

Runtime = Literal["tflite", "xnnpack", "onnx"]
RUNTIMES: tuple[Runtime, ...] = ("tflite", "xnnpack", "onnx")

LEAST_PAYLOAD = 1024
"""What our firmware takes at least, too."""

READ_BYTES = 4096


class TfliteDevice:
    """A TFLite interpreter of one thread, with its own kernels or with XNNPACK's."""

    def __init__(self, built: Artifact, xnnpack: bool) -> None:
        self._program = read_program(built.path)
        model = _model(built, TFLITE_NAME)
        self._interpreter = tflite_interpreter(model, "xnnpack" if xnnpack else "optimized")
        self._source = self._interpreter.get_input_details()[0]
        self._target = self._interpreter.get_output_details()[0]
        package = type(self._interpreter).__module__.partition(".")[0].replace("_", "-")
        self.identity = identify(built, self._program, model, package, "xnnpack" if xnnpack else "")

    def prepare(self, q: Integers) -> Any:
        """See :class:`Device`."""
        return tflite_input(q, self._source, self._program.input)

    def run(self, prepared: Any) -> Any:
        """See :class:`Device`."""
        self._interpreter.set_tensor(self._source["index"], prepared)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._target["index"])

    def integers(self, output: Any) -> Integers:
        """See :class:`Device`."""
        return tflite_output(output, self._program.output)

    def memory(self) -> Memory:
        """See :class:`Device`."""
        return peak_memory()


class OnnxDevice:
    """An onnxruntime session of one thread, optimized as it is by default."""

    def __init__(self, built: Artifact) -> None:
        import onnxruntime

        self._program = read_program(built.path)
        model = _model(built, ONNX_NAME)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.identity = identify(built, self._program, model, "onnxruntime", "")

    def prepare(self, q: Integers) -> Any:
        """See :class:`Device`."""
        return {self._input: observations_for(self._program, q[None])}

    def run(self, prepared: Any) -> Any:
        """See :class:`Device`."""
        return self._session.run(None, prepared)[0]

    def integers(self, output: Any) -> Integers:
        """See :class:`Device`."""
        target = self._program.output
        real = np.asarray(output, np.float64)
        shaped = np.moveaxis(real, 1, -1) if len(target.shape) == 3 else real
        return np.rint(shaped.reshape(-1) / target.scale).astype(np.int64) + target.zero_point

    def memory(self) -> Memory:
        """See :class:`Device`."""
        return peak_memory()


def open_device(built: Artifact, runtime: Runtime) -> Device:
    """The runtime with the network of a deploy artifact.

    :raises ToolError: it is not installed
    :raises UnsupportedModelError: the network could not be written for it
    """
    return OnnxDevice(built) if runtime == "onnx" else TfliteDevice(built, runtime == "xnnpack")


def identify(built: Artifact, program: Program, model: Path, package: str, how: str) -> Identity:
    """Who answers: the network is the artifact's, the build is the runtime's and its model file's."""
    from importlib.metadata import version

    name = " ".join(filter(None, (package, version(package), how)))
    source, target = program.input, program.output
    input_bytes, output_bytes = source.size * source.bits // 8, target.size * target.bits // 8
    return Identity(
        build_id=hashlib.sha256(name.encode() + model.read_bytes()).hexdigest()[:32],
        model_sha256=program_sha256(program),
        protocol=PROTOCOL_VERSION,
        max_payload=max(LEAST_PAYLOAD, input_bytes + 16, output_bytes + 16),
        input_size=source.size,
        input_bits=source.bits,
        output_size=target.size,
        output_bits=target.bits,
        layers=(),
        board=str(built.manifest.figures["board"]),
        clock_hz=1_000_000_000,
        counter="clock",
        counter_overhead_ticks=clock_overhead_ns(),
        reset_cause="power",
        compiler=name,
    )


def peak_memory() -> Memory:
    """The most RAM that this process has had so far, interpreter included; where its stack is, nobody measures."""
    import resource

    return Memory(0, 0, min(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, 0xFFFFFFFF))


def _model(built: Artifact, name: str) -> Path:
    if name not in built.manifest.files:
        raise UnsupportedModelError(f"no {name} in this artifact", where=built.path, cure="exports.json says why")
    return built.file(name)


def serve_tcp(device: Device, address: str) -> None:
    """Serve one host after the other, for ever; prints the URL once.

    :param address: ``[HOST:]PORT``; port 0 takes a free one
    :raises BoardError: nobody can listen there
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise BoardError("cannot listen", where=address, expected="[HOST:]PORT, a port being 0 to 65535")
    try:
        listener = socket.create_server((host or "0.0.0.0", int(port)), backlog=1)
    except OSError as error:
        raise BoardError("cannot listen", where=address, got=error) from error
    with listener:
        print(f"socket://{host or socket.gethostname()}:{listener.getsockname()[1]}", flush=True)
        while True:
            line, _ = listener.accept()
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with line, contextlib.suppress(ConnectionError):
                server = Server(device)
                line.sendall(server.start())
                while data := line.recv(READ_BYTES):
                    line.sendall(server.feed(data))


def serve_serial(device: Device, path: str, baud: int) -> None:
    """Serve whoever is at the other end of a serial line, for ever.

    :raises BoardError: it does not open, or has gone
    """
    import serial

    try:
        with serial.Serial(path, baud, exclusive=True) as line:
            server = Server(device)
            line.write(server.start())
            while True:
                line.write(server.feed(line.read(max(1, line.in_waiting))))
    except (serial.SerialException, OSError) as error:
        raise BoardError("this serial device cannot be served", where=path, got=error) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m policyport.hil.agent", description=summary)
    parser.add_argument("deploy", type=Path, help="folder of a deploy artifact")
    parser.add_argument("--runtime", choices=RUNTIMES, default="tflite", help="what computes it [default: tflite]")
    line = parser.add_mutually_exclusive_group(required=True)
    line.add_argument("--listen", metavar="[HOST:]PORT", help="serve over TCP")
    line.add_argument("--serial", metavar="DEVICE", help="serve over a serial device")
    parser.add_argument("--baud", type=int, default=115200, help="of a UART [default: 115200]")
    chosen = parser.parse_args(arguments)
    try:
        device = open_device(open_artifact(chosen.deploy, "deploy"), chosen.runtime)
        if chosen.listen:
            serve_tcp(device, chosen.listen)
        else:
            serve_serial(device, chosen.serial, chosen.baud)
    except PolicyportError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
