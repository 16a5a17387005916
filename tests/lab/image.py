"""The image that the Dockerfile describes, made where no image can be pulled: its instructions are run on a Debian root.

`debootstrap --variant=minbase` stands for the base image, which is made the same way. Every stage is a directory in
.cache/image, named by what it is made from (instructions, files that they copy, the stage below), so that a second time costs
nothing. Knows the instructions that our Dockerfile uses and no others. Needs root.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.lab.container import Mount, Spec

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/image"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE = "debian:bookworm-slim"
_FORMAT = "3"  # changes when a stage that was made before would be made otherwise now


@dataclass(frozen=True)
class Stage:
    """One stage of a Dockerfile: the instructions after its FROM, as words of a line."""

    name: str
    below: str
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Image:
    """A root, and what the image says about processes in it."""

    root: Path
    user: int = 0
    group: int = 0
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})


def stages(text: str, name: str) -> list[Stage]:
    """The stages of a Dockerfile. `name` is the last one's, which has none."""
    found: list[Stage] = []
    for line in text.replace("\\\n", "").splitlines():
        word, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if word == "FROM":
            below, _, called = rest.partition(" AS ")
            found.append(Stage(called or name, below, ()))
        else:
            found[-1] = Stage(found[-1].name, found[-1].below, (*found[-1].steps, (word, rest.strip())))
    return found


def build() -> Image:
    """The image of our Dockerfile, with all that is missing made."""
    root, steps = made((ROOT / "Dockerfile").read_text(encoding="utf-8"), "image")
    told = dict(steps)
    user, group = map(int, told["USER"].split(":"))
    return Image(root, user, group, tuple(json.loads(told["ENTRYPOINT"])), tuple(json.loads(told["CMD"])))


def made(text: str, name: str) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """The root of a Dockerfile's last stage, and that stage's instructions; what an earlier text of this name made goes."""
    with _locked():
        roots = {BASE: _base()}
        parts = stages(text, name)
        for stage in parts:
            roots[stage.name] = _made(stage, roots)
        _prune(name, roots.values())
    return roots[parts[-1].name], parts[-1].steps


def clone(source: Path, to: Path) -> None:
    """Copies a root, with owners, links and file capabilities."""
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(to)], check=True, timeout=300)


def run(
    root: Path, command: str, *, directory: str = "/", env: Mapping[str, str] | None = None, mounts: Iterable[Mount] = ()
) -> str:
    """Runs a shell command in a root as its root user, with this machine's network; its output. RuntimeError carries that."""
    with tempfile.TemporaryDirectory(prefix="hostward-build-") as name:
        home = Path(name)
        settings, files = package_index(home)
        (root / "etc/resolv.conf").touch()
        network = [Mount("tmpfs", "/tmp"), Mount("/etc/resolv.conf", "/etc/resolv.conf", read_only=True), *files]
        environ = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", **settings, **(env or {})}
        spec = Spec(str(root), ["sh", "-c", command], environ, [*network, *mounts], directory)
        done = subprocess.run(
            spec.write(home / "spec.json"), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stdout[-4000:]}")
    return done.stdout


