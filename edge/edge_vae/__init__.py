"""The device: reads sensor buffers, scores windows, raises alarms, and never loses one.

Also every rule that both sides must agree on: what a window is, how it is scaled, scored and judged. The training side
imports these rules; nothing here imports the training side.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
