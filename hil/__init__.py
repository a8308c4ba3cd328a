"""Hardware in the loop: rigs, measurements, parity, closed loop, statistics, report."""

from policyport.hil.config import HilConfig
from policyport.hil.session import Line, OpenBoard, open_board
from policyport.hil.stage import CODE, hil

__all__ = ["CODE", "HilConfig", "Line", "OpenBoard", "hil", "open_board"]
