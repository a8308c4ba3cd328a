"""The autoencoder with weights trained as three bits: from the training to the emulated board's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import open_artifact
from policyport.deploy.board import load_board
from policyport.deploy.layers import Conv2d
from policyport.firmware_bridge.client import Bridge
from policyport.hil.codec import PictureDecoder, PictureEncoder
from policyport.hil.rig import EmulatedRig
from policyport.pipeline.cli import main

pytest.importorskip("torch")
pytest.importorskip("skimage")

WIDTH = 40

RECIPE = f"""
name = "pictures"
[train]
task = "codec"
encoder = "autoencoder"
images = "IMAGES"
channels = 12
decoder_width = 9
loss = "mse"
weight_bits = 3
steps = 6
batch = 2
crop = 48
evaluate_every = 3
calibration_blocks = 64
held_out_blocks = 16
[quantize]
activations = "int8"
[deploy]
picture_width = {WIDTH}
[hil]
parity_observations = 2
latency_observations = 2
"""


@pytest.mark.slow
def test_the_board_codes_as_it_was_trained(tmp_path: Path) -> None:
    from PIL import Image
    from policyport.train.codec.drawn import drawn_pictures

    (tmp_path / "images").mkdir()
    pictures = drawn_pictures(3, seed=5)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"images/{number}.png")
    (tmp_path / "codec.toml").write_text(RECIPE.replace("IMAGES", str(tmp_path / "images")))
    assert main(["run", str(tmp_path / "codec.toml"), "--out", str(tmp_path / "run")]) == 0
    deployed = open_artifact(tmp_path / "run/deploy", "deploy")
    encoder, shown = PictureEncoder.open(deployed), pictures[0][:30, :WIDTH]
    assert [layer.weight_bits for layer in encoder.program.layers if isinstance(layer, Conv2d)] == [3, 3, 3, 3]
    with EmulatedRig(load_board("mps2-an386"), tmp_path / "run/flash/flash.bin") as rig, Bridge.open(rig.url) as bridge:
        data, _ = encoder.encode_on_board(bridge, shown, 15)
    assert data == encoder.encode(shown, 15)
    decoded, problem = PictureDecoder(deployed.path).decode(data, "the board")
    assert not problem and decoded.shape == shown.shape
    assert np.abs(decoded.astype(float) - shown).mean() < np.abs(shown.astype(float) - 128).mean()
