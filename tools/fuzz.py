"""Runs the fuzz targets, and tells of each in one line; exits with 1 if one of them found something.

    tools/fuzz.py run [--seconds 60] [--jobs 1] [TARGET…]
    tools/fuzz.py keep [TARGET…]

`run` starts from the kept inputs (fuzz/corpus), the samples, and what earlier runs found worth trying further
(fuzz/target/corpus, not kept). An input that breaks something is written to fuzz/artifacts; the test of the kept
inputs fails with it once it is in fuzz/corpus/TARGET.
`keep` adds to the kept inputs those, of what runs have found, that reach code which the others do not.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
SAMPLES = ROOT / "tests" / "samples"

# What each target begins with besides its kept inputs, and the longest input in bytes: longer ones are slow, and
# say no more.
TARGETS = {
    "lines": ([SAMPLES], 4096),
    "config": ([ROOT / "examples"], 4096),
    "state": ([ROOT / "tests" / "it" / "fixtures" / "state"], 16384),
    "rows": ([], 4096),
    "replay": ([SAMPLES, ROOT / "examples" / "demo"], 4096),
    "import": ([SAMPLES / "schedule-list"], 4096),
    "message": ([], 2048),
    "health": ([], 512),
}

# What is kept of one target at a time, in inputs, and in all, in bytes: people read it, and every test runs it.
MOST_NEW = 16
MOST_KEPT = 16 * 1024

# A single input that takes longer, in seconds on a clock that a busy machine does not stop, or more memory, in MiB,
# is a finding.
LONGEST = 60
MOST_MEMORY = 2048


def build():
    """Builds all targets with coverage counters and overflow checks. No sanitizer: it would need an unstable
    compiler, and the crate itself holds no unsafe code."""
    subprocess.run(["cargo", "fuzz", "build", "--sanitizer", "none"], cwd=ROOT, check=True)


def binary(target):
    version = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"^host: (.*)$", version, re.MULTILINE)[1]
    return FUZZ / "target" / host / "release" / target


def corpora(target):
    """The directory of what runs find, and those that they begin with."""
    grown = FUZZ / "target" / "corpus" / target
    kept = FUZZ / "corpus" / target
    grown.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    seeds, longest = TARGETS[target]
    seeds = [seed for seed in seeds if seed.exists()]
    return grown, kept, seeds, longest


def run(target, seconds):
    """Fuzzes one target; returns whether it found something."""
    grown, kept, seeds, longest = corpora(target)
    artifacts = FUZZ / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    began = time.monotonic()
    done = subprocess.run(
        [
            binary(target),
            grown,
            kept,
            *seeds,
            f"-max_total_time={seconds}",
            f"-max_len={longest}",
            f"-timeout={LONGEST}",
            f"-report_slow_units={LONGEST}",
            f"-rss_limit_mb={MOST_MEMORY}",
            f"-dict={FUZZ / 'words.dict'}",
            f"-artifact_prefix={artifacts}/",
            "-print_final_stats=1",
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    took = time.monotonic() - began
    said = done.stderr.decode(errors="replace")
    found = sorted(set(artifacts.iterdir()) - before)
    executions = re.search(r"number_of_executed_units: *(\d+)", said)
    coverage = re.findall(r"\bcov: (\d+)", said)
    print(
        f"{target:<8} {int(executions[1]) if executions else 0:>12,} executions"
        f"  {int(coverage[-1]) if coverage else 0:>7,} edges"
        f"  {len(found)} findings  {took:>5.0f} s",
        flush=True,
    )
    if done.returncode != 0:
        # What was wrong stands above the fuzzer's own words, and above the stack.
        panic = re.search(r"^thread .*?(?=^stack backtrace|^note: |^==\d+)", said, re.MULTILINE | re.DOTALL)
        print((panic[0] if panic else said[-500:]).strip()[:1000])
        for file in found:
            print(f"again: {binary(target).relative_to(ROOT)} {file.relative_to(ROOT)}")
    return done.returncode != 0


def keep(target):
    """Keeps the richest inputs of those that reach what neither the seeds nor the kept ones do."""
    grown, kept, seeds, longest = corpora(target)
    with tempfile.TemporaryDirectory() as directory:
        known = Path(directory) / "known"
        texts = Path(directory) / "texts"
        known.mkdir()
        texts.mkdir()
        for source in [kept, *seeds]:
            for file in filter(Path.is_file, source.rglob("*")):
                shutil.copyfile(file, known / f"{len(os.listdir(known))}")
        for file in grown.iterdir():
            # People read diffs of what is kept.
            text = file.read_bytes()
            if is_text(text):
                shutil.copyfile(file, texts / file.name)
        before = set(known.iterdir())
        merge = [binary(target), "-set_cover_merge=1", f"-max_len={longest}", f"-timeout={LONGEST}", known, texts]
        subprocess.run(merge, cwd=ROOT, capture_output=True, check=True)
        new = sorted(set(known.iterdir()) - before, key=lambda file: file.stat().st_size, reverse=True)
        room = MOST_KEPT - sum(file.stat().st_size for file in kept.iterdir())
        count = 0
        for file in new:
            if count < MOST_NEW and file.stat().st_size <= room:
                shutil.copyfile(file, kept / file.name[:12])
                room -= file.stat().st_size
                count += 1
    print(f"{target}: {count} of {len(new)} inputs kept")


def is_text(data):
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "keep"])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    options = parser.parse_intermixed_args()
    unknown = [target for target in options.targets if target not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]}; there are {', '.join(TARGETS)}")
    targets = options.targets or list(TARGETS)
    build()
    if options.command == "keep":
        for target in targets:
            keep(target)
        return 0
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda target: run(target, options.seconds), targets))
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main())
