"""dvc.yaml against params.yaml, the imports, .gitignore and the order of the house."""

import ast
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.ensemble.candidates import ROUNDS, list_candidates
from segpipe.params import OVERRIDABLE, Params, candidate_names, load_params
from segpipe.sources import code_deps
from segpipe.stage import write_json
from segpipe.training.check import unlisted_weights
from segpipe.wire import check_wired, expected_deps, left_behind, member_deps, plots, wire, wiring_problems

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = load_params(ROOT / "params.yaml")
# data meets the modules in this order; a module imports only from its own group and those before it
HOUSE = [
    ["params"],
    ["labels", "libraries", "progress", "sources", "stage", "state", "interrupt"],
    ["data"],
    ["models"],
    ["losses"],
    ["metrics", "tables", "drawing"],
    ["inference"],
    ["pseudo"],
    ["training"],
    ["ensemble"],
    ["strips", "submission"],
    ["score"],
    ["report"],
    ["wire", "recipe", "viewer", "provenance"],
    ["claims", "doctor"],
    ["show"],
    ["cli"],
]


def outs_of(stage: dict) -> list[str]:
    return [
        next(iter(out)) if isinstance(out, dict) else out
        for out in stage["outs"] + stage.get("metrics", []) + stage.get("plots", [])
    ]


def instances(name: str) -> list[dict[str, str]]:
    """The substitutions of a stage's matrix, as DVC makes them from the committed params.yaml."""
    matrix = PIPELINE["stages"][name].get("matrix")
    if not matrix:
        return [{}]
    values = {"${member_names}": PARAMS.member_names, "${split.train_folds}": PARAMS.split.train_folds}
    axes = {axis: value if isinstance(value, list) else values[value] for axis, value in matrix.items()}
    made = []
    for combination in product(*axes.values()):
        item = dict(zip(axes, map(str, combination), strict=True))
        made.append({f"item.{axis}": value for axis, value in item.items()} | {"key": "-".join(item.values())})
    return made


def resolved(text: str, names: dict[str, str]) -> str:
    names = names | {"data.root": PARAMS.data.root}
    return re.sub(r"\$\{([^}]+)\}", lambda match: names[match.group(1)], text)


def test_lists_in_dvc_yaml_are_what_segpipe_wire_writes():
    found = {name: stage["deps"] for name, stage in PIPELINE["stages"].items()}
    assert found == expected_deps(PARAMS, PIPELINE, ROOT)
    assert PIPELINE["plots"] == plots(PARAMS)


def test_every_plot_has_a_template_of_our_own():
    drawn = [
        options
        for stage in PIPELINE["stages"].values()
        for plot in stage.get("plots", [])
        for options in (plot.values() if isinstance(plot, dict) else [])
    ]
    drawn += [options for definition in PIPELINE["plots"] for options in definition.values()]
    templates = {path.stem for path in (ROOT / ".dvc/plots").glob("*.json")}
    assert {options["template"] for options in drawn} == templates


def test_every_data_dep_is_exactly_an_out():
    outs = {
        resolved(out, names)
        for name, stage in PIPELINE["stages"].items()
        for names in instances(name)
        for out in outs_of(stage)
    }
    for name, stage in PIPELINE["stages"].items():
        for names in instances(name):
            deps = [resolved(dep, names) for dep in stage["deps"]]
            unknown = [dep for dep in deps if dep not in outs and not (ROOT / dep).is_file()]
            assert not unknown, f"{name} {names}: {unknown}"


def test_every_out_stands_in_the_command_or_below_a_folder_that_does():
    for name, stage in PIPELINE["stages"].items():
        for out in outs_of(stage):
            assert out in stage["cmd"].split(), f"{name} declares {out} but is not told of it"


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_a_stage_asks_for_params_that_exist(name):
    raw = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for names in instances(name):
        for key in PIPELINE["stages"][name]["params"]:
            node = raw
            for part in resolved(key, names).split("."):
                assert part in node, f"{name}: {key}"
                node = node[part]


