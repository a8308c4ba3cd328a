"""Image codecs: an encoder small enough for a microcontroller, a larger decoder for the host."""
