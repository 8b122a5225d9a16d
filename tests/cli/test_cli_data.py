"""``chelys data`` and ``chelys train`` hand over what they were given, and nothing is made on a mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chelys.data.manifest import Utterance, write_manifest
from chelys.errors import ConfigError, UserError
from chelys.text.tokenizer import Tokenizer


class Recorder:
    """Stands in for a function: notes how it was called, and reports progress as the real one would."""

    def __init__(self, result: Any = None, *, figures: tuple[Any, ...] = ()) -> None:
        self.result = result
        self.figures = figures

    def __call__(self, *args: Any, progress: Any = None, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        if progress:
            progress(1, 2, *self.figures)
        return self.result


class _Run:
    """A run whose loop leaves the threads alone."""

    class loop:  # noqa: N801
        threads = 0
        listen = ()


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **names: Any) -> None:
    made = ModuleType(module)
    for name, value in names.items():
        setattr(made, name, value)
    monkeypatch.setitem(sys.modules, module, made)


def test_make_synthetic(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make = Recorder(Path("corpus/manifest.jsonl"))
    monkeypatch.setattr("chelys.data.recipes.synthetic.make", make)
    result = invoke("data", "make", "synthetic", "--out", "corpus", "--clips", "20", "--teacher", "kokoro",
                    "--workers", "3", "--seed", "5", "--voices", "s04, s12", "--first", "40")  # fmt: skip
    assert result.exit_code == 0 and result.stdout == "corpus/manifest.jsonl\n"
    (recipe,) = make.args
    assert (recipe.out, recipe.clips, recipe.teacher, recipe.seed) == (Path("corpus"), 20, "kokoro", 5)
    assert (recipe.voices, recipe.first) == (("s04", "s12"), 40)
    assert make.kwargs == {"workers": 3}


def test_lexicon(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make = Recorder()
    stand_in(monkeypatch, "chelys.data.recipes.pronunciations", make_lexicon=make)
    result = invoke("data", "lexicon", "--out", "new/lexicon.txt.gz")
    assert result.stdout == "new/lexicon.txt.gz\n" and make.args == (Path("new/lexicon.txt.gz"),)
    assert Path("new").is_dir()


def test_features(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    extract = Recorder()
    stand_in(monkeypatch, "chelys.data.features", extract=extract)
    assert invoke("data", "features", "a.jsonl", "b.jsonl", "--out", "f").stdout == "f\n"
    assert extract.args == ([Path("a.jsonl"), Path("b.jsonl")], Path("f"))


def test_train(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    read_run, train_run = Recorder(_Run()), Recorder(Path("run/dvae.safetensors"), figures=({"loss": 1.0},))
    stand_in(monkeypatch, "chelys.training.run_stage", read_run=read_run, train_run=train_run)
    result = invoke("train", "dvae", "--config", "c.yaml", "loop.steps=10", "run=x", "--no-resume")
    assert result.stdout == "run/dvae.safetensors\n"
    assert read_run.args == ("dvae", Path("c.yaml"), ["loop.steps=10", "run=x"])
    assert train_run.args[0] == "dvae" and train_run.kwargs == {"resume": False, "listener": None}
    invoke("train", "dvae", "--config", "c.yaml")
    assert read_run.args[2] == [] and train_run.kwargs == {"resume": True, "listener": None}


def test_a_users_error_of_the_trainer_is_one_line(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def read_run(*args: Any, **kwargs: Any) -> None:
        raise ConfigError("unknown stage 'x': choose dvae")

    stand_in(monkeypatch, "chelys.training.run_stage", read_run=read_run, train_run=None)
    assert refused("train", "x", "--config", "c.yaml") == "unknown stage 'x': choose dvae"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "make", "synthetic", "--out", "c"], "Missing option '--clips'"),
        (["data", "make", "synthetic", "--out", "c", "--clips", "0"], "Invalid value for '--clips'"),
        (["data", "make", "synthetic", "--out", "c", "--clips", "9", "--teacher", "x"], "unknown teacher 'x'"),
        (["data", "make", "synthetic", "--out", "file/c", "--clips", "9"], "cannot make the folder file/c"),
        (["data", "lexicon", "--out", "folder"], "it is a folder"),
        (["data", "features", "--out", "f"], "Missing argument"),
        (["data", "features", "gone.jsonl", "--out", "file"], "cannot make the folder file"),
        (["data", "make", "synthetic", "--out", "new/c", "--clips", "9"], "no WordNet"),
        (["train", "dvae"], "Missing option '--config'"),
        (["train", "dvae", "--config", "c.yaml", "=3"], "'=3' is not KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    def make(*args: Any, **kwargs: Any) -> None:
        raise UserError("no WordNet")

    monkeypatch.setattr("chelys.data.recipes.synthetic.make", make)
    Path("file").touch()
    Path("folder").mkdir()
    assert said in refused(*arguments)


def test_bpe_leaves_a_tokenizer(invoke: Callable[..., Any], tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Utterance("a", "a.wav", "The tortoise and the hare. The road.", "ada", 2.0)])
    done = invoke("data", "bpe", manifest, "--out", tmp_path / "text", "--size", "42")
    assert done.exit_code == 0 and "(42 ids)" in done.stdout
    tokenizer = Tokenizer.load(tmp_path / "text", cleaner="tortoise")
    assert tokenizer.decode(tokenizer.encode("the hare")) == "the hare"
