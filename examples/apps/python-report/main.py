"""Estimates pi by throwing darts, one batch every REPORT_INTERVAL_S seconds (5).

The first batch is awaited, so that an error in it fails the start. The others run in the
background, while this program stays open to questions: execute `report()` in it at any time,
or `stop()` to end the work.
"""

import asyncio
import os
import random
import statistics

INTERVAL_S = float(os.environ.get("REPORT_INTERVAL_S", "5"))
DARTS = 100_000
SLICE = 10_000

estimates = []


async def throw_darts():
    """One estimate. Lets others run after every slice: there is but one thread."""
    hits = 0
    for _ in range(DARTS // SLICE):
        hits += sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(SLICE))
        await asyncio.sleep(0)
    return 4 * hits / DARTS


def report():
    """What is known so far."""
    return {
        "batches": len(estimates),
        "pi": statistics.fmean(estimates),
        "spread": statistics.stdev(estimates) if len(estimates) > 1 else None,
        "running": not work.done(),
    }


def stop():
    """Ends the work; what was computed stays."""
    work.cancel()


async def keep_throwing():
    while True:
        await asyncio.sleep(INTERVAL_S)
        estimates.append(await throw_darts())
        print(f"batch {len(estimates)}: pi is about {statistics.fmean(estimates):.5f}", flush=True)


estimates.append(await throw_darts())  # noqa: F704 - IPython awaits at the top level
print(f"batch 1: pi is about {estimates[0]:.5f}", flush=True)
work = asyncio.create_task(keep_throwing())
