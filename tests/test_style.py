"""The house rules that no linter knows, held by reading every file of the project."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import ROOT, imports_of, modules, parse, rooms, settings, text_of, tracked_files

from grafos_core.errors import CODES

# A function fits a screen, typically 40 lines; past this it does two things.
FUNCTION_LINES_MAX = 70

# A module has one subject, typically 100 to 400 lines; past this it has two.
MODULE_LINES_MAX = 500

# Words are joined here from halves, because this file is read by its own tests too.
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "Not" + "ImplementedError")
MOCKS = ("unittest" + ".mock", "import " + "mock", "monkeypatch" + ".setattr", "mocker" + ".patch")
REGISTRY = re.compile(r"\b(?:py" + r"pi|pythonhosted|npm" + r"js|crates|goproxy)\.(?:org|io|com)\b")
PRIVATE_PLACE = re.compile(r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot)/|\.lib" + r"rary/")

PYTHON = [path for path in tracked_files() if path.suffix == ".py"]


def place(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def lines_with(files: list[Path], words: re.Pattern[str]) -> Iterator[str]:
    for path in files:
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if found := words.search(line):
                yield f"{place(path, number)} says {found[0]}"


def any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))


def test_a_function_fits_a_screen() -> None:
    def too_long() -> Iterator[str]:
        for path in PYTHON:
            for node in ast.walk(parse(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    if length > FUNCTION_LINES_MAX:
                        yield f"{place(path, node.lineno)} {node.name} has {length} lines"

    assert list(too_long()) == []


def test_a_module_has_one_subject() -> None:
    def too_long() -> Iterator[str]:
        for path in PYTHON:
            length = len((text_of(path) or "").splitlines())
            if length > MODULE_LINES_MAX:
                yield f"{place(path)} has {length} lines"

    assert list(too_long()) == []


def test_nothing_says_that_it_is_unfinished() -> None:
    assert list(lines_with(list(tracked_files()), any_of(UNFINISHED))) == []


def test_our_own_code_is_never_mocked() -> None:
    """Tests use the real core, an in-memory twin, or an emulator that speaks the cloud's real wire format."""
    assert list(lines_with(PYTHON, any_of(MOCKS))) == []


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    files = list(tracked_files())
    assert list(lines_with(files, REGISTRY)) == []
    assert list(lines_with(files, PRIVATE_PLACE)) == []


