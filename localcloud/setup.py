"""Makes .localcloud/python, the virtual environment of pins.txt: both emulators and the SAM CLI.

Run by any python3: it looks for a Python of 3.10 or newer with the venv module. What is there already is kept, and made
anew when the pins change. Two setups at a time take turns.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PINS = os.path.join(ROOT, "localcloud", "pins.txt")
PLACE = os.path.join(ROOT, ".localcloud", "python")
PROBE = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"


def main():
    os.makedirs(os.path.dirname(PLACE), exist_ok=True)
    with open(os.path.join(ROOT, ".localcloud", "setup.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(PINS, "rb") as pins:
            wanted = hashlib.sha256(pins.read()).hexdigest()
        if not current(wanted):
            make(wanted)


def current(wanted):
    """Whether the environment was made to its end from today's pins, and its interpreter still runs (the system's Python may have been replaced)."""
    try:
        with open(os.path.join(PLACE, "stamp")) as stamp:
            return stamp.read() == wanted and runs(interpreter(), "")
    except OSError:
        return False


def make(wanted):
    began = time.monotonic()
    print("Installing both emulators and the SAM CLI in .localcloud/python (half a minute, once) ...", flush=True)
    python = find()
    shutil.rmtree(PLACE, ignore_errors=True)
    run([python, "-m", "venv", PLACE], "making the Python environment failed: Python's venv module is needed; on Debian and Ubuntu, install the package python3-venv")
    # All that is needed is pinned, and some that is asked for is left out: pins.in says what.
    run(
        [interpreter(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-compile", "--no-deps", "--require-hashes", "--requirement", PINS],
        "installing localcloud/pins.txt failed: pip must reach a Python package index once (PyPI, or a mirror named by PIP_INDEX_URL); "
        "behind a proxy, set HTTPS_PROXY; then run the same command again",
    )
    with open(os.path.join(PLACE, "stamp"), "w") as stamp:
        stamp.write(wanted)
    print(f".localcloud/python is ready ({time.monotonic() - began:.0f} s)", flush=True)


def find():
    """The first interpreter on the PATH that is 3.10 or newer and has the venv module with pip."""
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"):
        path = shutil.which(name)
        if path and runs(path, PROBE):
            return path
    sys.exit(
        f"the local cloud needs Python 3.10 or newer with the venv module, and none is on the PATH (python3 is {sys.version.split()[0]}): "
        "install it with `apt install python3 python3-venv`, `dnf install python3`, `brew install python`, or from python.org"
    )


def interpreter():
    return os.path.join(PLACE, "bin", "python")


def runs(python, code):
    return subprocess.run([python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def run(command, advice):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode:
        sys.exit("\n".join(done.stdout.splitlines()[-20:] + [advice]))


if __name__ == "__main__":
    main()