def test_every_section_is_asked_for_by_a_stage_that_does_work():
    asked = {
        key.split(".")[0] for name, stage in PIPELINE["stages"].items() if name != "report" for key in stage["params"]
    }
    # tracking only listens: changing it must re-run nothing
    assert asked == set(Params.model_fields) - {"tracking"}


def test_a_training_stage_asks_for_every_section_a_member_may_override():
    assert set(OVERRIDABLE) <= {key.split(".")[0] for key in PIPELINE["stages"]["retrain"]["params"]}
    assert "members.${item.member}" in PIPELINE["stages"]["baseline"]["params"]


def test_every_stage_has_a_description_and_runs_this_tree():
    for name, stage in PIPELINE["stages"].items():
        assert stage["desc"], name
        assert stage["cmd"].startswith("PYTHONPATH=src python stages/"), name
        script = stage["cmd"].split()[2]
        assert (ROOT / script).is_file()
        assert "open_stage(__file__" in (ROOT / script).read_text(encoding="utf-8")


def test_git_ignores_each_cached_out_and_no_folder_above_user_data():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for stage in PIPELINE["stages"].values():
        for out in stage["outs"] + stage.get("plots", []):
            if isinstance(out, str):
                assert any(f"/{out}/".startswith(line) for line in ignored if line.startswith("/")), out
    assert not {"/data/", "/data/*", "/data/raw/", "data/", "*"} & set(ignored)
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()


def test_metrics_are_one_small_uncached_file_for_each_instance():
    declared = [metric for stage in PIPELINE["stages"].values() for metric in stage.get("metrics", [])]
    assert all(options == {"cache": False} for metric in declared for options in metric.values())
    rows = sum(len(instances(name)) * len(stage.get("metrics", [])) for name, stage in PIPELINE["stages"].items())
    models = len(PARAMS.member_names) * len(PARAMS.split.train_folds)
    # two rounds of models, a share kept for each fold, the headline: half a dozen rows for two members
    assert rows == 2 * models + len(PARAMS.split.train_folds) + 1


def test_only_the_stages_that_decide_and_report_open_judge_targets():
    opened = {path.name for path in (ROOT / "stages").glob("*.py") if "judge=True" in path.read_text(encoding="utf-8")}
    assert opened == {"ensemble.py"}
    in_library = {
        path.relative_to(ROOT / "src/segpipe").parts[0]
        for path in (ROOT / "src/segpipe").rglob("*.py")
        if "judge=True" in path.read_text(encoding="utf-8")
    }
    assert in_library <= {"report", "score", "claims", "data"}  # data: the message that says so


def test_stages_that_need_no_torch_do_not_import_it():
    heavy = ("torch", "timm", "segmentation_models_pytorch", "lightning_fabric", "albumentations")
    for stage in ("sample", "prepare", "pseudo_label", "ensemble", "report"):
        for path in code_deps(ROOT / "stages" / f"{stage}.py", ROOT / "src"):
            imported = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
                for name in (
                    [a.name for a in node.names]
                    if isinstance(node, ast.Import)
                    else [getattr(node, "module", None) or ""]
                )
            }
            assert not imported & set(heavy), f"{stage} imports {imported & set(heavy)} through {path}"


def test_packages_init_files_hold_no_code():
    for path in (ROOT / "src").rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.parent.name == "params":
            continue  # exempt from deps altogether: it holds no defaults
        assert all(isinstance(node, ast.Expr) for node in body), f"{path} is in no stage's deps, so it must stay empty"


def test_a_module_imports_only_from_its_own_group_and_those_before_it():
    rank = {module: position for position, group in enumerate(HOUSE) for module in group}
    for path in (ROOT / "src/segpipe").rglob("*.py"):
        own = path.relative_to(ROOT / "src/segpipe").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        text = path.read_text(encoding="utf-8")
        for imported in re.findall(r"(?:from|import) segpipe\.(\w+)", text):
            assert rank[imported] <= rank[own], f"{path.name} imports segpipe.{imported}, which stands after {own}"


