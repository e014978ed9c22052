"""Reads Autobahn's index.json and decides: every case ran, and none failed or was lax.

    check.py INDEX.JSON all | ci | short

Both verdicts count: how the server behaved and how it closed. What the server declines (UNIMPLEMENTED) is a failure,
too: it has everything the suite asks for. Exit 0 when the bar is held.
"""

import json
import sys
from collections import Counter

# Sections and the number of their cases, all 517 of them; a report with fewer was cut short.
ALL = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 90, "13": 126}
# What run.sh chooses of the sections that take most of the time.
CHOICES = {"all": ALL, "ci": {**ALL, "12": 20, "13": 28}, "short": {**ALL, "9": 0, "12": 5, "13": 7}}
GOOD = {"OK", "INFORMATIONAL"}


def section(case):
    return case.split(".")[0]


def order(case):
    return [int(part) for part in case.split(".")]


def tally(results, verdict):
    counts = Counter(result[verdict] for result in results)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def main(path, which):
    with open(path, encoding="utf-8") as file:
        (results,) = json.load(file).values()
    bad = 0
    for case in sorted(results, key=order):
        result = results[case]
        verdicts = (result["behavior"], result["behaviorClose"])
        if not set(verdicts) <= GOOD:
            bad += 1
            print(f"case {case}: behavior {verdicts[0]}, close {verdicts[1]}, code {result['remoteCloseCode']}")
    for name, expected in CHOICES[which].items():
        cases = [result for case, result in results.items() if section(case) == name]
        seconds = sum(result["duration"] for result in cases) / 1000
        if cases:
            print(
                f"section {name}: {tally(cases, 'behavior')}; closes: {tally(cases, 'behaviorClose')}; {seconds:.0f} s"
            )
        if len(cases) != expected:
            bad += 1
            print(f"section {name}: {len(cases)} cases ran, {expected} were expected")
    print(f"{len(results)} cases: {tally(results.values(), 'behavior')}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
