"""What README.md says, held against the files it names."""

import re
from pathlib import Path

import pandas as pd
from documented import PAGES, commands
from dvc.cli import parse_args
from typer.main import get_command

from segpipe.cli import app
from segpipe.stage import read_json

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_result_table_is_the_committed_one():
    table = pd.read_csv(ROOT / "plots/ensemble/candidates.csv")
    expected = [f"| {row['name']} | {row.miou:.3f} | {row.low:.3f} to {row.high:.3f} |" for _, row in table.iterrows()]
    assert [line for line in README.splitlines() if re.match(r"\| [\w-]+ \| 0\.\d{3} \|", line)] == expected


def test_the_camvid_table_is_that_of_its_selection():
    page = (ROOT / "docs/results/camvid/labeled_34/README.md").read_text(encoding="utf-8")
    for row in read_json(ROOT / "docs/results/camvid/labeled_34/selection.json")["candidates"]:
        difference = row["difference"]
        change = f"{difference['difference']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        assert f"| {row['name']} | {row['miou']:.3f} | {interval} | {change} | {difference['verdict']} |" in page


def test_the_share_of_kept_pixels_is_the_committed_one():
    kept = read_json(ROOT / "metrics/pseudo_label/0.json")["kept"]
    assert f"{100 * kept:.1f} % of the pool's pixels" in README.replace("\n", " ")


def test_the_verdicts_are_those_of_the_claims():
    claims = {claim["name"]: claim for claim in read_json(ROOT / "claims/verdicts.json")["claims"]}
    for name in ("dice_focal_as_run", "dice_focal_as_meant"):
        (part,) = claims[name]["evidence"]
        assert f"{part['verdict']}: {part['value']:+.3f} ({part['low']:+.3f} to {part['high']:+.3f})" in README
    (noise,) = claims["noise_floor"]["evidence"]
    said = " ".join(README.split())
    assert f"a standard deviation of {noise['value']:.3f} mIoU and lay up to {noise['largest_gap']:.3f} apart" in said
    assert f"19 times in 20 | {noise['verdict']} |" in README


def test_what_pseudo_labels_gain_is_what_the_claims_have_shown():
    page = (ROOT / "docs/pseudo-labels.md").read_text(encoding="utf-8")
    for folder in ("claims", "claims/camvid"):
        for claim in read_json(ROOT / folder / "verdicts.json")["claims"]:
            if claim["name"].startswith(("pool_", "pseudo_")):
                for part in claim["evidence"]:
                    figures = f"{part['value']:+.3f} ({part['low']:+.3f} to {part['high']:+.3f})"
                    assert f"| {figures} | {part['verdict']} |" in page, (folder, claim["name"])


def test_every_dvc_command_is_one_that_dvc_understands():
    found = [words[1:] for words in commands() if words[0] == "dvc"]
    assert len(found) >= 6
    for words in found:
        parse_args(words)  # exits on an unknown command or option


def test_every_segpipe_command_exists():
    known = set(get_command(app).commands)
    found = {words[1] for words in commands() if words[0] == "segpipe"}
    assert {"check", "wire", "recipe"} <= found <= known


def test_every_make_target_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[1] for words in commands() if words[0] == "make"} <= targets


def test_every_experiment_sets_keys_that_exist():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    keys = {
        word.split("=")[0]
        for words in commands()
        if words[:3] == ["dvc", "exp", "run"]
        for word in words
        if "=" in word
    }
    assert "loss.dice" in keys
    for key in keys:
        section, name = key.split(".")
        block = re.search(rf"^{section}:.*?(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)
        assert block and re.search(rf"^  {name}:", block.group(0), re.MULTILINE), key


def test_every_script_and_link_leads_somewhere():
    for words in commands():
        for word in words:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), word
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
