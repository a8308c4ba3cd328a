"""The comparison on MLPerf Tiny's models: its inputs, its table, and what it says where a file is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline.tiny_models import PAIRS, TinyRow, compare, machine_sounds, markdown, photographs


def test_photographs_are_whole_pixels_of_two_pictures() -> None:
    pytest.importorskip("sklearn")
    seen, held_out = photographs(32, 1)
    assert (seen.shape[1], held_out.shape) == (3072, (160, 3072))
    for part in (seen, held_out):
        assert part.min() >= 0 and part.max() <= 255 and np.array_equal(part, np.rint(part))
    again, _ = photographs(32, 1)
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_allclose(photographs(32, 255)[0], seen / 255, rtol=1e-6)


def test_sounds_are_log_mel_frames() -> None:
    seen, held_out = machine_sounds()
    assert seen.shape == (256, 640) and held_out.shape == (160, 640) and np.isfinite(seen).all()
    # A hum is louder at the bottom than at the top of the spectrum.
    bands = seen.reshape(-1, 5, 128).mean(axis=(0, 1))
    assert bands[:16].mean() > bands[-16:].mean() + 6


def test_a_row_without_classes_has_no_agreement() -> None:
    rows = [TinyRow("a", 160, 15.25, 20.5, 0.9375, 1.0), TinyRow("b", 160, 20.0, 39.0, None, None)]
    assert "| a | 160 | 15.2 dB | 20.5 dB | 93.8 % | 100.0 % |" in markdown(rows)
    assert "| b | 160 | 20.0 dB | 39.0 dB |  |  |" in markdown(rows)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such model") as caught:
        compare(PAIRS[0], tmp_path, tmp_path / "work")
    assert "pretrainedResnet.tflite" in str(caught.value)
