"""What the trials on real programs have in common."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE_S = 60
HOST = "127.0.0.1"


class Skip(Exception):
    """A program is not installed."""


def find(name, *more):
    """The path of a program, which may be where only root looks."""
    for folder in [*more, *os.environ["PATH"].split(":"), "/usr/sbin", "/usr/local/sbin"]:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise Skip(f"{name} is not installed")


def python_with(module):
    for python in ["python3", "/usr/bin/python3"]:
        if subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise Skip(f"no Python here has {module}")


def free_port():
    with socket.socket() as one:
        one.bind((HOST, 0))
        return one.getsockname()[1]


def eventually(what, look, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            found = look()
        except (OSError, subprocess.CalledProcessError):
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"never happened: {what}")


def output(*command, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout


def accepts(port):
    socket.create_connection((HOST, port), 5).close()
    return True


def expect(what, condition):
    if not condition:
        raise AssertionError(what)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Trial:
    """What is tried, with a folder and processes of its own."""

    def __init__(self, program, folder, cleanup):
        self.program = program
        self.folder = folder
        self.cleanup = cleanup

    def run(self):
        """Tries it, and says what came of it."""
        raise NotImplementedError

    def spawn(self, name, *command, **more):
        """Starts a program, which is ended with the trial; its log is called NAME.log."""
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **more
            )
        self.cleanup.callback(end, process)
        return process

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def call(self, *command, **more):
        more.setdefault("timeout", 300)
        return output(*map(str, command), cwd=self.folder, **more)

    def start_weir(self, text, *arguments):
        """Under a supervisor, which alone can read the keys where root starts it."""
        (self.folder / "weir.yaml").write_text("supervisor: on\nworkers: 2\n" + text)
        weir = self.spawn("weir", self.program, "-c", "weir.yaml", *arguments)
        eventually("weir is ready", lambda: "weir ready" in self.log("weir") or weir.poll() is not None)
        if weir.poll() is not None:
            raise AssertionError(f"weir ended with {weir.returncode}")
        return weir

    def no_complaint(self, weir):
        """weir ends as it should, and nothing has gone wrong in it."""
        weir.terminate()
        if weir.wait(60) != 0 or "panicked" in self.log("weir") or " ERROR " in self.log("weir"):
            raise AssertionError("weir did not end well")


def try_on(program, kind):
    # Readable for the users that the servers run as.
    folder = Path(tempfile.mkdtemp(prefix="weir-real-"))
    folder.chmod(0o755)
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as cleanup:
            said = kind(program, folder, cleanup).run()
        print(f"ok       {kind.__name__}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        return "ok"
    except Skip as skip:
        print(f"skipped  {kind.__name__}: {skip}", flush=True)
        return "skipped"
    except (AssertionError, LookupError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"FAILED   {kind.__name__}: {error} {getattr(error, 'stderr', '') or ''}", flush=True)
        for log in sorted(folder.glob("*.log")):
            print(f"         {log.name} ends with:", *log.read_text(errors="replace").splitlines()[-10:], sep="\n           ")
        return "failed"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(usage, what, kinds):
    """Tries the weir that the command line names on all kinds, or on those that it names, too."""
    if len(sys.argv) < 2:
        sys.exit(usage)
    program = os.path.abspath(sys.argv[1])
    names = [kind.__name__ for kind in kinds]
    wanted = sys.argv[2:] or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"no {', '.join(unknown)} here, but {', '.join(names)}")
    sum_up(what, [try_on(program, kind) for kind in kinds if kind.__name__ in wanted])


def sum_up(what, results):
    """Says how many trials ended how; none may have failed, or be skipped unless that is allowed."""
    count = results.count
    print(f"{what}: {count('ok')} ok, {count('failed')} failed, {count('skipped')} skipped")
    if count("failed") or not count("ok"):
        sys.exit(1)
    if count("skipped") and os.environ.get("ALLOW_SKIPS", "0") == "0":
        sys.exit("skips count as failures; ALLOW_SKIPS=1 allows them")
