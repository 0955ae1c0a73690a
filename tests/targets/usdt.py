# SPDX-License-Identifier: MIT
"""What CPython's own USDT probes see. Says what they should see: see usdt.sh."""
import gc
import sys

ROUNDS = 200


class Ring:
    """Garbage that only a collection finds: an object and its dictionary."""
    def __init__(self):
        self.me = self


def main():
    gc.disable()
    gc.collect()
    found = generations = 0
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(ROUNDS):
        for _ in range(i % 5):
            Ring()
        generations += i % 3
        found += gc.collect(i % 3)
        sys.audit("probed.event", *range(i % 4))
        sys.audit("probed.other")
        try:
            __import__(f"probed_missing_{i % 2}")
        except ImportError:
            pass
    print("expect gc__start -", ROUNDS, generations)
    print("expect gc__done -", ROUNDS, found)
    print("expect audit probed.event", ROUNDS, sum(i % 4 for i in range(ROUNDS)))
    print("expect audit probed.other", ROUNDS, 0)
    for kind in ("start", "done"):
        for i in range(2):
            print(f"expect import__{kind} probed_missing_{i}", ROUNDS // 2, 0)
    print("done", flush=True)
    sys.stdin.readline()


main()
