"""What a training of an image codec depends on."""

from __future__ import annotations

from pathlib import Path

from policyport.train.codec.config import CodecConfig
from policyport.train.codec.stage import data_inputs


def test_integers_depend_on_how_weights_are_rounded(tmp_path: Path) -> None:
    exact = data_inputs(CodecConfig(images=tmp_path))
    integers = data_inputs(CodecConfig(images=tmp_path, weight_bits=3))
    assert set(exact) == {"images"} and set(integers) == {"images", "quantize"}
    (tmp_path / "lake.png").write_bytes(b"not yet a picture")
    assert data_inputs(CodecConfig(images=tmp_path)) != exact
