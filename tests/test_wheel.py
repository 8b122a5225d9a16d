"""The distributions: what is in them, and that a wheel works in an empty folder, without a checkout.

The fresh environment takes its third-party packages from the one that runs the tests: only chelys is installed.
``CHELYS_WHEEL_FULL=1`` installs those from the index, too, which takes minutes and gigabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

slow = pytest.mark.slow


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"NO_COLOR": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert (done.returncode != 0) == fails, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and sdist, built from what git tracks, the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(ROOT / name, tree / name) if same_device(folder) else copy(ROOT / name, tree / name)
    backend = "from setuptools import build_meta as b; import sys; print(b.build_sdist(sys.argv[1]))"
    run(sys.executable, "-c", backend, folder, cwd=tree)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    backend = "from setuptools import build_meta as b; import sys; print(b.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", backend, folder, cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def same_device(folder: Path) -> bool:
    return folder.stat().st_dev == ROOT.stat().st_dev


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


@pytest.fixture(scope="module")
def commands(distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a fresh environment that has the wheel."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", home, cwd=home.parent)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    full = bool(os.environ.get("CHELYS_WHEEL_FULL"))
    if not full:  # a plain path in a .pth file brings packages, but no editable installs of the other environment
        site = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
        Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf8")
    wheel = distributions["wheel"]
    wanted = ["-c", ROOT / "constraints.txt", f"{wheel}[train,prepare]", "pytest"] if full else [wheel]
    run(scripts / "python", "-m", "pip", "install", "-q", *([] if full else ["--no-deps"]), *wanted, cwd=home)
    where = run(scripts / "python", "-c", "import chelys; print(chelys.__file__)", cwd=home).strip()
    assert Path(where).is_relative_to(home), where
    return scripts


def test_the_manifest_names_all_that_git_tracks() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text(encoding="utf8").splitlines() if line]
    files = {name for first, *names in lines if first == "include" for name in names}
    folders = {name for first, *names in lines if first == "graft" for name in names}
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    by_build = {".gitignore", "MANIFEST.in", "pyproject.toml"}  # never, or always, part of it
    left = {name for name in tracked if name not in files | by_build and name.split("/")[0] not in {*folders, "src"}}
    assert not left


@slow
def test_the_wheel_has_what_commands_need_and_no_more(distributions: dict[str, Path]) -> None:
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        names = set(wheel.namelist())
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "src/chelys", cwd=ROOT).splitlines()
    wanted = {name.removeprefix("src/") for name in tracked if (ROOT / name).is_file()}
    assert wanted <= names, sorted(wanted - names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"chelys"}
    assert any(name.endswith("/licenses/NOTICE") for name in names)


@slow
def test_the_sdist_is_the_repository(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    missing = {name for name in tracked if (ROOT / name).is_file()} - names - {".gitignore"}
    assert not missing, sorted(missing)


@slow
def test_it_speaks_in_an_empty_folder(commands: Path, tmp_path: Path) -> None:
    chelys, folder = commands / "chelys", tmp_path / "empty"  # beside the cache
    folder.mkdir()
    assert run(chelys, "--version", cwd=folder).strip()
    run(chelys, "speak", "Hello.", "--preset", "fast", "-o", "hello.wav", cwd=folder)
    assert (folder / "hello.wav").stat().st_size > 10_000
    assert "heart" in run(chelys, "voices", "list", cwd=folder)
    assert [path.name for path in folder.iterdir()] == ["hello.wav"]


@slow
def test_configurations_are_found_by_name(commands: Path, tmp_path: Path) -> None:
    chelys = commands / "chelys"
    for name in ("nano/dvae", "nano/vocoder.yaml"):
        stage = name.split("/")[1].split(".")[0]
        told = run(chelys, "train", stage, "--config", name, "run=run", "features=nowhere", cwd=tmp_path, fails=True)
        assert "nowhere" in told and len(told.strip().splitlines()) == 1, told
    told = run(chelys, "train", "dvae", "--config", "nano/none", "run=run", cwd=tmp_path, fails=True)
    assert "cannot read nano/none" in told and "nano/dvae" in told


@slow
@pytest.mark.parametrize("page", ["test_data_doc.py", "test_training_doc.py", "test_user_docs.py"])
def test_the_documentation_can_be_followed(commands: Path, tmp_path: Path, page: str) -> None:
    test = ROOT / "tests" / "docs" / page
    run(commands / "python", "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", test, cwd=ROOT)
