"""What a project has: a package that imports and runs, extras, environments, and pages that are true."""

from __future__ import annotations

import configparser
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files

import pytest

import convform
from convform.tests.checkout import FOLDERS, ROOT, in_checkout, pages, text_of


def run(*arguments):
    """Run Python in a fresh process, which must end well."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------- the package


def test_the_package_imports_nothing_before_it_is_asked():
    asked = "import sys, convform; dir(convform), convform.__version__; print(*sys.modules)"
    assert not {"numpy", "hypothesis", "rich", "convform.adapters"} & set(run("-c", asked).split())


def test_the_package_gives_what_people_need():
    assert {"Adapter", "check", "load", "__version__"} <= set(dir(convform))
    assert convform.__version__ == version("convform")
    for home, names in (("adapters", ("Adapter", "load")), ("conformance", ("check",))):
        for name in names:
            assert getattr(convform, name) is getattr(importlib.import_module(f"convform.{home}"), name)
    with pytest.raises(AttributeError, match="no attribute 'judge'"):
        _ = convform.judge


def test_the_package_runs_as_the_command_does():
    assert run("-m", "convform", "--version").split()[-1] == version("convform")
    same = run("-m", "convform.conformance.doors.cli", "spec", "CONV-1")
    assert run("-m", "convform", "spec", "CONV-1") == same


def test_data_files_are_installed():
    data = {
        "convform": "py.typed",
        "convform.spec": "conv.md",
        "convform.docs": "PROTOCOL.md",
        "convform.conformance.matrix": "matrix.css",
        "convform.tests": "subjects/subject.c",
    }
    for package, name in data.items():
        assert files(package).joinpath(name).is_file(), name
    assert files("convform.tests").joinpath("golden.json").is_file()


# -------------------------------------------------------------------------------- extras and environments


def pyproject():
    return tomllib.loads(text_of("pyproject.toml"))


def libraries():
    """What the extra of each backend asks for, by extra: name of the distribution and bound."""
    extras = pyproject()["project"]["optional-dependencies"]
    parts = re.compile(r"([\w-]+)(?:\[\w+\])?(.*)")
    return {extra: [parts.fullmatch(one).groups() for one in asked] for extra, asked in extras.items()}


def backends_of_tox():
    """Names of the environments of backends, as the one list in tox.ini has them."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string(text_of("tox.ini"))
    (title,) = [title for title in tox.sections() if tox[title].get("labels") == "backends"]
    return title.removeprefix("testenv:{").removesuffix("}").split(",")


@in_checkout
def test_every_folder_with_modules_is_a_package_of_that_name():
    named = {"convform"}
    for folder in FOLDERS:
        below = (file.parent.relative_to(ROOT).parts for file in (ROOT / folder).rglob("__init__.py"))
        named |= {".".join(("convform", *parts)) for parts in below if folder != "package"}
    assert sorted(pyproject()["tool"]["setuptools"]["packages"]) == sorted(named)


@in_checkout
def test_extras_are_lower_bounds_and_constraints_are_exact():
    lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
    pinned = [line.partition("==")[0] for line in lines]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    for extra, asked in libraries().items():
        for name, bound in asked:
            # Chainer's last release is older than the NumPy of today, and no bound would help it.
            assert bound.startswith(">=") or (extra, name, bound) == ("chainer", "numpy", "<1.24")
            assert name in pinned or name in ("numpy", "matplotlib", "nbformat"), (
                f"{name} is in no constraint"
            )


@in_checkout
def test_backends_are_named_in_one_list():
    listed = backends_of_tox()
    extras = set(libraries()) - {"notebook"}
    # CuPy needs a GPU, so no environment judges it.
    assert sorted(extras - {"cupy"}) == sorted(set(listed) - {"reference"})
    adapters = pyproject()["project"]["entry-points"]["convform.adapters"]
    assert set(adapters) >= extras | set(listed)
    for value in adapters.values():
        module = value.partition(":")[0].removeprefix("convform.").replace(".", "/")
        assert (ROOT / f"{module}.py").is_file(), value


# ----------------------------------------------------------------------------------------------- pages


@in_checkout
def test_links_lead_somewhere():
    lost = []
    for page in pages():
        # In a block of code, brackets and parentheses are no link.
        prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            place = target.partition("#")[0]
            if "://" not in target and place and not (ROOT / page.parent / place).exists():
                lost.append(f"{page}: {target}")
    assert not lost


@in_checkout
def test_the_map_of_the_house_is_the_house():
    house = text_of("README.md").partition("## The house")[2].partition("\n## ")[0]
    rooms = {f"conformance/{file.parent.name}" for file in ROOT.glob("conformance/*/__init__.py")}
    mapped = re.findall(r"^\| \[[\w/]+\]\(([\w/]+)/\)", house, flags=re.MULTILINE)
    assert len(mapped) == len(set(mapped))
    assert FOLDERS | rooms <= set(mapped)


@in_checkout
def test_versions_and_licence_agree():
    project = pyproject()["project"]
    assert project["version"] == version("convform")
    assert f"\n## [{project['version']}]" in text_of("CHANGELOG.md")
    assert f"\nversion: {project['version']}\n" in text_of("CITATION.cff")
    assert f"\nlicense: {project['license']}\n" in text_of("CITATION.cff")
    assert text_of("LICENSE").startswith(f"{project['license']} License\n")
