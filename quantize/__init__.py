"""From a float32 ONNX to a QDQ ONNX whose integers the device runs.

float graph ──► ranges ──► QuantizedNetwork ──► QDQ ONNX
(graph.py)   (calibrate.py)   (network.py)  └─► torch fake quantization, numpy simulation
"""

from policyport.quantize.config import QuantizeConfig
from policyport.quantize.stage import CODE, quantize

__all__ = ["CODE", "QuantizeConfig", "quantize"]
