"""Breaks the pure core on purpose, one small change at a time, and sees which changes no test notices.

    tools/mutants.py --cargo-mutants PATH [--file GLOB]… [--shard K/N] [--go-on | --again] [--record]

cargo-mutants lists the changes (`.cargo/mutants.toml` says of which files). It would build each of them, which takes
days for thousands; here tools/mutants weaves all of them into one copy of the sources, each behind a switch in the
environment. One run of each test tells which changes it reaches, so that a change costs the tests that reach it, and no
build. A change is caught if a test fails or does not end, and missed if all pass. What does not compile is unviable;
what cannot stand behind a switch (`-> impl Trait`) is left to `cargo mutants --re`. A change that nobody can observe, or
that no test is worth, is explained in tests/mutants-explained.toml. Exits with 1 if any is missed.

Everything lies below target/mutants. --go-on keeps the build and the outcomes of the last run. --again builds anew and
keeps what was caught, for when tests were added or some code was made simpler: it tries what was missed, and what is new.
--record writes tests/mutants.toml also if not all changes were tried.
"""

import argparse
import collections
import datetime
import fnmatch
import json
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
FRESH = WORK / "fresh"
TREE = WORK / "tree"
LIST = WORK / "list.json"
UNVIABLE = WORK / "unviable.json"
BINARIES = WORK / "binaries.json"
COVER = WORK / "cover.json"
OUTCOMES = WORK / "outcomes.json"
RECORD = ROOT / "tests" / "mutants.toml"
EXPLAINED = ROOT / "tests" / "mutants-explained.toml"

# The cases of property tests are the same in every run, and fewer than otherwise.
TEST_ENV = {
    "PROPTEST_RNG_SEED": "20261125",
    "PROPTEST_CASES": "16",
    "INSTA_UPDATE": "no",
    "RUST_BACKTRACE": "0",
}

# Optimised a little: it is built once, and then runs for an hour.
CARGO_CONFIG = ["--config", "profile.dev.package.scheduler-watchdog.opt-level=1", "--config", "profile.dev.incremental=false"]

# A test may take this many times as long as without a change, and this much more.
PATIENCE, MORE_SECONDS = 4, 10
# A test that takes longer than this part of all of them is run only for changes that no quicker one reaches: each change
# that is missed would cost as much again. So a few may count as missed that such a test would notice, and none as caught.
TOO_LONG = 0.02
MOST_MEMORY = 6 << 30

SWITCH = """
/// Whether a change is on; notes which were asked for.
#[doc(hidden)]
#[allow(warnings, clippy::all)]
pub fn mutant(number: usize) -> bool {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static ON: LazyLock<usize> = LazyLock::new(|| {
        std::env::var("MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
    });
    static SEEN: LazyLock<Option<(std::fs::File, Vec<AtomicBool>)>> = LazyLock::new(|| {
        let path = std::env::var_os("MUTANTS_SEEN")?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).ok()?;
        Some((file, (0..COUNT).map(|_| AtomicBool::new(false)).collect()))
    });
    if let Some((file, seen)) = &*SEEN && !seen[number].swap(true, Ordering::Relaxed) {
        let mut file = file;
        let _ = file.write_all(format!("{number}\\n").as_bytes());
    }
    number == *ON
}
"""


def cargo(*arguments, **more):
    env = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "build")}
    return subprocess.run(["cargo", *arguments], env=env, check=False, **more)


def load(path, default=None):
    return json.loads(path.read_text()) if path.exists() else default


def save(path, value):
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.replace(path)


# Listing


def list_mutants(cargo_mutants):
    """Lists the changes, each under a name that outlives a change elsewhere in its file: lines and columns do not."""
    listed = [cargo_mutants, "mutants", "--list", "--json"]
    mutants = json.loads(subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout)
    seen = collections.Counter()
    for mutant in mutants:
        mutant["change"] = mutant["name"].split(": ", 1)[1]
        mutant["code"] = (ROOT / mutant["file"]).read_text().splitlines()[mutant["span"]["start"]["line"] - 1].strip()
        alike = f"{mutant['file']}: {mutant['change']}: {mutant['code']}"
        seen[alike] += 1
        mutant["key"] = f"{alike} #{seen[alike]}"
    save(LIST, mutants)


