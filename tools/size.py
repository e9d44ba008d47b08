"""Prints how large the function is, and what it takes to build it from nothing, as lines of the table of `make bench`.

    tools/size.py --bootstrap … --arch x86_64|arm64 [--build]

The zip is made as `sam deploy` makes it. --build also takes the time of a clean release build, in a folder of its own;
its crates are downloaded before.
"""

import argparse
import os
import shutil
import subprocess
import time
import zipfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def zipped(bootstrap):
    """The size of the deployable zip."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(bootstrap, "bootstrap")
    return len(buffer.getvalue())


def crates(*more):
    """How many crates are built for this machine; `more` narrows it down."""
    command = ["cargo", "tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", *more]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return len({line.removesuffix(" (*)") for line in listed.splitlines() if line}) - 1


def build(arch):
    """The seconds of a release build of the function in an empty folder."""
    target = ROOT / "target" / "clean"
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cargo", "fetch", "--quiet", "--locked"], cwd=ROOT, check=True)
    command = ["make", "lambda", f"ARCH={arch}"]
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    seconds = time.monotonic() - began
    shutil.rmtree(target)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--build", action="store_true")
    options = parser.parse_args()
    rows = [
        ("deployable zip", f"{zipped(options.bootstrap) / 1e6:.1f} MB", "5 MB at most"),
        ("bootstrap", f"{Path(options.bootstrap).stat().st_size / 1e6:.1f} MB", ""),
        ("crates, the command line's included", str(crates()), ""),
    ]
    if options.build:
        rows.append((f"clean release build, {os.cpu_count()} cores", f"{build(options.arch):.0f} s", ""))
    for name, figure, target in rows:
        print(f"= {name:<44} {figure:>10} {'':>10} {'':>7}  {target}".rstrip())


if __name__ == "__main__":
    main()