def test_candidates_have_the_names_that_params_allow():
    for members in (("main",), ("main", "second"), ("a", "b", "c")):
        assert [candidate.name for candidate in list_candidates(members)] == candidate_names(members)
    assert ROUNDS == ("baseline", "retrain")


def test_wire_follows_members_and_folds(tmp_path):
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    for folder in ("src", "stages"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    changed = PARAMS.model_copy(
        update={
            "member_names": ("main",),
            "split": PARAMS.split.model_copy(update={"train_folds": (0, 1)}),
        }
    )
    with pytest.raises(ValueError, match="segpipe wire"):
        check_wired(changed, tmp_path / "dvc.yaml")
    assert wire(changed, tmp_path / "dvc.yaml") == ["teach", "ensemble", "report", "plots"]
    check_wired(changed, tmp_path / "dvc.yaml")
    written = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    assert "data/predictions/retrain-main-1" in written
    assert "second-0" not in written
    assert written.startswith("# The pipeline."), "comments are kept"
    assert wire(changed, tmp_path / "dvc.yaml") == [], "a second call changes nothing"
    assert member_deps(changed)["teach"] == ["data/prepared", "data/models/baseline/main-${item.fold}"]


def test_teach_depends_on_those_that_teach_and_runs_on_no_other_lists(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    for folder in ("src", "stages"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    one = PARAMS.model_copy(update={"teach": PARAMS.teach.model_copy(update={"members": ("second",)})})
    wrong = r"stage teach does not fit .*teach\.members.* no longer wanted: .*baseline/main-.*run `segpipe wire`"
    with pytest.raises(ValueError, match=wrong):
        check_wired(one, tmp_path / "dvc.yaml")
    assert wire(one, tmp_path / "dvc.yaml") == ["teach"]
    check_wired(one, tmp_path / "dvc.yaml")
    stages = yaml.safe_load((tmp_path / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    baselines = [dep for dep in stages["teach"]["deps"] if dep.startswith("data/models/")]
    assert baselines == ["data/models/baseline/second-${item.fold}"]
    assert stages["retrain"] == PIPELINE["stages"]["retrain"], "all members learn"


def test_what_dropped_members_and_folds_leave_behind_is_named_with_the_command_that_removes_it(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    for folder in ("src", "stages"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for name in ("baseline/main-0", "baseline/second-0", "retrain/second-0", "pseudo_label/0", "pseudo_label/1"):
        write_json(tmp_path / f"metrics/{name}.json", {})
        write_json(tmp_path / f"plots/{name}/history.csv", {})
    monkeypatch.chdir(tmp_path)
    one = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"member_names": ["main"], "members": {"main": {}}}
    Path("params.yaml").write_text(yaml.dump(one | {"ensemble": one["ensemble"] | {"rule": "best"}}))
    said = CliRunner().invoke(app, ["wire"], catch_exceptions=False).output.splitlines()[-1]
    assert said.startswith("metrics and plots of 1, second-0 stay until you `rm -r ")
    subprocess.run(["sh", "-c", said.split("`")[1]], check=True)
    left = sorted(path.name for folder in ("metrics", "plots") for path in Path(folder).glob("*/*"))
    assert left == ["0", "0.json", "main-0", "main-0.json"]
    assert left_behind(load_params()) == []


def test_files_of_encoder_weights_are_dependencies_of_the_stages_that_train(tmp_path):
    def with_weights(shared: str | None, second: str | None) -> Params:
        model = PARAMS.model.model_copy(update={"encoder_weights": shared})
        members = PARAMS.members | {"second": {"model": {"encoder_weights": second}}}
        return PARAMS.model_copy(update={"model": model, "members": members})

    for folder in ("src", "stages"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    copy = tmp_path / "dvc.yaml"
    shutil.copy(ROOT / "dvc.yaml", copy)
    before = copy.read_text(encoding="utf-8")
    files = with_weights("weights/b3.safetensors", "data/weights/own")
    assert len(unlisted_weights(files, "baseline", copy)) == 2
    assert "weights/b3.safetensors is no dependency of retrain" in unlisted_weights(files, "retrain", copy)[1]
    assert wiring_problems(files, copy) == [
        f"{copy}: the lists of baseline, retrain do not fit params.yaml and the code: run `segpipe wire`"
    ]
    assert wire(files, copy) == ["baseline", "retrain"] and unlisted_weights(files, "baseline", copy) == []
    deps = yaml.safe_load(copy.read_text())["stages"]["retrain"]["deps"]
    assert deps[-6:] == [
        "data/prepared",
        "data/pseudo/${item.fold}",
        "data/soft/${item.fold}",
        "data/models/baseline/${key}",
        "data/weights/own",
        "weights/b3.safetensors",
    ]
    assert wire(files, copy) == [], "a second call changes nothing"
    assert wire(with_weights("imagenet", None), copy) == ["baseline", "retrain"]
    assert copy.read_text(encoding="utf-8") == before, "tags are no files"


def test_a_sample_submission_is_read_by_the_stage_that_writes():
    given = PARAMS.model_copy(update={"submission": PARAMS.submission.model_copy(update={"sample": "sample.csv"})})
    assert member_deps(given)["ensemble"] == [*member_deps(PARAMS)["ensemble"], "${data.root}/sample.csv"]


def with_folds(*folds) -> Params:
    return PARAMS.model_copy(update={"split": PARAMS.split.model_copy(update={"train_folds": folds})})


def test_wire_asks_no_score_of_the_fold_all():
    beside = {title: plot for drawn in plots(with_folds(0, "all")) for title, plot in drawn.items()}
    histories = {title: list(plot["y"]) for title, plot in beside.items() if plot["template"] == "seg_curves"}
    assert "plots/baseline/main-all/history.csv" in histories["Training loss"]
    assert set(histories["mIoU on tune images"]) == {y for y in histories["Training loss"] if "-all/" not in y}
    alone = [title for drawn in plots(with_folds("all")) for title in drawn]
    assert alone == ["Training loss", "Learning rate"]
    report = member_deps(with_folds("all"))["report"]
    assert {"data/predictions/retrain-main-all", "data/pseudo/all", "metrics/baseline/main-all.json"} <= set(report)


def test_params_yaml_is_written_as_dvc_writes_it(tmp_path):
    original = (ROOT / "params.yaml").read_text(encoding="utf-8")
    copy = tmp_path / "params.yaml"
    copy.write_text(original, encoding="utf-8")
    apply_overrides(str(copy), ["train.epochs=123"])  # what `dvc exp run -S` does
    before, after = original.splitlines(), copy.read_text(encoding="utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [(f"  epochs: {PARAMS.train.epochs}", "  epochs: 123")]


def test_classes_merged_on_the_command_line_of_dvc_are_read_back(tmp_path):
    copy = tmp_path / "params.yaml"
    copy.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    merged = "data.classes=[{Paper:[Paper,Paper pack]},Glass,{Old clothes:Clothing}]"
    apply_overrides(str(copy), [merged, "data.drop=[UNKNOWN,Battery]", "data.ignore=[]", "data.train=[a.json,b.json]"])
    data = load_params(copy).data
    assert data.classes == ({"Paper": ("Paper", "Paper pack")}, "Glass", {"Old clothes": ("Clothing",)})
    assert (data.drop, data.ignore, data.train) == (("UNKNOWN", "Battery"), (), ("a.json", "b.json"))


def test_no_stage_has_an_uncached_out_that_would_switch_off_the_run_cache():
    for name, stage in PIPELINE["stages"].items():
        assert all(isinstance(out, str) for out in stage["outs"]), f"{name}: declare it under metrics or plots"