def explanations():
    """Why some changes are not caught: by file, change and line of code."""
    explained = tomllib.loads(EXPLAINED.read_text())["explained"] if EXPLAINED.exists() else []
    return {place(entry): entry["why"] for entry in explained}


def place(of):
    return of["file"], of["change"], of["code"]


# Building


def copy(names, source, target):
    """Copies files, without touching what has not changed; its time decides what is built again."""
    for name in names:
        old, new = source / name, target / name
        if not new.exists() or new.read_bytes() != old.read_bytes():
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old, new)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if str(path.relative_to(target)) not in names:
            path.unlink()


def weave(left_out, count):
    """Weaves all changes but some into a copy of what git knows or would know; returns those that cannot be woven."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    copy(names, ROOT, FRESH)
    command = ["run", "--quiet", "--manifest-path", str(ROOT / "tools/mutants/Cargo.toml"), "--"]
    done = cargo(*command, str(LIST), str(FRESH), *map(str, sorted(left_out)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    with (FRESH / "src/lib.rs").open("a") as library:
        library.write(SWITCH.replace("COUNT", str(count)))
    copy(names, FRESH, TREE)
    return {int(number) for number in done.stdout.split()}


MARK = re.compile(rb"/\*(?:([\[{])([\d,]+)|([\d,]+)[\]}])\*/")


def at_fault(path, start, end):
    """The changes whose branch, or else whose place, is the innermost around a part of a file."""
    around, best = [], None
    for mark in MARK.finditer(path.read_bytes()):
        if mark[1]:
            around.append((mark.start(), mark[1], mark[2]))
            continue
        begin, kind, numbers = around.pop()
        if begin <= start and end <= mark.end():
            found = (kind == b"{", mark.end() - begin, [int(number) for number in numbers.split(b",")])
            best = min(best, found) if best else found
    return best


def find_unviable(count, left_out):
    """Leaves out what the compiler refuses, besides what is known, until it refuses nothing."""
    while True:
        unwoven = weave(left_out, count)
        done = cargo("check", "--lib", "--message-format=json", cwd=TREE, capture_output=True, text=True)
        refused = set()
        for line in done.stdout.splitlines():
            message = json.loads(line).get("message")
            if not isinstance(message, dict) or message.get("level") != "error":
                continue
            places = [
                at_fault(TREE / span["file_name"], span["byte_start"], span["byte_end"])
                for span in message["spans"]
                if span["file_name"].startswith("src/")
            ]
            places = [place for place in places if place]
            if places:
                refused.update(min(places)[2])
        if done.returncode == 0:
            save(UNVIABLE, {"unviable": sorted(left_out), "unwoven": sorted(unwoven)})
            return
        if not refused:
            sys.exit(done.stderr)
        left_out |= refused
        print(f"{len(left_out)} do not compile …", flush=True)


def build():
    arguments = ["test", "--no-run", "--lib", "--test", "it", "--message-format=json", *CARGO_CONFIG]
    done = cargo(*arguments, cwd=TREE, stdout=subprocess.PIPE, stderr=None, text=True)
    if done.returncode:
        sys.exit("the woven sources do not build")
    artifacts = (json.loads(line) for line in done.stdout.splitlines())
    save(
        BINARIES,
        [
            artifact["executable"]
            for artifact in artifacts
            if artifact.get("reason") == "compiler-artifact" and artifact["profile"]["test"] and artifact["executable"]
        ],
    )


# Running


def run(binary, tests, seconds, **env):
    """Runs some tests; returns the name of the first that fails, "timeout", or none."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))

    process = subprocess.Popen(
        [binary, "--exact", "--test-threads=1", *tests],
        cwd=TREE,
        env={**os.environ, **TEST_ENV, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        preexec_fn=limit,
        process_group=0,
    )

    def stop():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    # A test that waits for something uses no processor.
    timer = threading.Timer(60 + 30 * seconds, stop)
    timer.start()
    failed, ended = None, False
    for line in process.stdout:
        if line.startswith("test result"):
            ended = True
        elif line.startswith("test ") and line.rstrip().endswith("FAILED"):
            failed = line.split()[1]
            stop()
            break
    process.stdout.close()
    process.wait()
    timer.cancel()
    return failed or (None if ended and process.returncode == 0 else "timeout")


def in_parallel(work, tasks):
    """Works on all tasks, as many at a time as there are processors."""
    waiting = queue.Queue()
    for task in tasks:
        waiting.put(task)

    def worker():
        while True:
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return
            work(task)

    threads = [threading.Thread(target=worker) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def names(binary):
    listed = subprocess.run([binary, "--list", "--format=terse"], cwd=TREE, check=True, capture_output=True, text=True)
    found = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
    return [name for name in found if not name.startswith("e2e::")]


def find_cover():
    """Which changes each test reaches, and how long it takes."""
    cover, failed = {}, []

    def one(test):
        binary, name = test
        seen = WORK / f"seen-{threading.get_ident()}"
        seen.unlink(missing_ok=True)
        began = time.monotonic()
        if run(binary, [name], 600, MUTANTS_SEEN=str(seen)):
            failed.append(name)
        reached = sorted({int(number) for number in seen.read_text().split()}) if seen.exists() else []
        cover[f"{binary}|{name}"] = {"seconds": time.monotonic() - began, "reached": reached}
        seen.unlink(missing_ok=True)

    in_parallel(one, [(binary, name) for binary in load(BINARIES) for name in names(binary)])
    if failed:
        sys.exit(f"these tests fail without any change: {', '.join(failed)}")
    save(COVER, cover)


def groups(tests):
    """Tests in groups that take longer and longer: most changes are caught by one of the first."""
    most, group, seconds = 1.0, [], 0.0
    for test, takes in tests:
        group.append(test)
        seconds += takes
        if seconds >= most:
            yield group, seconds
            most, group, seconds = min(3 * most, 40), [], 0.0
    if group:
        yield group, seconds


def try_all(numbers, mutants):
    cover = load(COVER)
    long = TOO_LONG * sum(known["seconds"] for known in cover.values())
    quick, slow = collections.defaultdict(list), collections.defaultdict(list)
    for test, known in cover.items():
        for number in known["reached"]:
            (quick if known["seconds"] <= long else slow)[number].append(test)
    outcomes, explained = load(OUTCOMES, {}), explanations()
    # Tests that caught changes before, in the same file above all, are tried first.
    catchers = collections.Counter()
    lock = threading.Lock()

    def one(number):
        mutant = mutants[number]

        def rank(test):
            caught = catchers[mutant["file"], test.split("|")[1]]
            return -caught / (cover[test]["seconds"] + 0.1), cover[test]["seconds"]

        tests = sorted(quick[number] or slow[number], key=rank)
        outcome = {"outcome": "missed", "tests": len(tests)}
        for group, seconds in groups([(test, cover[test]["seconds"]) for test in tests]):
            by_binary = collections.defaultdict(list)
            for test in group:
                binary, name = test.split("|")
                by_binary[binary].append(name)
            for binary, chosen in by_binary.items():
                found = run(binary, chosen, int(PATIENCE * seconds + MORE_SECONDS), MUTANT=str(number))
                if found == "timeout":
                    outcome = {"outcome": "timeout"}
                elif found:
                    outcome = {"outcome": "caught", "by": found}
                if found:
                    break
            else:
                continue
            break
        with lock:
            outcomes[mutant["key"]] = outcome
            if "by" in outcome:
                catchers[mutant["file"], outcome["by"]] += 1
            save(OUTCOMES, outcomes)
            if outcome["outcome"] == "missed" and place(mutant) not in explained:
                print(f"missed: {mutant['name']}", flush=True)

    in_parallel(one, [number for number in numbers if mutants[number]["key"] not in outcomes])


# Telling


def tally(mutants):
    """By file: how many changes there are, and what became of them."""
    known, outcomes, explained = load(UNVIABLE), load(OUTCOMES, {}), explanations()
    files = collections.defaultdict(collections.Counter)
    for number, mutant in enumerate(mutants):
        count = files[mutant["file"]]
        count["mutants"] += 1
        if number in known["unviable"]:
            count["unviable"] += 1
        elif number in known["unwoven"]:
            count["not_woven"] += 1
        else:
            outcome = outcomes.get(mutant["key"], {"outcome": "not_tried"})["outcome"]
            count["explained" if outcome == "missed" and place(mutant) in explained else outcome] += 1
    return dict(sorted(files.items()))


def stale(mutants):
    """Explanations that explain nothing any more, and why."""
    outcomes = load(OUTCOMES, {})
    for explained in explanations():
        found = [outcomes.get(mutant["key"], {}).get("outcome") for mutant in mutants if place(mutant) == explained]
        if not found:
            yield f"{': '.join(explained)}: there is no such change"
        elif not {"missed", None} & {*found}:
            yield f"{': '.join(explained)}: it is caught"


COLUMNS = ["mutants", "caught", "timeout", "missed", "explained", "unviable", "not_woven", "not_tried"]


def score(count):
    """The part that was noticed, of what could be: what is explained counts neither way."""
    found = count["caught"] + count["timeout"]
    tried = found + count["missed"]
    return 100 * found / tried if tried else None


def print_table(files):
    print(f"\n{'file':<28}" + "".join(f"{column:>10}" for column in COLUMNS) + "     score")
    for file, count in files.items():
        if count["mutants"] == count["not_tried"] + count["unviable"] + count["not_woven"]:
            continue
        noticed = score(count)
        shown = "-" if noticed is None else f"{noticed:.1f} %"
        print(f"{file:<28}" + "".join(f"{count[column]:>10}" for column in COLUMNS) + f"{shown:>10}")


def record(files, total):
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [
        "# What became of the changes that `make mutants` made to the pure core; written by tools/mutants.py.",
        "# A file of which changes were not tried is a sample. What tests/mutants-explained.toml explains counts neither way.",
        f'date = "{datetime.date.today()}"',
        f'commit = "{commit.stdout.strip()}"',
        f"score = {score(total):.1f}",
        *(f"{column} = {total[column]}" for column in COLUMNS),
    ]
    for file, count in files.items():
        lines += ["", f'[files."{file}"]', *(f"{column} = {count[column]}" for column in COLUMNS if count[column])]
    RECORD.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cargo-mutants", required=True, help="the program that lists the changes")
    parser.add_argument("--file", action="append", default=[], help="only changes of these files (a pattern)")
    parser.add_argument("--shard", default="1/1", help="the K-th of N equal parts of the changes, drawn by chance")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--go-on", action="store_true", help="go on with the last run")
    how.add_argument("--again", action="store_true", help="build anew, keep what was caught, and try the others again")
    parser.add_argument("--record", action="store_true", help="write tests/mutants.toml in any case")
    chosen = parser.parse_args()
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    if not chosen.go_on or not BINARIES.exists():
        BINARIES.unlink(missing_ok=True)
        COVER.unlink(missing_ok=True)
        old = load(OUTCOMES, {}) if chosen.again or chosen.go_on else {}
        save(OUTCOMES, {key: outcome for key, outcome in old.items() if outcome["outcome"] != "missed"})
        listed, known = load(LIST), load(UNVIABLE)
        list_mutants(chosen.cargo_mutants)
        mutants = load(LIST)
        is_known = known and mutants == listed
        find_unviable(len(mutants), set(known["unviable"]) if is_known else set())
        build()
    if not COVER.exists():
        find_cover()
    mutants, known = load(LIST), load(UNVIABLE)
    left_out = {*known["unviable"], *known["unwoven"]}
    order = list(range(len(mutants)))
    random.Random(1).shuffle(order)
    part, parts = (int(number) for number in chosen.shard.split("/"))
    wanted = [
        number
        for number in order[part - 1 :: parts]
        if number not in left_out
        and (not chosen.file or any(fnmatch.fnmatch(mutants[number]["file"], glob) for glob in chosen.file))
    ]
    try_all(wanted, mutants)
    files = tally(mutants)
    total = sum(files.values(), collections.Counter())
    print_table({**files, "all": total})
    for explained in stale(mutants):
        print(f"stale: {explained}")
    if chosen.record or not total["not_tried"]:
        record(files, total)
    tested = total["mutants"] - total["not_tried"]
    took = f"{(time.monotonic() - began) / 60:.0f}m"
    print(
        f"{tested} mutants tested in {took}: {total['missed']} missed, {total['explained']} explained, {total['caught']} caught, "
        f"{total['unviable']} unviable, {total['timeout']} timeouts"
    )
    return 1 if total["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
