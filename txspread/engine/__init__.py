"""The protocol, sans-IO: bytes and time in, effects out."""
