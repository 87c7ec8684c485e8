"""Hostile files and overrides against `python -m platform.sweep`: each is refused at once, and writes nothing.

python -m benchmarks.hostile [--show]

Each case runs in a process of its own, forked from one that has imported the command, in a folder of its own. It holds
where the exit code is 2, standard error has one line for each mistake (at most 21) and no traceback, the answer came
within 5 s of its own processor time, and neither its folder nor the one above it changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT = 5.0  # seconds of an answer
PATIENCE = 60.0  # seconds until a process that gives none is ended: the machine may be busy
LINES = 21  # of an answer: twenty mistakes and their count

ABLATION = {
    "name": "table",
    "base": "{protocol: digits, backbone: wrn10-1, epochs: 4}",
    "splits": "[0]",
    "seeds": "[0]",
    "columns": "{Acc.: test/accuracy}",
    "rows": "[{name: Plain, set: {method: plain}}, {name: CutMix, set: {method: cutmix}}]",
}
SEARCH = {
    "name": "search",
    "base": "{method: backmix, protocol: digits, backbone: wrn10-1, epochs: 4}",
    "search": "{mask_ratio: {float: [0, 1]}}",
    "trials": "3",
}


@dataclass(frozen=True)
class Case:
    """A file `x.yaml` with `content`, or what `make` puts in its place, and the options of the command."""

    kind: str
    name: str
    content: bytes = b""
    options: tuple[str, ...] = ()
    make: Callable[[Path], object] | None = None


def text(keys: dict[str, str], **changes: str) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in {**keys, **changes}.items()).encode()


def cases() -> Iterator[Case]:
    yield from yaml_cases()
    yield from type_cases()
    yield from setting_cases()
    yield from name_cases()
    yield from file_cases()
    yield from override_cases()
    yield from own_cases()


def yaml_cases() -> Iterator[Case]:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    texts = {
        "empty": "",
        "blank": "\n\n   \n",
        "a comment": "# nothing\n",
        "a bomb of aliases": bomb,
        "a list that holds itself": "a: &a [*a]\n",
        "a mapping that holds itself": "a: &a {b: *a}\n",
        "5,000 brackets": "name: " + "[" * 5_000,
        "5,000 braces": "name: " + "{a: " * 5_000,
        "5,000 dashes": "- " * 5_000 + "x\n",
        "60,000 values": "seeds: [" + "1, " * 60_000 + "1]\n",
        "60,000 values of a grid": f"grid: {{lr: {list(range(1, 60_001))}}}\n",
        "100,000 seeds": f"seeds: {list(range(100_000))}\n",
        "20,000 unknown keys": "".join(f"k{i}: 1\n" for i in range(20_000)),
        "a key of 100,000 characters": "k" * 100_000 + ": 1\n",
        "a line of 400,000 characters": "name: " + "x" * 400_000,
        "a Python object": "name: !!python/object/apply:os.system [touch owned]\n",
        "a Python module": "name: !!python/module:os\n",
        "a Python name": "name: !!python/name:os.system\n",
        "an own tag": "name: !include /etc/passwd\n",
        "binary": "name: !!binary aGVsbG8=\nx: 1\n",
        "a set": "name: !!set {a, b}\n",
        "a tab": "name: x\n\tbase: {}\n",
        "two documents": "name: x\n---\nname: y\n",
        "a key twice": "name: x\nname: y\n",
        "a merge key": "base: {<<: {lr: 1}}\n",
        "a list as key": "[a, b]: 1\n",
        "a number as key": "1: x\n",
        "a null as key": "~: x\n",
        "a truth as key": "on: x\n",
        "an alias of nothing": "name: *there\n",
        "a bell": "name: \x07\n",
        "a NUL": "name: a\0b\n",
        "no end": 'name: "x\n',
        "a wrong escape": 'name: "\\z"\n',
        "a date that is none": "name: 2024-13-41\n",
        "5,000 digits": f"seeds: [{'9' * 5_000}]\n",
        "octal": text(ABLATION, seeds="[010]").decode(),
        "sexagesimal": text(ABLATION, seeds="[1:30]").decode(),
        "a directive": "%YAML 9.9\n---\nname: x\n",
        "just words": "search me\n",
        "a list": "- name\n- base\n",
    }
    for name, content in texts.items():
        yield Case("YAML", name, content.encode())
    yield Case("YAML", "UTF-16", text(ABLATION).decode().encode("utf-16"))
    yield Case("YAML", "latin-1", "name: café\n".encode("latin-1"))
    yield Case("YAML", "random bytes", bytes(range(256)) * 40)
    yield Case("YAML", "a pickle", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")


def type_cases() -> Iterator[Case]:
    values = ("3.5", "[[[]]]", "{a: {b: c}}", "2024-01-01", "-1")
    for keys in (ABLATION, SEARCH):
        for key in (k for k in keys if k != "name"):
            for value in values:
                yield Case("types", f"{keys['name']}: {key}: {value}", text(keys, **{key: value}))
    for key in ("profiles", "resources", "figures", "optuna", "scheduler", "confirm", "validation", "objective"):
        for value in values[:3]:
            yield Case("types", f"search: {key}: {value}", text(SEARCH, **{key: value}))


def setting_cases() -> Iterator[Case]:
    wrong = (
        "epochs: 0",
        "epochs: 1.5",
        "epochs: true",
        "epochs: '4'",
        f"epochs: {10**30}00.5",
        "lr: .nan",
        "lr: .inf",
        "lr: -0.1",
        f"lr: 1{'0' * 400}",
        "batch_size: 1",
        "backbone: wrn3-0",
        f"backbone: wrn{'9' * 30}-1",
        "backbone: ../../x",
        "protocol: ../../etc/passwd",
        "protocol: /dev/zero",
        "protocol: ''",
        "split_family: nobody",
        "evaluate: [nothing]",
        "score: exec",
        "image_size: 1000000",
        "milestones: {a: 1}",
        "momentum: 1",
        "holdout: 0.9",
        "augment: off",
        "precision: fp8",
        "teacher: 3",
        "method: ''",
        "method: [plain]",
        "recipe: nobody's",
    )
    for setting in wrong:
        base = ABLATION["base"].replace("{", f"{{{setting}, ", 1)
        for known in ("protocol: digits, ", "backbone: wrn10-1, ", "epochs: 4"):
            if setting.split(":")[0] == known.split(":")[0]:
                base = base.replace(known, "") if known.endswith(", ") else base.replace(f", {known}", "")
        yield Case("settings", setting[:40], text(ABLATION, base=base))


def name_cases() -> Iterator[Case]:
    bad = (
        "../up",
        "../../../x",
        "/tmp/x",
        "a//b",
        "a/",
        "a/../b",
        ".",
        "..",
        ".hidden",
        "~/x",
        "C:\\x",
        "a:b",
        "a?b#c",
        "x/.y",
    )
    for name in (*bad, "a" * 9_000, "é" * 100):
        yield Case("names", f"sweep {name[:20]}", text(ABLATION, name=f"'{name}'"))
        yield Case("names", f"--set name={name[:20]}", text(ABLATION), ("--set", f"name='{name}'"))
    for name in ("a\\0b", "a\\nb", "a\\e[2J", "\\u202Eabc", " a", "x" * 9_000, ""):
        yield Case("names", f"row {name[:20]}", text(ABLATION, rows=f'[{{name: "{name}", set: {{method: plain}}}}]'))
        yield Case("names", f"column {name[:20]}", text(ABLATION, columns=f'{{"{name}": test/accuracy}}'))


def file_cases() -> Iterator[Case]:
    def large(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(50_000_000)

    def words(path: Path) -> None:
        path.write_bytes(b"name: x\n" * 6_500_000)

    def closed(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    makers: dict[str, Callable[[Path], object]] = {
        "a FIFO": os.mkfifo,
        "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "/dev/random": lambda path: path.symlink_to("/dev/random"),
        "/proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
        "a loop of links": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a folder": lambda path: path.mkdir(),
        "50 MB of NUL": large,
        "52 MB of YAML": words,
        "a socket": closed,
        "no file": lambda path: None,
    }
    for name, make in makers.items():
        yield Case("files", name, make=make)


def override_cases() -> Iterator[Case]:
    wrong = (
        "",
        "=",
        "epochs",
        "=3",
        "epoch=3",
        "epochs=",
        "epochs=3=4",
        "epochs=[",
        "epochs=010",
        "epochs=1:30",
        "epochs=!!python/name:os.system",
        "epochs={a: 1}",
        "epochs.x=3",
        ".epochs=3",
        "base.=3",
        "base..epochs=3",
        "base=3",
        "rows=3",
        "rows=[]",
        "rows.0.set.lr=-1",
        "columns={}",
        "profiles.quick.base.epochs=2",
        "profiles=3",
        "seeds=[0, 0]",
        f"seeds={list(range(12_000))}",
        "name=null",
        "search.lr=3",
        "__class__=3",
        "base.__class__=3",
        "epochs=\x1b[2J",
        "lr=&a [*a]",
        "lr=1e999",
    )
    for change in wrong:
        yield Case("--set", change[:40], text(ABLATION), ("--set", change))


def own_cases() -> Iterator[Case]:
    protocols = {
        "an empty protocol": "",
        "a protocol that is a list": "[1]\n",
        "a protocol that is a bomb": "a: &a [*a]\n",
        "classes that are numbers": "train: a\ntest: b\nimage_size: 32\nknown: [007]\nunknown: [1]\n",
        "classes that are truths": "train: a\ntest: b\nimage_size: 32\nknown: [yes, no]\nunknown: [x]\n",
        "a class twice": "train: a\ntest: b\nimage_size: 32\nknown: [a, b]\nunknown: [a]\n",
        "an image of 10^9 px": "train: a\ntest: b\nimage_size: 1000000000\nknown: [a, b]\nunknown: [c]\n",
        "an unknown key": "trian: a\ntest: b\nimage_size: 32\nknown: [a, b]\nunknown: [c]\n",
    }
    own = text(ABLATION, base="{protocol: own.yaml, split_family: own, backbone: wrn10-1, epochs: 4}")
    for name, content in protocols.items():

        def write(path: Path, content: str = content) -> None:
            path.with_name("own.yaml").write_text(content)
            path.write_bytes(own)

        yield Case("own", name, make=write)

    def fifo(path: Path) -> None:
        os.mkfifo(path.with_name("own.yaml"))
        path.write_bytes(own)

    def zero(path: Path) -> None:
        path.with_name("own.yaml").symlink_to("/dev/zero")
        path.write_bytes(own)

    yield Case("own", "a protocol that is a FIFO", make=fifo)
    yield Case("own", "a protocol that is /dev/zero", make=zero)
    for method in ("os:system", "builtins:eval", "no.such:Thing", ":", "a:b:c", "../x:Y", "sys:exit", "os.path:join"):
        yield Case("own", f"method {method}", text(ABLATION, rows=f"[{{name: X, set: {{method: '{method}'}}}}]"))


@dataclass(frozen=True)
class Answer:
    code: int  # below 0 where it was ended, -9 after `PATIENCE`
    seconds: float  # of wall clock
    cpu: float  # seconds of the process
    said: str  # on standard error
    changed: tuple[str, ...]  # paths that came, went or have another size

    def fault(self) -> str:
        """What does not hold; empty where all does."""
        faults = [] if self.code == 2 else [f"exit code {self.code}"]
        faults += ["nothing said"] if not self.said.strip() else []
        faults += [f"{self.said.count(chr(10))} lines"] if self.said.count("\n") > LINES else []
        faults += ["a traceback"] if "Traceback" in self.said else []
        faults += ["what a terminal obeys"] if "\x1b" in self.said else []
        faults += [f"{self.cpu:.1f} s"] if self.cpu > LIMIT else []
        return ", ".join([*faults, *(f"changed {path}" for path in self.changed)])


def ask(case: Case, above: Path) -> Answer:
    """The command's answer to a case, in a new folder under `above`."""
    from platform import sweep

    folder = above / "project"
    folder.mkdir()
    path = folder / "x.yaml"
    path.write_bytes(case.content) if case.make is None else case.make(path)
    before = tree(above)
    said = above.parent / "said"
    started = time.monotonic()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.chdir(folder)
            sys.path.insert(0, "")
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # which a test has replaced
            code = sweep.main(["x.yaml", *case.options])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    while time.monotonic() - started < PATIENCE:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
    seconds = time.monotonic() - started
    after = tree(above)
    changed = tuple(sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p)))
    shutil.rmtree(folder)
    code = os.waitstatus_to_exitcode(status)
    return Answer(code, seconds, used.ru_utime + used.ru_stime, said.read_text(errors="replace"), changed)


