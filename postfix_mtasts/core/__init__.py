"""The knowing part: bytes and facts in, values out, no I/O."""
