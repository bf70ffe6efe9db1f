"""`segpipe doctor`, the fast half: versions, the pair torch and torchvision, limits of the machine, room on disks."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from coco_folder import data_params, pictures, prepare_folder, split_params, write_folder, write_list
from packaging.requirements import Requirement

from segpipe.doctor.environment import disk_report, machine_report, tree_report
from segpipe.doctor.extent import (
    prediction_bytes,
    prepared_bytes,
    prepared_fits,
    read_extent,
    training_images,
)
from segpipe.doctor.finding import Finding
from segpipe.doctor.machine import ControlGroup, Machine, control_group, cpu_features, read_machine, read_meminfo
from segpipe.doctor.packages import (
    package_findings,
    pair_problem,
    release_findings,
    requirements,
    torch_findings,
)
from segpipe.inference.probs import PredictionWriter
from segpipe.params import load_params

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
GIB = 2**30
MACHINE = Machine(2, 2, "", 8 * GIB, 4 * GIB, "", ("avx2",), load=0.1)


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.topic: finding.verdict for finding in findings}


# torchvision's own description says which torch it was built for; see also its tags
@pytest.mark.parametrize(
    ("torch", "torchvision", "wants", "problem"),
    [
        ("2.13.0", "0.28.0", "torch==2.13.0", None),
        ("2.13.0+cpu", "0.28.0+cpu", "torch==2.13.0", None),
        ("2.13.0+cu130", "0.28.0+cu130", "torch==2.13.0", None),
        ("2.14.1", "0.29.1", "torch (>=2.14.0)", None),
        ("2.15.0", "0.29.2", "torch>=2.14", None),
        ("2.15.0", "0.28.0", "torch==2.13.0", "was built for torch==2.13.0, found torch 2.15.0"),
        ("2.13.0", "0.29.2", "torch>=2.14", "was built for torch>=2.14, found torch 2.13.0"),
        ("2.13.0+cpu", "0.28.0", "torch==2.13.0", "come from two indexes (build tags +cpu and none)"),
        ("2.13.0", "0.28.0+cpu", "torch==2.13.0", "come from two indexes (build tags none and +cpu)"),
        ("2.13.0+cpu", "0.28.0+cu130", "torch==2.13.0", "(build tags +cpu and +cu130)"),
        ("2.13.0+cu126", "0.28.0+cu130", "torch==2.13.0", "(build tags +cu126 and +cu130)"),
    ],
)
def test_a_pair_fits_by_what_torchvision_requires_and_by_build_tags(torch, torchvision, wants, problem):
    found = pair_problem(torch, torchvision, ["numpy", wants, "pillow!=8.3.*,>=5.3.0"])
    assert found is None if problem is None else problem in found


def test_a_mismatch_that_imports_is_a_warning_and_one_that_does_not_is_bad():
    works = {"torch": "2.13.0+cpu", "torchvision": "0.28.0+cu130", "gpus": []}
    [finding] = torch_findings(works, "2.14.1+cpu", "0.29.1")
    assert finding.verdict == "warn"
    broken = {"torch": "2.13.0+cpu", "error": "RuntimeError: operator torchvision::nms does not exist"}
    [finding] = torch_findings(broken, "2.14.1+cpu", "0.29.1")
    assert finding.verdict == "bad"
    assert "two indexes" in finding.found
    assert "operator torchvision::nms does not exist" in finding.found
    assert "torch torchvision" in finding.advice


@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning", "lightning-fabric"])
@pytest.mark.parametrize(
    ("release", "bad"), [("2.6.1", 0), ("2.6.2", 1), ("2.6.3", 1), ("2.6.3+local", 1), ("2.6.4", 0)]
)
def test_compromised_releases_are_bad(name, release, bad):
    findings = release_findings({name: release})
    assert [finding.verdict for finding in findings] == ["bad"] * bad


def test_two_builds_of_opencv_are_a_warning():
    both = {"opencv-python": "5.0", "opencv-python-headless": "5.0"}
    assert verdicts(release_findings(both)) == {"opencv": "warn"}
    assert release_findings({"opencv-python-headless": "5.0", "opencv-python": None}) == []


def test_packages_are_held_against_their_ranges():
    asked = [Requirement(text) for text in ("albumentations>=2.0.8,<2.1", "numpy>=2", "timm>=1.0.20")]
    findings = package_findings(asked, {"albumentations": "2.1.0", "numpy": "2.4.6", "timm": None})
    assert verdicts(findings) == {"albumentations": "bad", "timm": "bad", "packages": "ok"}
    assert findings[0].found.startswith("2.1.0, asked for albumentations")
    assert findings[1].found == "not installed"
    assert "numpy 2.4.6" in findings[2].found


def test_ranges_are_those_of_pyproject_or_else_of_the_installed_package(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, asked = requirements(ROOT)
    assert (str(python), len(asked)) == (project["requires-python"], len(project["dependencies"]))
    assert "lightning-fabric" in {requirement.name for requirement in requirements(tmp_path)[1]}


def write_groups(tmp_path: Path, listing: str, files: dict[str, str]) -> ControlGroup:
    (tmp_path / "listing").write_text(listing)
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return control_group(tmp_path / "mount", tmp_path / "listing")


V1 = "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("listing", "files", "expected"),
    [
        ("0::/\n", {}, ControlGroup(None, None, None)),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, ControlGroup(None, None, None)),
        (
            "0::/\n",
            {"cpu.max": "150000 100000\n", "memory.max": "1000\n", "memory.current": "400\n"},
            ControlGroup(1.5, 1000, 400),
        ),
        # the tightest level counts
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n", "a/memory.max": "7\n"},
            ControlGroup(2.0, 7, None),
        ),
        # version 1: -1 and a huge number are no limits
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            ControlGroup(None, None, None),
        ),
        # a container sees its own group at the mount, not at the host's path that the list gives
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": "50000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "2000",
                "memory/memory.usage_in_bytes": "500",
            },
            ControlGroup(0.5, 2000, 500),
        ),
    ],
)
def test_limits_of_control_groups(tmp_path, listing, files, expected):
    assert write_groups(tmp_path, listing, files) == expected


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert control_group(tmp_path / "no", tmp_path / "none") == ControlGroup(None, None, None)


def test_processor_features_and_memory_are_read_from_their_files():
    assert cpu_features("model name : x\nflags\t\t: fpu avx2 avx512f amx_bf16 xyz\n") == ("amx_bf16", "avx512f", "avx2")
    assert cpu_features("Features : fp asimd bf16\n") == ("bf16", "asimd")
    assert cpu_features("nothing") == ()
    assert read_meminfo("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n") == (1_024_000, 409_600)


def test_this_machine_can_be_read():
    machine = read_machine()
    assert 0 < machine.cores <= machine.cores_present
    assert 0 < machine.memory_free <= machine.memory


def test_more_threads_than_cores_are_a_warning_on_a_cpu_only():
    train = PARAMS.train.model_copy(update={"threads": 8})
    params = PARAMS.model_copy(update={"train": train})
    on_cpu = machine_report(MACHINE, {"gpus": []}, params)
    assert [finding.topic for finding in on_cpu if finding.verdict == "warn"] == ["threads", "threads"]
    on_gpu = machine_report(MACHINE, {"gpus": [{"name": "A", "memory": GIB}]}, params)
    assert "warn" not in verdicts(on_gpu).values()


def test_a_busy_machine_is_a_warning_about_what_is_measured():
    assert "load" not in verdicts(machine_report(MACHINE, {"gpus": []}, PARAMS))
    busy = dataclasses.replace(MACHINE, load=3.5)
    assert verdicts(machine_report(busy, {"gpus": []}, PARAMS))["load"] == "warn"


def test_without_a_python_on_the_path_stages_will_fail(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = verdicts(tree_report())
    assert found["stage python"] == found["dvc"] == found["git"] == "bad"


def test_stages_would_fail_with_a_python_that_lacks_the_packages(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho \'{"prefix": "/elsewhere", "lacks": ["torch"]}\'\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    [finding] = [finding for finding in tree_report() if finding.topic == "stage python"]
    assert (finding.verdict, finding.found) == ("bad", f"{script} lacks torch")


@pytest.mark.parametrize(("name", "verdict"), [("link", "ok"), ("other", "warn")])
def test_an_environment_behind_a_symbolic_link_is_this_one(monkeypatch, tmp_path, name, verdict):
    (tmp_path / "link").symlink_to(sys.prefix)
    (tmp_path / "other").mkdir()
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\necho \'{{"prefix": "{tmp_path}/{name}", "lacks": []}}\'\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verdicts(tree_report())["stage python"] == verdict


@pytest.fixture
def small_set(tmp_path):
    """A folder of COCO files and what params.yaml would say of it."""
    write_folder(tmp_path / "raw", pool=pictures("p", "q", "r", height=4, width=6))
    data = data_params(tmp_path / "raw", unlabeled=["pool.json"])
    return PARAMS.model_copy(update={"data": data, "split": split_params()}), tmp_path / "raw.prepared"


def test_coco_files_and_what_prepare_makes_of_them_say_the_same(small_set):
    params, prepared = small_set
    from_files = read_extent(params, prepared)
    prepare_folder(Path(params.data.root), unlabeled=["pool.json"])
    from_prepared = read_extent(params, prepared)
    assert (from_files.labeled, from_files.test, from_files.unlabeled, from_files.judge) == (6, 2, 3, 2)
    assert from_files.num_classes == 3
    assert vars(from_files) | {"source": ""} == vars(from_prepared) | {"source": ""}
    assert from_files.source != from_prepared.source


@pytest.mark.parametrize(("folds", "expected"), [(None, [7]), (2, [4, 3])])
def test_training_images_are_as_many_before_prepare_as_after(tmp_path, folds, expected):
    # scenes of three, two and two images: the fold that holds out the first one trains on four
    train = pictures("a1", "a2", "a3", "b1", "b2", "c1", "c2")
    write_folder(tmp_path / "raw", train=train, val=pictures("v"), judge=pictures("j"))
    named = {"judge": "judge.json"} | ({"val": None} if folds else {})
    split = split_params(folds=folds, group_by=r"/(\w)")
    params = PARAMS.model_copy(update={"data": data_params(tmp_path / "raw", **named), "split": split})
    counted = []
    for _ in ("list", "prepared"):
        counted.append([training_images(params, fold, tmp_path / "raw.prepared") for fold in range(folds or 1)])
        prepare_folder(tmp_path / "raw", split=split, **named)
    from_list, from_prepared = counted
    assert [number for number, _ in from_list] == [number for number, _ in from_prepared] == expected
    assert from_prepared[0][1] == str(tmp_path / "raw.prepared") != from_list[0][1]


def test_several_files_and_merged_classes_are_counted_as_prepare_makes_them(tmp_path):
    write_folder(tmp_path / "raw", more=[], pool=pictures("p", "x"))
    write_list(tmp_path / "raw", "more.json", pictures("m", "n", "o"))
    changes = {
        "train": ["train.json", "more.json"],
        "unlabeled": ["pool.json"],
        "classes": [{"Any": ["Glass", "Paper"]}],
    }
    params = PARAMS.model_copy(update={"data": data_params(tmp_path / "raw", **changes), "split": split_params()})
    prepared = tmp_path / "raw.prepared"
    before = read_extent(params, prepared), training_images(params, 0, prepared)[0]
    prepare_folder(tmp_path / "raw", **changes)
    after = read_extent(params, prepared), training_images(params, 0, prepared)[0]
    assert (before[0].labeled, before[0].unlabeled, before[0].num_classes, before[1]) == (9, 1, 2, 5)
    assert vars(before[0]) | {"source": ""} == vars(after[0]) | {"source": ""} and before[1] == after[1]


def test_the_needed_room_is_what_the_files_take(small_set):
    params, _ = small_set
    prepared = prepare_folder(Path(params.data.root), unlabeled=["pool.json"])
    extent = read_extent(params, prepared)
    assert prepared_bytes(params, extent) == (prepared / "images.000.bin").stat().st_size
    with PredictionWriter(prepared, "m", ["a", "b", "c"], scored_size=None) as writer:
        for index in range(extent.judge + extent.test):
            writer.add(index, np.full((4, 6, 3), 1 / 3, np.float32), (4, 6))
    of_one_model = (prepared / "probs.000.bin").stat().st_size
    params = params.model_copy(update={"submission": params.submission.model_copy(update={"size": None})})
    assert prediction_bytes(params, extent) == of_one_model * 2 * 2  # two rounds, two members
    params = params.model_copy(update={"split": params.split.model_copy(update={"train_folds": (0, "all")})})
    tests_alone = of_one_model * extent.test // (extent.judge + extent.test)  # `all` predicts no judge image
    assert prediction_bytes(params, extent) == (of_one_model + tests_alone) * 2 * 2


def test_prepared_data_of_other_parameters_are_not_taken_for_these(small_set):
    params, prepared = small_set
    prepare_folder(Path(params.data.root), unlabeled=["pool.json"])
    assert prepared_fits(params, prepared)
    assert not prepared_fits(params.model_copy(update={"split": split_params(folds=2)}), prepared)
    assert not prepared_fits(params.model_copy(update={"data": PARAMS.data}), prepared)


def test_the_sample_is_known_before_it_is_drawn(tmp_path):
    extent = read_extent(PARAMS, tmp_path / "none")
    sample = PARAMS.sample
    assert (extent.labeled, extent.test, extent.num_classes) == (sample.train + sample.val, sample.test, 12)
    changes = {"data": PARAMS.data.model_copy(update={"val": None}), "split": split_params(folds=5)}
    extent = read_extent(PARAMS.model_copy(update=changes), tmp_path / "none")
    assert (extent.labeled, extent.judge) == (sample.train, sample.train // 5 // 2)


def test_broken_coco_files_leave_the_size_unknown(small_set):
    params, prepared = small_set
    (Path(params.data.root) / "test.json").write_text("{}")
    assert read_extent(params, prepared) is None


def test_a_full_disk_is_bad_and_a_nearly_full_one_a_warning(monkeypatch):
    for free, verdict in ((10**6, "bad"), (2**28 + 10**8, "warn"), (10**12, "ok")):
        monkeypatch.setattr("segpipe.doctor.environment.free_bytes", lambda _, free=free: free)
        assert verdicts(disk_report(PARAMS))["data/"] == verdict


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "src").symlink_to(ROOT / "src")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        (
            "torchvision",
            'raise RuntimeError("operator torchvision::nms does not exist")',
            ("operator torchvision::nms does not exist", "in one command from one index"),
        ),
        ("torch", 'raise ImportError("libtorch.so: cannot open")', ("importing torch fails", "libtorch.so")),
        ("torch", "import os; os._exit(139)", ("ended with code 139",)),
    ],
)
def test_an_environment_whose_torch_is_broken_is_told_so_in_one_line(project, module, text, said):
    broken = project / "broken"
    broken.mkdir()
    (broken / f"{module}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "segpipe.cli", "doctor", "--json"],
        cwd=project,
        env={"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin", "PYTHONPATH": f"{broken}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    [finding] = [finding for finding in found["environment"]["packages"] if finding["topic"] == "torch"]
    assert finding["verdict"] == "bad"
    assert all(part in finding["found"] + finding["advice"] for part in said)
    assert "\n" not in finding["found"] + finding["advice"]
    assert found["members"] == {}, "nothing is measured"
    assert "Traceback" not in done.stderr
