"""`python -m calibrate.guard FOUND`: waits until its stdin closes, then puts clocks and power limits back.

Started by calibrate.knobs; it lives in a session of its own, so that Ctrl-C and a kill of the bench do not reach it.
"""

from __future__ import annotations

import json
import signal
import sys

from calibrate.knobs import Found


def main(arguments: list[str]) -> int:
    """Wait and put back; 0 when everything is as it was found."""
    import pynvml

    found = [Found(**each) for each in json.loads(arguments[0])]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pynvml.nvmlInit()
    print("guarding", flush=True)
    sys.stdin.buffer.read()
    complaints = [text for each in found for text in each.put_back(pynvml)]
    print("; ".join(complaints), flush=True)
    pynvml.nvmlShutdown()
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
