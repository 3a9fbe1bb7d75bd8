"""Try the package with generated cases, thousands of them: what torch refuses, what users mistype, what is damaged.

    python scripts/soak.py --cases 100000 --jobs 2
    python scripts/soak.py --only packed --first 5000 --cases 1000
    python scripts/soak.py --case 123456

A case is a few lines of Python (or a damaged file) that depend on its number, its kind and the seed alone. They are
run with rnnnorm's classes, with torch's, and by the eager reference. What must not be: a process that ends or hangs,
numbers that differ, something accepted that torch refuses, an error that is no ValueError, TypeError or RuntimeError,
or one that does not name the argument at fault. Exit code 1 if anything of that was found. What differs from torch on
purpose stands in scripts/soak/deviations.py, with reasons, and is counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Threads slow down matrices as tiny as these; memory that is freed or not yet written shows as strange numbers.
SETTINGS = {"OMP_NUM_THREADS": "1", "MALLOC_PERTURB_": "165", "PYTHONHASHSEED": "0"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run cases and print what came of them."""
    args = _parser().parse_args(argv)
    from soak.kinds import kind_of, kinds
    from soak.report import Report
    from soak.watch import Watch
    from soak.worker import Item

    known = kinds()
    if args.only and args.only not in known:
        raise SystemExit(f"--only {args.only}: there are {', '.join(known)}")
    shares = {name: kind.share for name, kind in known.items()}
    numbers = [args.case] if args.case is not None else range(args.first, args.first + args.cases)
    items = [Item(number, args.only or kind_of(args.seed, number, shares)) for number in numbers]
    report = Report("scripts/soak.py" + (f" --seed {args.seed}" if args.seed else ""), args.only or "")
    told = time.monotonic()
    batches = [items[start : start + args.batch] for start in range(0, len(items), args.batch)]
    try:
        for outcome in Watch(args.seed, known, args.jobs).run(batches):
            report.add(outcome)
            if args.case is not None:
                print(outcome.text, f"→ {outcome.verdict.label} {outcome.verdict.detail}", sep="\n")
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(report.progress(), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted; until then:")
    print(report.text(args.stricter))
    return 1 if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (0)")
    parser.add_argument("--case", type=int, help="run this one alone and print it")
    parser.add_argument("--only", metavar="KIND", help="make every case one of this kind")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another set of cases (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (1)")
    parser.add_argument("--batch", type=int, default=500, help="cases per process (500)")
    parser.add_argument(
        "--stricter", type=int, default=12, help="reasons to list for refusals where torch accepts (12)"
    )
    return parser


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SETTINGS})
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this script, whatever is installed
    raise SystemExit(main())
