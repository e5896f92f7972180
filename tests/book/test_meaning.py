"""The digest of code changes with what it does, and with nothing else."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maso import MasoError
from maso_book import meaning, registry, results

NUMBER = itertools.count()
Write = Callable[[dict[str, str]], str]

SOURCES = {
    "run": '''
"""A module."""
from .middle import Scale, scaled
import PACKAGE.steps as steps

LEFT_ALONE = 3


def run(config):
    """Two calls."""
    from .lazy import offset  # on demand
    return scaled(steps.step(config), Scale(2).by) + offset()


def beside():
    return 0
''',
    "steps": """
from . import constants

def step(x, size=2):
    return x + size * constants.WEIGHTS["a"]
""",
    "constants": """
WEIGHTS = {"a": 1.0}
WEIGHTS["b"] = 2.0
OTHER = 5
""",
    "middle": """
import numpy as np


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by


def scaled(x: float, by: float) -> float:
    return np.multiply(x, by)
""",
    "lazy": """
def offset():
    return _inner(1)

def _inner(x):
    return x - 1
""",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules as a package of a new name, and gives the digest of its `run`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def inner(sources: dict[str, str], root: str = "run.run", instead: dict | None = None, **config: object) -> str:
        name = f"package{next(NUMBER)}"
        if instead:
            named = json.loads(json.dumps(instead).replace("PACKAGE", name))
            monkeypatch.setattr(meaning, "INSTEAD", named)
        monkeypatch.setattr(meaning, "PACKAGES", (*meaning.PACKAGES, name))
        for module, text in {"__init__": "", **sources}.items():
            file = tmp_path / name / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("PACKAGE", name))
        return meaning.digest(f"{name}.{root}", config=config)

    return inner  # type: ignore[return-value]


def changed(module: str, old: str, new: str) -> dict[str, str]:
    assert old in SOURCES[module]
    return SOURCES | {module: SOURCES[module].replace(old, new)}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("run", '"""Two calls."""', '"""One call less."""'),
        ("run", '"""A module."""', ""),
        ("run", "# on demand", "# later\n    # and later"),
        ("run", "LEFT_ALONE = 3", "LEFT_ALONE = 4"),
        ("run", "    return 0", "    return 1"),
        ("run", "from .middle import Scale, scaled", "from .middle import Scale as Scale\nfrom .middle import scaled"),
        ("run", "import PACKAGE.steps as steps", "from PACKAGE import steps"),
        ("run", "    from .lazy import offset  # on demand", "    from PACKAGE.lazy import offset"),
        ("steps", "from . import constants", "import PACKAGE.constants as constants"),
        ("steps", "def step(x, size=2):", "def step(x: int, size: float = 2) -> float:"),
        ("constants", "OTHER = 5", "OTHER = 6\nMORE = 7"),
        ("middle", "by: int) -> None", "by)"),
        ("lazy", "def offset", "\n\n\ndef unused():\n    return 9\n\ndef offset"),
    ],
)
def test_what_has_no_meaning_changes_nothing(write: Write, module: str, old: str, new: str) -> None:
    assert write(changed(module, old, new)) == write(SOURCES)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("run", "Scale(2)", "Scale(3)"),
        ("run", "+ offset()", "- offset()"),
        ("steps", "size=2", "size=3"),
        ("steps", "x + size", "x - size"),
        ("constants", '"a": 1.0', '"a": 1.5'),
        ("constants", '"] = 2.0', '"] = 2.5'),
        ("middle", "self.by = by", "self.by = -by"),
        ("middle", "np.multiply", "np.divide"),
        ("middle", "import numpy as np", "import torch as np"),
        ("lazy", "x - 1", "x - 2"),
        ("lazy", "_inner(1)", "_inner(2)"),
        ("lazy", "_inner(1)", "_inner(1.0)"),
    ],
)
def test_a_constant_a_default_or_a_formula_calls_away_counts(write: Write, module: str, old: str, new: str) -> None:
    assert write(changed(module, old, new)) != write(SOURCES)


def test_a_pure_move_changes_nothing(write: Write) -> None:
    moved = {
        "rooms.__init__": "",
        "rooms.run": SOURCES["run"]
        .replace("from .middle", "from PACKAGE.rooms.middle")
        .replace("import PACKAGE.steps as steps", "import PACKAGE.both")
        .replace("steps.step", "PACKAGE.both.step")
        .replace("from .lazy", "from ..late"),
        "rooms.middle": SOURCES["middle"],
        "both": SOURCES["constants"] + SOURCES["steps"].replace("from . import", "#").replace("constants.", ""),
        "late": "from .later import offset",
        "later": SOURCES["lazy"],
    }
    assert write(moved, "rooms.run.run") == write(SOURCES)


def test_two_definitions_of_one_name_are_told_apart(write: Write) -> None:
    sources = {"run": "from .a import f\nfrom .b import f as g\n\ndef run():\n    return f() - g()\n"}
    parts = {"a": "def f():\n    return 1\n", "b": "def f():\n    return 2\n"}
    assert write(sources | parts) != write(sources | {"a": parts["b"], "b": parts["a"]})


def test_variables_hide_what_stands_outside(write: Write) -> None:
    text = "def helper():\n    return 1\n\ndef run(x):\n    helper = x\n    return [helper for helper in x]\n"
    assert write({"run": text}) == write({"run": text.replace("return 1", "return 2")})
    text = text.replace("helper = x", "x = helper()")
    assert write({"run": text}) != write({"run": text.replace("return 1", "return 2")})


def test_what_a_module_does_when_it_is_imported_counts(write: Write) -> None:
    text = "import torch\n\ntorch.set_flag(1)\n\ndef run():\n    return torch.ones(1)\n"
    assert write({"run": text}) != write({"run": text.replace("(1)\n\ndef", "(2)\n\ndef")})


NETWORKS = """
def small(): return 1
def large(): return helper(2)
def helper(x): return x
"""
BY_NAME = {"run": "from . import networks\n\ndef run(config):\n    return getattr(networks, config.network)()\n"}


def test_a_function_looked_up_by_a_name_of_the_configuration(write: Write) -> None:
    before = {**BY_NAME, "networks": NETWORKS}
    after = {**BY_NAME, "networks": NETWORKS.replace("helper(2)", "helper(3)") + "def new(): return 4\n"}
    assert write(before, network="small") == write(after, network="small")  # type: ignore[call-arg]
    assert write(before, network="large") != write(after, network="large")  # type: ignore[call-arg]
    assert write(before) != write(after)  # it may be any of them
    nested = {"recipes": [{"network": "small"}]}
    assert write(before, **nested) == write(after, **nested)  # type: ignore[arg-type]


def test_what_is_known_by_its_content_does_not_count(write: Write) -> None:
    sources = {
        "run": "from .data import load\nfrom .store import kept\n\ndef run():\n    return load() + kept()\n",
        "data": "def load():\n    return 1\n",
        "store": "def made():\n    return 2\n\ndef kept():\n    return made() if lost else 0\n",
    }

    instead = {"PACKAGE.data": (), "PACKAGE.store.kept": ("PACKAGE.store.made",)}

    def digest(**change: tuple[str, str]) -> str:
        new = {m: text.replace(*change[m]) if m in change else text for m, text in sources.items()}
        return write(new, instead=instead)  # type: ignore[call-arg]

    first = digest()
    assert digest(data=("return 1", "return 9")) == first
    assert digest(store=("if lost", "if found")) == first
    assert digest(store=("return 2", "return 3")) != first
    assert digest(run=("+", "-")) != first


def test_what_has_no_digest_is_refused() -> None:
    for dotted in ("maso.nothing", "maso", "numpy.dot", "maso_book.meaning.absent", "x"):
        with pytest.raises(MasoError, match="has no digest: expected a function, class or constant"):
            meaning.digest(dotted)


def test_a_source_text_counts_with_what_it_reaches(write: Write) -> None:
    def digest(line: str, sources: dict[str, str]) -> str:
        write(sources)
        return meaning.digest_of_cells({"a cell": f"import {meaning.PACKAGES[-1]}.run as r  # a cell", "another": line})

    first = digest("print(r.run(1))", SOURCES)
    assert digest("print(r.run(1))  # again", SOURCES) == first
    assert digest("print(r.run(2))", SOURCES) != first
    assert digest("print(r.run(1))", changed("lazy", "x - 1", "x - 2")) != first
    assert digest("print(r.run(1))", changed("run", "    return 0", "    return 1")) == first
    assert digest("print(r.beside())", changed("lazy", "x - 1", "x - 2")) == digest("print(r.beside())", SOURCES)


def test_every_experiment_has_a_digest_and_every_known_content_is_there() -> None:
    for experiment in registry.registry().values():
        (config, *_) = results.cells(experiment, "quick")
        assert len(experiment.code(config)) == 16
    for things in meaning.INSTEAD.values():
        assert all(meaning.digest(dotted) for dotted in things)
