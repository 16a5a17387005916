"""Bytes of the probes: checksums, SCTP INIT, numbered datagrams. Pure; knows no socket."""

from __future__ import annotations

import struct

STREAM = struct.Struct("!4sHIQ")  # magic, class, sequence number, CLOCK_MONOTONIC nanoseconds at sending
MAGIC = b"HwSt"


def crc32c(data: bytes) -> int:
    """SCTP's checksum (RFC 9260, Castagnoli), bit by bit: packets here are tiny."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def inet_checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def sctp_init(source: int, target: int, token: bytes, *, answer: bool = False) -> bytes:
    """A valid SCTP INIT, or INIT ACK, whose initiate tag is `token` (4 bytes, not zero)."""
    chunk = struct.pack("!BBH4sIHHI", 2 if answer else 1, 0, 20, token, 65536, 1, 1, 1)
    tag = token if answer else bytes(4)
    head = struct.pack("!HH4s", source, target, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk
