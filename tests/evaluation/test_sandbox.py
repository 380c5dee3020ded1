"""The sandbox holds: hostile programs, really run, reach nothing, and are ended with all that they started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vernacular.evaluation.sandbox.limits import Ending, Limits
from vernacular.evaluation.sandbox.sandbox import Program, Sandbox
from vernacular.foundation.errors import MachineError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

PYTHON = str(Path(sys.executable).resolve())
MiB = 1 << 20
SMALL = Limits(wall_seconds=20, cpu_seconds=5, memory_bytes=200 * MiB, processes=16, scratch_bytes=8 * MiB)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        made.check()
        yield made


def hostile(sandbox: Sandbox, code: str, limits: Limits = SMALL, stdin: bytes = b"") -> Ending:
    return sandbox.run(Program((PYTHON, "-I", "-S", "-u", "-c", code)), limits, stdin)


def processes_of(marker: str) -> list[str]:
    """Processes of the whole machine whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "cmdline").read_text(errors="replace"):
                found.append(entry.name)
        except OSError:
            continue
    return [number for number in found if int(number) != os.getpid()]


def test_a_good_program_runs_and_its_use_is_told(sandbox) -> None:
    code = "x = bytearray(b'1' * 50_000_000); print(input(), 'नमस्ते'); raise SystemExit(3)"
    ending = hostile(sandbox, code, stdin=b"hello")
    assert (ending.exit_code, ending.limit, ending.output) == (3, None, "hello नमस्ते\n")
    assert 0 < ending.seconds < SMALL.wall_seconds


def test_a_server_of_this_machine_cannot_be_reached(sandbox) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]

        def accept() -> None:
            try:
                server.accept()[0].close()
                reached.set()
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        code = f"""
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
for family in (2, 10, 16, 17):
    place = libc.socket(family, 1, 0)
    print("socket", family, place, ctypes.get_errno())
    address = struct.pack("<H", 2) + struct.pack(">H", {port}) + bytes([127, 0, 0, 1]) + bytes(8)
    print("connect", libc.connect(place if place >= 0 else 0, address, 16))
print(os.path.exists("/sys/class/net"))
"""
        ending = hostile(sandbox, code)
        with socket.create_connection(("127.0.0.1", port)):  # The server does listen: we reach it.
            thread.join(10)
        assert reached.is_set()
    assert ending.output.count("-1 13") == 4 and ending.output.count("connect -1") == 4
    assert ending.output.endswith("False\n")


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("while True: pass", "CPU time"),
        ("import time\nwhile True: time.sleep(1)", "wall time"),
        ("import os\nwhile True: os.write(1, b'x' * 65536)", "output"),
        ("import os\nwhile True: os.write(3, b'x' * 65536)", "output"),
        (
            "import mmap, time\nm = mmap.mmap(-1, 1 << 30)\nfor at in range(0, 1 << 30, 4096): m[at] = 1",
            "memory",
        ),
        (
            # Fewer than may be, so that it is their memory that ends them however slowly each begins.
            "import os, time\nfor _ in range(8):\n  if not os.fork(): break\n"
            "x = bytearray(b'1' * 60_000_000)\ntime.sleep(50)",
            "memory",
        ),
    ],
    ids=["loop", "sleep", "output", "verdict", "shared memory", "memory of many"],
)
def test_limits_end_a_program(sandbox, code: str, limit: str) -> None:
    bounds = SMALL._replace(cpu_seconds=0.5) if limit == "CPU time" else SMALL
    # On a busy machine the one limit that is tried is not to come after time.
    bounds = bounds._replace(cpu_seconds=60, wall_seconds=60) if limit == "memory" else bounds
    bounds = bounds._replace(wall_seconds=0.7) if limit == "wall time" else bounds
    ending = hostile(sandbox, code, bounds)
    assert ending.limit == limit
    assert ending.exit_code is None or limit == "output"
    assert ending.verdict == b"" and len(ending.output) <= 4096


def test_ten_gigabytes_are_not_given(sandbox) -> None:
    ending = hostile(sandbox, "try:\n    x = bytearray(10 << 30)\nexcept MemoryError:\n    print('none')")
    assert (ending.output, ending.limit) == ("none\n", None)


def test_memory_that_no_process_owns_is_not_given(sandbox) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for made in (lambda: libc.memfd_create(b"x", 0), lambda: libc.shmget(0, 1 << 30, 896), lambda: libc.msgget(0, 896)):
    print(made(), ctypes.get_errno())
"""
    assert hostile(sandbox, code).output == "-1 1\n" * 3


def test_a_fork_bomb_stays_small_and_is_ended(sandbox) -> None:
    marker = f"bomb-{os.getpid()}"
    code = f"""
import os, sys  # {marker}
made = 0
try:
    while True:
        if os.fork() == 0:
            while True:
                try: os.fork()
                except OSError: pass
        made += 1
except OSError as error:
    print(made, error.errno, flush=True)
while True: pass
"""
    ending = hostile(sandbox, code, SMALL._replace(wall_seconds=2, cpu_seconds=1))
    assert ending.limit in ("CPU time", "wall time")
    assert int(ending.output.split()[0]) < SMALL.processes
    assert processes_of(marker) == []


def test_the_disk_cannot_be_filled(sandbox) -> None:
    code = """
import os
written = 0
try:
    for number in range(100):
        with open(f"/scratch/{number}", "wb", buffering=0) as file:
            while True: written += file.write(b"x" * 65536)
            raise SystemExit
except OSError as error:
    print(error.errno)
try:
    while True:
        written += 1
        open(f"/scratch/a{written}", "w").close()
except OSError as error:
    print(error.errno, written < 9_000_000)
"""
    assert hostile(sandbox, code).output.split() in (["28", "28", "True"], ["27", "28", "True"])


@pytest.mark.parametrize(
    "path", ["/etc/x", "/usr/x", "/x", "/program/x", "/dev/x", "/proc/1/comm", str(Path(PYTHON).parent / "x")]
)
def test_nothing_is_written_outside_of_the_scratch_room(sandbox, path: str) -> None:
    code = f"""
import os
try: open({path!r}, "w").write("x"); print("written")
except OSError as error: print("refused")
try: os.symlink({path!r}, "/scratch/link"); open("/scratch/link", "w").write("x"); print("written")
except OSError: print("refused")
try: os.link("/etc/passwd", "/scratch/hard"); print("linked")
except OSError: print("refused")
"""
    assert hostile(sandbox, code).output == "refused\n" * 3
    assert not os.path.exists(path) or path == "/proc/1/comm"


def test_secrets_are_not_there(sandbox, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("JUDGE_KEY", "geheim")
    (tmp_path / "secret").write_text("geheim")
    code = f"""
import os
first = "/proc/1/"
for path in ("/etc/shadow", {str(tmp_path / "secret")!r}, "/home", "/var", "/run", "/sys", "/boot", "/proc/kcore",
             "/scratch/../../etc/shadow", first + "root" + "/etc/shadow", first + "environ", first + "mem"):
    try: (os.listdir if os.path.isdir(path) else open)(path); print("found", path)
    except OSError: pass
home = {os.path.expanduser("~")!r}
print(sum(len(files) for at, _, files in os.walk(home) if not at.startswith({str(Path(PYTHON).parent.parent)!r})))
print(sorted(os.environ))
print(sorted(int(place) for place in os.listdir("/proc/self/fd"))[:-1])
"""
    found, variables, places = hostile(sandbox, code).output.splitlines()
    assert found == "0" and places == "[0, 1, 2, 3]"
    assert variables == "['HOME', 'LANG', 'PATH']"


def test_neither_parents_nor_rights_can_be_had(sandbox) -> None:
    code = """
import ctypes, os, signal
print(os.getpid(), os.getppid(), os.getuid() != 0)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
    try: os.kill(1, number)
    except OSError: pass
os.kill(os.getpid(), 0)
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0x10000000), lambda: libc.mount(b"x", b"/", b"tmpfs", 0, None),
             lambda: libc.chroot(b"/"), lambda: libc.ptrace(16, 1, 0, 0), lambda: libc.setns(0, 0),
             lambda: libc.syscall(56, 0x10000011, 0, 0, 0, 0), lambda: libc.setuid(0), lambda: libc.setgroups(0, None)):
    print(call(), ctypes.get_errno())
try: os.kill(-1, 9)
except OSError: pass
print("still here", os.path.exists("/proc/1"))
"""
    if os.uname().machine != "x86_64":
        code = code.replace("libc.syscall(56,", "libc.syscall(220,")
    lines = hostile(sandbox, code).output.splitlines()
    assert lines[0] == "2 1 True"
    assert lines[1:9] == ["-1 1"] * 8
    assert lines[9] == "still here True"


def test_a_child_that_leaves_its_parent_does_not_stay(sandbox) -> None:
    marker = f"daemon-{os.getpid()}"
    code = f"""
import os, sys  # {marker}
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 9)
        while True: pass
    os._exit(0)
os.wait()
for _ in range(5):
    if os.fork() == 0: os._exit(0)  # zombies
