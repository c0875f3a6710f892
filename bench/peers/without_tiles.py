#!/usr/bin/env python3
"""Runs a command to which Linux refuses the tile unit (AMX), so that it and its peers compute as on a processor without one.

    python3 bench/peers/without_tiles.py demask bench step --shape llada-0.2b --rows 32 --cached 256 --dtype int8 \\
        --peer 'python bench/peers/torch_peer.py --dtype bf16'

A program may use the unit once it has asked for it (arch_prctl with ARCH_REQ_XCOMP_PERM, Documentation/arch/x86/xstate.rst):
demask does so, oneDNN does, and llama.cpp. Here a seccomp filter answers EPERM, to the command and to all that it starts.
"""
import ctypes
import errno
import os
import struct
import sys

ARCH_PRCTL = 158  # the number of the system call on x86-64
ARCH_REQ_XCOMP_PERM = 0x1023
AUDIT_ARCH_X86_64 = 0xC000003E
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
# Offsets in struct seccomp_data.
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16

# (code, skip if true, skip if false, operand)
FILTER = [
    (LOAD, 0, 0, ARCHITECTURE),
    (EQUAL, 0, 5, AUDIT_ARCH_X86_64),
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 3, ARCH_PRCTL),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (EQUAL, 0, 1, ARCH_REQ_XCOMP_PERM),
    (RETURN, 0, 0, RET_ERRNO | errno.EPERM),
    (RETURN, 0, 0, RET_ALLOW),
]


def refuse():
    """Installs the filter for this process and all that it becomes or starts."""
    code = b"".join(struct.pack("HBBI", *line) for line in FILTER)
    held = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(FILTER), ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)]:
        if libc.prctl(*call) != 0:
            sys.exit(f"without_tiles.py: the system takes no filter: {os.strerror(ctypes.get_errno())}")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        sys.exit("without_tiles.py: there is a tile unit to refuse on Linux and x86-64 only")
    refuse()
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as e:
        sys.exit(f"without_tiles.py: {sys.argv[1]}: {e.strerror}")


if __name__ == "__main__":
    main()
