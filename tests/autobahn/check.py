"""Reads Autobahn's index.json and decides: no failure anywhere, nothing non-strict outside section 6.

Both verdicts count: how the server behaved and how it closed. Exit 0 when the bar is held.
"""

import json
import sys
from collections import Counter

# Sections and the number of their cases; a report with fewer was cut short.
CASES = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}
GOOD = {"OK", "INFORMATIONAL"}
TOLERATED = {"6": GOOD | {"NON-STRICT"}}


def section(case):
    return case.split(".")[0]


def order(case):
    return [int(part) for part in case.split(".")]


def main(path):
    with open(path, encoding="utf-8") as file:
        (results,) = json.load(file).values()
    bad = 0
    for case in sorted(results, key=order):
        result = results[case]
        allowed = TOLERATED.get(section(case), GOOD)
        verdicts = (result["behavior"], result["behaviorClose"])
        if not set(verdicts) <= allowed:
            bad += 1
            print(f"case {case}: behavior {verdicts[0]}, close {verdicts[1]}, code {result['remoteCloseCode']}")
    for name, expected in CASES.items():
        cases = [case for case in results if section(case) == name]
        counts = Counter(results[case]["behavior"] for case in cases)
        closes = Counter(results[case]["behaviorClose"] for case in cases)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"section {name}: {summary}; closes: " + ", ".join(f"{n} {v}" for v, n in sorted(closes.items())))
        if len(cases) != expected:
            bad += 1
            print(f"section {name}: {len(cases)} cases ran, {expected} were expected")
    lax = [case for case in sorted(results, key=order) if results[case]["behavior"] == "NON-STRICT"]
    print(f"non-strict: {' '.join(lax) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