def tree(folder: Path) -> dict[str, int]:
    """Every path under `folder`, with its size; compiled Python apart."""
    found = (p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.lstat().st_size for p in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print every answer")
    args = parser.parse_args()
    os.environ.pop("PYTHONSTARTUP", None)
    answers: dict[str, list[tuple[Case, Answer]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        above = Path(scratch) / "above"
        above.mkdir()
        for case in cases():
            answer = ask(case, above)
            answers.setdefault(case.kind, []).append((case, answer))
            if args.show or answer.fault():
                print(
                    f"{case.kind}, {case.name!r}: {answer.fault() or 'held'}\n    {answer.said.strip()[:300]}",
                    flush=True,
                )
    print("| kind | cases | held | longest, CPU s | longest, wall s | most lines |\n|---|---|---|---|---|---|")
    for kind, of in answers.items():
        held = sum(not answer.fault() for _, answer in of)
        cpu, wall = max(a.cpu for _, a in of), max(a.seconds for _, a in of)
        print(f"| {kind} | {len(of)} | {held} | {cpu:.2f} | {wall:.2f} | {max(a.said.count(chr(10)) for _, a in of)} |")
    both = [pair for of in answers.values() for pair in of]
    held = sum(not answer.fault() for _, answer in both)
    print(f"| in all | {len(both)} | {held} | | | |")
    return 0 if held == len(both) else 1


if __name__ == "__main__":
    sys.exit(main())