def package_index(home: Path) -> tuple[dict[str, str], list[Mount]]:
    """How this machine reaches a package index, told to a root: proxies, pip's settings, certificates."""
    settings = {name: value for name, value in os.environ.items() if name.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    settings |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") and not os.path.exists(value)}
    mounts = []
    for variable, file in (("PIP_CERT", os.environ.get("PIP_CERT", "")), ("PIP_CONFIG_FILE", "/etc/pip.conf")):
        if file and Path(file).is_file():
            settings[variable] = f"/tmp/{variable}"
            copy = home / variable
            shutil.copyfile(file, copy)
            mounts.append(Mount(str(copy), settings[variable], read_only=True))
    return settings, mounts


@contextmanager
def _locked() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _new(directory: Path) -> Iterator[Path]:
    """A directory that gets its name when it is complete."""
    unfinished = CACHE / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    unfinished.chmod(0o755)
    yield unfinished
    unfinished.rename(directory)


def _base() -> Path:
    mirror, apt = _apt()
    directory = CACHE / f"base-{_digest(_FORMAT, mirror, apt)}"
    if not directory.exists():
        with _new(directory) as root:
            done = subprocess.run(
                ["debootstrap", "--variant=minbase", "bookworm", str(root), mirror],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"debootstrap from {mirror}: exit {done.returncode}: {done.stdout[-2000:]}")
            (root / "etc/apt/apt.conf.d/90machine").write_text(apt, encoding="utf-8")
            # As in the base image: packages start no service, and dpkg doesn't wait for the disk.
            (root / "etc/dpkg/dpkg.cfg.d/90machine").write_text("force-unsafe-io\n", encoding="utf-8")
            policy = root / "usr/sbin/policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
            policy.chmod(0o755)
    return directory


def _apt() -> tuple[str, str]:
    """The mirror that this machine's apt takes Debian from, and its proxies as settings for apt."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = _output("apt-get", "indextargets", "--no-release-info", "--format", form, "Identifier: Packages")
    codename = _output("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"').strip()
    mirrors = [
        uri for uri, release, component in map(str.split, targets.splitlines()) if (release, component) == (codename, "main")
    ]
    if not mirrors:
        raise RuntimeError(f"apt on this machine knows no source of Debian {codename}: run apt-get update")
    proxies = [
        line
        for line in _output("apt-config", "dump").splitlines()
        if line.lower().startswith("acquire::http") and "proxy" in line.lower()
    ]
    return mirrors[0], "".join(f"{line}\n" for line in proxies)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _made(stage: Stage, roots: Mapping[str, Path]) -> Path:
    below = roots[stage.below]
    copied = [_copied(rest, roots) for word, rest in stage.steps if word == "COPY"]
    directory = (
        CACHE / f"{stage.name}-{_digest(below.name, json.dumps(stage.steps), *(_content(files) for files, _ in copied))}"
    )
    if not directory.exists():
        with _new(directory) as root:
            clone(below, root)
            where = "/"
            for word, rest in stage.steps:
                where = _step(root, word, rest, where, roots)
    return directory


def _step(root: Path, word: str, rest: str, where: str, roots: Mapping[str, Path]) -> str:
    """Does one instruction; the directory in which the next one works."""
    match word:
        case "WORKDIR":
            (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            return rest
        case "RUN":
            run(root, rest, directory=where)
        case "COPY":
            files, target = _copied(rest, roots)
            for source, name in files:
                inside = PurePosixPath(where, target)
                to = root / str(inside / name if target.endswith("/") or target == "./" else inside).lstrip("/")
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, to, follow_symlinks=False)
        case "ARG" | "USER" | "ENTRYPOINT" | "CMD":
            pass  # package_index hands the argument on; the others are the image's, not a file
        case _:
            raise RuntimeError(f"this instruction of a Dockerfile isn't known here: {word}")
    return where


def _copied(rest: str, roots: Mapping[str, Path]) -> tuple[list[tuple[Path, str]], str]:
    """What a COPY copies: each file with its name below the target; and the target.

    A directory's content is copied, not the directory, as Docker does.
    """
    words = shlex.split(rest)
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    top = roots[stage] if stage else ROOT
    *sources, target = words
    found: list[tuple[Path, str]] = []
    for source in sources:
        path = top / source.lstrip("/")
        if path.is_dir():
            target = target.rstrip("/") + "/"
            inside = sorted(file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
            found += [(file, str(file.relative_to(path))) for file in inside if stage or _sent(file.relative_to(ROOT))]
        elif path.exists() and (stage or _sent(path.relative_to(ROOT))):
            found.append((path, path.name))
        else:
            raise RuntimeError(f"COPY {rest}: {source} isn't there, or .dockerignore keeps it back")
    return found, target


def _sent(path: Path) -> bool:
    """Whether a file of the checkout belongs to the build's context, as .dockerignore says: the last line that fits decides."""
    sent = True
    parents = [str(parent) for parent in (path, *path.parents)]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split():
        pattern = line.removeprefix("!")
        fits = [pattern, pattern.removeprefix("**/")] if pattern.startswith("**/") else [pattern]
        if any(fnmatch.fnmatchcase(parent, one) for parent in parents for one in fits):
            sent = line.startswith("!")
    return sent


def _content(files: Iterable[tuple[Path, str]]) -> str:
    parts = hashlib.sha256()
    for file, name in files:
        content = os.readlink(file).encode() if file.is_symlink() else file.read_bytes()
        parts.update(f"{name} {file.lstat().st_mode:o} {len(content)}\n".encode() + content)
    return parts.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _prune(name: str, kept: Iterable[Path]) -> None:
    """Removes roots that earlier texts of this name needed and that nothing needs any more."""
    (CACHE / f"{name}.kept").write_text("\n".join(path.name for path in kept), encoding="utf-8")
    needed = {line for file in CACHE.glob("*.kept") for line in file.read_text(encoding="utf-8").split()}
    for entry in CACHE.iterdir():
        if entry.is_dir() and entry.name not in needed:
            shutil.rmtree(entry)