print("left", flush=True)
"""
    ending = hostile(sandbox, code)
    assert (ending.exit_code, ending.output, ending.limit) == (0, "left\n", None)
    assert processes_of(marker) == []


def test_programs_end_with_the_process_that_started_them(tmp_path) -> None:
    marker = f"orphan-{os.getpid()}"
    code = f"""
import os, sys
from vernacular.evaluation.sandbox.limits import Limits
from vernacular.evaluation.sandbox.sandbox import Program, Sandbox
from pathlib import Path
with Sandbox() as sandbox:
    running = sandbox.start(Program((str(Path(sys.executable).resolve()), "-I", "-S", "-c",
        "import os, time; os.write(3, b'up')\\nwhile True: time.sleep(1)  # {marker}")), Limits(wall_seconds=60))
    os.read(running.places["verdict"], 2)
    print("up", flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-9, "up\n"), done.stderr
    for _ in range(100):  # The kernel ends them in its own time.
        if not processes_of(marker):
            return
        threading.Event().wait(0.05)
    raise AssertionError("the program outlives us")


def test_two_programs_see_nothing_of_each_other(sandbox) -> None:
    code = (
        "import os; open('/scratch/x', 'w').write('mine'); print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
    )
    assert hostile(sandbox, code).output == hostile(sandbox, code).output == "2\n"
    assert hostile(sandbox, "import os; print(os.listdir('/scratch'), os.listdir('/tmp'))").output == "[] []\n"


def test_files_are_given_read_only(sandbox) -> None:
    code = "import os; print(open('/program/x').read()); os.chmod('/program/x', 0o777); open('/program/x', 'w')"
    ending = sandbox.run(Program((PYTHON, "-I", "-S", "-c", code), files={"/program/x": "żółw".encode()}), SMALL)
    assert ending.exit_code == 1 and "żółw" in ending.output
    assert "Read-only file system" in ending.output or "not permitted" in ending.output


def test_where_there_can_be_no_sandbox_it_is_refused() -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv, to take from a process the right to make namespaces")
    code = (
        "from vernacular.evaluation.sandbox.sandbox import Sandbox\n"
        "from vernacular.foundation.errors import MachineError\n"
        "with Sandbox() as sandbox:\n"
        "    try: sandbox.check()\n"
        "    except MachineError as error: print(error)\n"
    )
    command = [setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "allows no sandbox for generated code: making namespaces: Operation not permitted" in done.stdout
    assert "user namespaces" in done.stdout and "--cap-add SYS_ADMIN" in done.stdout


def test_a_user_without_rights_is_as_safe() -> None:
    """Root makes namespaces by its own right; others need a user namespace. Both ways hold."""
    setpriv, python = shutil.which("setpriv"), Path("/usr/bin/python3")
    package, site = Path(__file__).parents[2] / "src", Path(sys.executable).parent.parent / "lib"
    run = [str(setpriv), "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "PYTHONDONTWRITEBYTECODE=1"]
    run += [f"PYTHONPATH={package}:{site}/python3.{sys.version_info.minor}/site-packages", str(python), "-c"]
    probe = [*run, "import sys, yaml, vernacular; assert sys.version_info[:2] >= (3, 11)"]
    if setpriv is None or os.geteuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, setpriv, and files that an ordinary user may read")
    code = """
from vernacular.evaluation.sandbox.limits import Limits
from vernacular.evaluation.sandbox.sandbox import Program, Sandbox
hostile = '''
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0x10000000), lambda: libc.mount(b"x", b"/", b"tmpfs", 0, None),
             lambda: libc.kill(1, 9), lambda: libc.ptrace(16, 1, 0, 0), lambda: libc.socket(2, 1, 0)): call()
for path in ("/etc/x", "/usr/x", "/program/x", "/x"):
    try: open(path, "w"); print("written")
    except OSError: pass
for path in ("/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/proc/1/fd/0", "/var"):
    try: (os.listdir if os.path.isdir(path) else open)(path); print("found", path)
    except OSError: pass
made = 0
try:
    while made < 100:
        if os.fork() == 0:
            while True: pass
        made += 1
except OSError: pass
print(os.getuid(), made < 16, open("/proc/self/status").read().split("CapEff:")[1].split()[0])
'''
with Sandbox() as sandbox:
    sandbox.check()
    ending = sandbox.run(Program(("/usr/bin/python3", "-I", "-S", "-c", hostile)), Limits(processes=16))
print(ending.output, ending.limit, ending.exit_code)
"""
    done = subprocess.run([*run, code], capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.stdout == "1000 True 0000000000000000\n None 0\n", done.stderr


def test_another_system_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MachineError, match="namespaces of Linux, and this is darwin"):
        Sandbox()