@pytest.mark.parametrize("lock", ["cell", "cli", "dev"])
def test_a_lock_names_no_address_and_pins_every_package_by_hash(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert "index-url" not in text
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert not [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]


# What no room's code imports, with why.
FORBIDDEN = {
    **dict.fromkeys(
        ("pickle", "marshal", "shelve", "dill", "cloudpickle"), "reading data must never run what is in it"
    ),
    **dict.fromkeys(("unittest", "pytest", "hypothesis"), "what tests need is no part of what they test"),
    **dict.fromkeys(("imp", "pkg_resources", "setuptools"), "packages are found by importlib"),
    **dict.fromkeys(("telnetlib", "ftplib", "xmlrpc"), "no wire without TLS, none without bounds"),
}

# What is at home in few places, so that another library could take its place there.
AT_HOME = {
    "azure": ("grafos_connectors.azure", "grafos_emulators.azure"),
    "google": ("grafos_connectors.gcp", "grafos_stacks.pulumi"),  # protobuf bears that name too
    "moto": ("grafos_emulators.aws",),
    "sqlite3": ("grafos_core.rowfile",),
    "wasmtime": ("grafos_cell", "grafos_cli.languages.wat"),
}

# Modules that decide: they get time, chance and state as arguments, and touch nothing.
DECIDING = {
    "core": ("ledger", "money", "renewal", "revoking"),
    "scheduler": ("admission", "decide", "leases", "placement", "placement_index", "retention", "runs"),
    "cell": ("broker", "broker_draft", "broker_events", "broker_leases", "broker_runs", "broker_tokens"),
    "stacks": ("plan", "recovery"),
}
TOUCHING = {
    "asyncio", "concurrent", "http", "io", "os", "pathlib", "secrets", "shutil", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


def stray_imports() -> Iterator[str]:
    for module in modules():
        for found in imports_of(module):
            top = found.target.partition(".")[0]
            homes = AT_HOME.get(top, ())
            if top in FORBIDDEN:
                yield f"{found}: {FORBIDDEN[top]}"
            elif homes and not any(f"{module.name}.".startswith(f"{home}.") for home in homes):
                yield f"{found}, which is at home in {homes}"


def test_what_is_forbidden_is_not_imported_and_what_has_a_home_stays_there() -> None:
    """Which room may import which, and where boto3 may be seen, is in test_architecture."""
    assert list(stray_imports()) == []


def test_what_decides_touches_nothing_and_throws_no_dice() -> None:
    known = {module.name: module for module in modules()}
    deciding = [known[f"grafos_{room}.{name}"] for room, names in DECIDING.items() for name in names]
    touching = [
        str(found) for module in deciding for found in imports_of(module) if found.target.partition(".")[0] in TOUCHING
    ]
    dice = [
        f"{place(module.path, node.lineno)} throws random.{node.attr}"
        for module in deciding
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random"
    ]
    assert touching + dice == []


def test_every_python_file_of_a_room_tells_what_it_is_for() -> None:
    assert not [place(module.path) for module in modules() if not ast.get_docstring(module.tree)]


def strings_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def lazy_prefixes(tree: ast.AST) -> Iterator[str]:
    """What stands before the name in calls such as `import_module(f"grafos_cli.{name}")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for name in node.args[:1]:
                if isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                    yield str(name.values[0].value)


def reached_modules() -> set[str]:
    """Modules that a room's code imports, starts by name (`-m grafos_x.y`), or declares as a command."""
    known = {module.name for module in modules()}
    reached = {name for name in known if name.endswith(".__main__") or name.count(".") == 0}
    for room in rooms():
        scripts = settings(ROOT / room / "pyproject.toml")["project"].get("scripts", {})
        reached |= {target.partition(":")[0] for target in scripts.values()}
        own = [module.tree for module in modules() if module.room == room]
        strings = {text.partition(":")[0] for tree in own for text in strings_of(tree)}
        prefixes = {prefix for tree in own for prefix in lazy_prefixes(tree)}
        reached |= strings | {prefix + text for prefix in prefixes for text in strings}
    for module in modules():
        for found in imports_of(module):
            reached |= {found.target, found.target.rpartition(".")[0]}
    return reached & known


def test_every_module_is_reached_from_somewhere() -> None:
    reached = reached_modules()
    # A package is reached with whatever is in it.
    packages = {name[:at] for name in reached for at, sign in enumerate(name) if sign == "."}
    unused = [place(module.path) for module in modules() if module.name not in reached | packages]
    assert unused == []


def documented_errors() -> dict[str, list[str]]:
    """The rows of the error reference: code -> the row's other cells."""
    rows = {}
    for line in (ROOT / "docs" / "reference" / "errors.md").read_text().splitlines():
        if row := re.match(r"\| `([a-z_]+)` \|(.*)\|$", line):
            rows[row[1]] = [cell.strip() for cell in row[2].split("|")]
    return rows


def test_the_error_reference_has_exactly_the_codes_that_exist() -> None:
    assert sorted(documented_errors()) == sorted(CODES)


def test_a_code_is_documented_with_its_exit_code_and_http_status() -> None:
    wrong = [
        code
        for code, cells in documented_errors().items()
        if not {str(CODES[code].exit_code), str(CODES[code].http_status)} <= set(cells)
    ]
    assert wrong == []


def test_the_table_of_errors_is_in_order() -> None:
    """Two people who add a code then meet in a merge where they ought to, and nowhere else."""
    assert list(CODES) == sorted(CODES)


def test_every_code_can_be_met() -> None:
    """A code that nothing raises is a promise to nobody."""
    table = ROOT / "core" / "grafos_core" / "errors.py"
    raised = {text for module in modules() if module.path != table for text in strings_of(module.tree)}
    assert [code for code in CODES if code not in raised] == []


FRAGMENT_KINDS = ("feature", "change", "fix", "security", "removal")
FRAGMENT_WORDS_MAX = 120


def faults_of_fragment(path: Path) -> Iterator[str]:
    text = path.read_text()
    if not re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(FRAGMENT_KINDS)})\.md", path.name):
        yield f"{path.name} is not named a-few-words.kind.md"
    if not re.match(r"[A-Z`]", text) or text.rstrip()[-1:] not in (".", "!", ")"):
        yield f"{path.name} does not begin and end as a sentence does"
    if re.search(r"^#", text, re.MULTILINE):
        yield f"{path.name} has a heading; the release has one"
    if len(text.split()) > FRAGMENT_WORDS_MAX:
        yield f"{path.name} is longer than {FRAGMENT_WORDS_MAX} words; the longer story belongs into docs/"


def test_a_news_fragment_is_a_few_sentences_under_a_telling_name() -> None:
    """The rules are those of newsfragments/README.md."""
    fragments = sorted(set((ROOT / "newsfragments").iterdir()) - {ROOT / "newsfragments" / "README.md"})
    assert [fault for path in fragments for fault in faults_of_fragment(path)] == []
