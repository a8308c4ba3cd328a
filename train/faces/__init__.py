"""Rendered faces: heads that nobody has, their action units known exactly, from a mesh in the public domain."""
