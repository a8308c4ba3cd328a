"""The bridge between host and board: frames over a serial line, on both sides."""
