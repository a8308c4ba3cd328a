"""Hardware in the loop: rigs, measurements, parity, closed loop, statistics, report."""

from policyport.hil.config import HilConfig
from policyport.hil.stage import CODE, hil

__all__ = ["CODE", "HilConfig", "hil"]
