"""Many datagrams by one system call: recvmmsg(2), which Python's sockets lack.

Each call of recv(2) gives Python's interpreter lock away and has to wait for it
again, up to 5 ms while another thread is at work: 200 datagrams a second.  One call
for all that is there waits once.

LIMITS: Linux, with the layout of its C library's structures on 64 bits and 32.
"""

import ctypes
import mmap
import os
import socket
from typing import Final

BATCH: Final = 512
"""As many as the kernel's queue holds on most hosts: one call empties it."""

_KEPT: Final = 8 << 20  # octets of memory that stay taken after datagrams were long
_WAIT_FOR_ONE: Final = 0x10000  # MSG_WAITFORONE: wait for the first, not for the rest


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_Iovec)),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


class DatagramBatch:
    """Room for `BATCH` datagrams; what is beyond *most* octets of one is cut off.

    Memory is taken only as long datagrams come, and given back when many did.
    """

    def __init__(self, most: int) -> None:
        self._slot = -(-most // mmap.PAGESIZE) * mmap.PAGESIZE
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared, it could not be given back
        self._room = mmap.mmap(-1, BATCH * self._slot, flags=private)
        # Held for its address; it lives as long as the mapping.
        self._first = ctypes.c_char.from_buffer(self._room)
        start = ctypes.addressof(self._first)
        self._parts = (_Iovec * BATCH)()
        self._messages = (_Mmsghdr * BATCH)()
        for number in range(BATCH):
            self._parts[number].base = start + number * self._slot
            self._parts[number].length = most
            header = self._messages[number].header
            header.parts = ctypes.pointer(self._parts[number])
            header.part_count = 1
        self._taken = 0  # octets since memory was last given back
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg

    def receive(self, bound: socket.socket) -> list[bytes]:
        """Return what is in the queue of *bound*, waiting for the first as its time-out says.

        Raises OSError, `BlockingIOError` where nothing came in time.
        """
        count = self._call(bound.fileno(), self._messages, BATCH, _WAIT_FOR_ONE, None)
        if count < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        slot, room, messages = self._slot, self._room, self._messages
        came = [
            room[number * slot : number * slot + messages[number].length] for number in range(count)
        ]
        self._taken += sum(map(len, came))
        if self._taken > _KEPT:
            room.madvise(mmap.MADV_DONTNEED)
            self._taken = 0
        return came
