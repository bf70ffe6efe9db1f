"""Which versions a run says it was made with."""

import platform
from importlib.metadata import version

from segpipe.doctor.environment import package_report
from segpipe.libraries import SCORING, TRAINING, library_versions


def test_versions_are_those_installed_and_python_comes_first():
    found = library_versions(TRAINING)
    assert list(found) == ["python", *TRAINING]
    assert found["python"] == platform.python_version() and found["torch"] == version("torch")


def test_every_named_distribution_is_one_that_the_project_installs():
    assert all(library_versions([*TRAINING, *SCORING]).values()), "a misspelt name would read `not installed` for ever"


def test_a_library_that_is_not_there_has_no_version():
    assert library_versions(["no-such-distribution"])["no-such-distribution"] is None


def test_the_doctor_asks_as_the_runs_do(monkeypatch):
    monkeypatch.setattr("segpipe.libraries.version", lambda name: "1")
    monkeypatch.setattr("segpipe.doctor.environment.package_findings", lambda asked, found: [found])
    monkeypatch.setattr("segpipe.doctor.environment.torch_findings", lambda *_: [])
    assert set(package_report({})[-1].values()) == {library_versions(["torch"])["torch"]} == {"1"}
