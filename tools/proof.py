"""Runs everything that proves what the watchdog promises, and prints one table.

    tools/proof.py [PART…]

Each part is a target of the Makefile, or some of the tests. What it prints is kept in target/proof/PART.log. A part
passes only if its command ends well and its output says that something was tried; a target that does not exist, a
tool that is not there, and tests that were left out have not passed. Exits with 1 unless all parts have passed.

The length of the parts comes from the environment, as `make proof` sets it:

    SEEDS         worlds of the simulation
    FAULTS        "all": every call of a pass goes wrong, and not one of each kind
    FUZZ_SECONDS  for each reader of hostile input
    MUTANTS       further arguments to `make mutants`, such as MUTANTS_SHARD=1/8
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "target" / "proof"


def setting(name, default):
    return os.environ.get(name) or default


def worlds(output):
    ran = re.search(r"^(\d+) worlds \(\d+ of scheduled tasks\), (\d+) scheduler-days", output, re.MULTILINE)
    failed = re.search(r"^(\d+) of \d+ worlds failed", output, re.MULTILINE)
    return ran and f"{int(ran[1]):,} worlds, {int(ran[2]):,} scheduler-days, {failed[1] if failed else 0} violations"


def tests(output):
    """The tests of all binaries that ran any."""
    results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output, re.MULTILINE)
    passed, failed, ignored = (sum(int(result[place]) for result in results) for place in range(3))
    left_out = len(re.findall(r": left out, ", output))
    if ignored or left_out:
        return None
    return f"{passed} tests, {failed} failed" if passed + failed else None


def faults(output):
    """The cells of the table: a call, what went wrong with it, and in which pass it came right."""
    cells = re.findall(r"(?:\d+|-) / (?:\d+|-)", output)
    lost = sum("-" in cell.split(" / ")[0] for cell in cells)
    return f"{len(cells):,} faults, {lost} messages lost" if cells and tests(output) else None


def permissions(output):
    rows = re.findall(r"^(\w+): \w+:\w+", output, re.MULTILINE)
    unseen = output.count("not checked here: ")
    return f"{len(rows)} statements, {unseen} not checked" if rows and tests(output) else None


def executions(output):
    rows = re.findall(r"([\d,]+) executions .*?(\d+) findings", output)
    count = sum(int(row[0].replace(",", "")) for row in rows)
    return f"{len(rows)} readers, {count:,} executions, {sum(int(row[1]) for row in rows)} findings" if count else None


def crates(output):
    kinds = re.findall(r"\b(advisories|bans|licenses|sources) ok", output)
    unreached = " (advisories not checked)" if "advisories not checked" in output else ""
    return ", ".join(dict.fromkeys(kinds)) + " ok" + unreached if kinds else None


def mutants(output):
    """The line with which cargo-mutants ends."""
    counts = re.findall(r"(\d+) mutants tested in \S+(?: \S+)?: (.*)$", output, re.MULTILINE)
    return f"{counts[-1][0]} mutants: {counts[-1][1]}" if counts else None


def built(_output):
    return "the function and its package"


def e2e(*names, show=False):
    arguments = ["e2e", "FILTER=" + " ".join(names)]
    return arguments + ["FLAGS=--nocapture"] if show else arguments


# Name, what `make` is to do, and the figure in the output; none if there is none, which is a failure.
PARTS = {
    "build": (["tools", "package"], built),
    "simulation": (["simulate", f"SEEDS={setting('SEEDS', '1000')}"], worlds),
    "wire-faults": (["faults", f"FAULTS={setting('FAULTS', 'all')}"], faults),
    "concurrency": (
        e2e(
            "of_several_invocations_one_acts",
            "the_world_of_aws_works",
            "who_loses_the_claim",
            "what_was_done_is_written_into_the_state_of_a_pass_that_came_between",
            "however_often_the_watchdog_is_woken",
        ),
        tests,
    ),
    "permissions": (e2e("e2e::permissions", show=True), permissions),
    "secrets": (e2e("secrets::", "redaction::"), tests),
    "upgrades": (e2e("upgrades::", "history::", "an_unreadable_state_is_never_overwritten"), tests),
    "fuzz": (["fuzz", f"FUZZ_SECONDS={setting('FUZZ_SECONDS', '60')}"], executions),
    "supply-chain": (["deny"], crates),
    "mutants": (["mutants", *setting("MUTANTS", "").split()], mutants),
}


# Parts that try the function as it was built.
NEED_BUILD = {"wire-faults", "concurrency", "permissions", "upgrades"}


def run(name):
    """Runs a part; returns what became of it, a figure, and the seconds that it took."""
    arguments, figure_in = PARTS[name]
    log = LOGS / f"{name}.log"
    began = time.monotonic()
    with log.open("wb") as out:
        command = ["make", "--no-print-directory", *arguments]
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    took = time.monotonic() - began
    output = log.read_text(errors="replace")
    figure = figure_in(output)
    if "No rule to make target" in output:
        return "MISSING", "no such target", took
    if code != 0:
        return "FAILED", figure or f"exit code {code}", took
    if not figure:
        return "FAILED", "nothing was tried", took
    return "passed", figure, took


def main():
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"unknown part {unknown[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    rows = {}
    try:
        for name in PARTS:
            if name in wanted:
                if name in NEED_BUILD and rows.get("build", ("passed",))[0] != "passed":
                    rows[name] = "FAILED", "not tried: the build failed", 0
                    continue
                print(f"{name} … {LOGS.relative_to(ROOT)}/{name}.log", flush=True)
                rows[name] = run(name)
    except KeyboardInterrupt:
        print("interrupted")
    print(f"\n{'part':<14} {'result':<9} {'time':>8}  figures")
    for name in PARTS:
        result, figure, took = rows.get(name, ("left out", "", None))
        time_taken = "" if took is None else f"{took:,.0f} s"
        print(f"{name:<14} {result:<9} {time_taken:>8}  {figure}".rstrip())
    is_whole = all(rows.get(name, ("",))[0] == "passed" for name in wanted)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
