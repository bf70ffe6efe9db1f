"""Malformed inputs: params.yaml, annotation files as a whole, lists that do not go together."""

import gzip

from malformed.breaks import (
    copied,
    edited,
    image,
    labelled,
    params_text,
    recoded,
    removed,
    replaced,
    several,
    written,
)
from malformed.case import TEST, TRAIN, VAL, Case, params, unreadable
from malformed.project import COMMITTED


def double_key(content: bytes) -> bytes:
    return content.replace(b'"height": 4', b'"height": 8, "height": 4', 1)


FOLDS = "data/raw/mine/folds.csv: "
GIVEN = b"file_name,fold\na.png,0\nb.png,0\nc.png,0\nd.png,1\ne.png,1\nf.png,1\n"
ONE_ALONE = GIVEN.replace(b",0", b",1").replace(b"a.png,1", b"a.png,0")
HALVES = GIVEN.replace(b"\n", b",\n").replace(b"fold,", b"fold,half").replace(b"a.png,0,", b"a.png,0,tune")


OF_VAL = [{"id": 20 + i, "file_name": f"{stem}.png", "height": 4, "width": 6} for i, stem in enumerate("cdef")]


def folds(mistake: str, content: bytes | None, *says: str) -> Case:
    """A case where `split.file` is wrong for a training list of six images, a.png to f.png."""
    file = [written("folds.csv", content)] if content is not None else []
    listed = edited("train.json", lambda coco: coco["images"].extend(OF_VAL))
    return Case(mistake, several(listed, *file), says, {"data.val": None, "split.file": "folds.csv"})


LEAK = "scores would come from training images"
LABELED = "one with true labels needs no pseudo label, so take it out of data.unlabeled"
TWO_SCENES = "expected two: one half tunes and the other judges"

SECTIONS: dict[str, list[Case]] = {
    "params.yaml": [
        Case(
            "not YAML",
            params_text(lambda _: "loss: {dice: ["),
            ("params.yaml: not valid YAML: expected the node content, but found", "(line 1, column 15)"),
        ),
        Case(
            "a key twice",
            params_text(lambda _: "seed: 0\nseed: 1\n"),
            ('params.yaml: not valid YAML: found duplicate key "seed"', "(line 2, column 1)"),
        ),
        params("an unknown key", "data.trian", "x.json", "data.trian: unknown key; did you mean data.train?"),
        params(
            "text where one of a few words belongs",
            "data.on_problem",
            "skipp",
            "data.on_problem: found 'skipp'; allowed: stop, skip; did you mean skip?",
        ),
        params("text where a number belongs", "split.judge_fraction", "0.5", "split.judge_fraction: found '0.5'; "),
        params(
            "no finite number", "optimizer.lr", float("inf"), "optimizer.lr: found inf; input should be a finite number"
        ),
        params("one number for a size", "data.image_size", [128], "data.image_size: found [128]; expected two numbers"),
        params(
            "a letterbox without a box",
            "data",
            COMMITTED["data"] | {"image_size": None, "resize": "letterbox"},
            "data.resize: 'letterbox' fits images into data.image_size, which is empty; give it, or choose stretch",
        ),
        params(
            "an empty name of a file", "data.train", "", "data.train.0: found ''; string should have at least 1 cha"
        ),
        params("no training file", "data.train", None, "data.train: None is no file; expected the name of one, or a"),
        params("an empty list of files", "data.test", [], "data.test: [] is no file; expected the name of one, or a"),
        params("no validation, no folds", "data.val", None, "data.val, split.folds, split.file: all are empty"),
        params("a pattern that is none", "split.group_by", "(a", "split.group_by: '(a' is not a regular expression"),
        params(
            "a folder that is not there",
            "data.root",
            "data/raw/other",
            "data.root: 'data/raw/other' does not exist; expected the folder that holds the COCO files",
        ),
        params(
            "a file in place of the folder",
            "data.root",
            "data/raw/mine/train.json",
            "data.root: 'data/raw/mine/train.json' is no folder",
        ),
        params(
            "a misspelt file",
            "data.train",
            "trian.json",
            "data.train: 'trian.json' does not exist in data/raw/mine",
            "expected a COCO file in data/raw/mine, which holds pool.json, test.json, train.json, val.json",
        ),
        params("a folder in place of a file", "data.test", ".", "data.test: '.' is a folder; expected a COCO file in"),
        params(
            "a file outside data.root",
            "data.val",
            "../../../params.yaml",
            "data.val: '../../../params.yaml' leads out of data.root, data/raw/mine: DVC would not see the file change",
        ),
        params(
            "one file for training and validation",
            "data.val",
            "train.json",
            "data.val: 'train.json' is the file of data.train, too; expected lists that share no image",
        ),
        params(
            "one file for training and the pool",
            "data.unlabeled",
            "train.json",
            "data.unlabeled: 'train.json' is the file of data.train, too; expected lists that share no image: ",
            LABELED,
        ),
        params(
            "no image of the pool used",
            "pseudo_label.keep",
            0,
            "pseudo_label.keep: found 0; input should be greater than 0",
        ),
        params(
            "no epoch for pseudo labels",
            "retrain",
            COMMITTED["retrain"] | {"epochs": 2, "finetune_epochs": 2},
            "retrain.finetune_epochs: found 2, which leaves none of the 2 epochs of retrain.epochs to the pseudo ",
        ),
        params(
            "a weight that rises for longer than there are pseudo labels",
            "retrain",
            COMMITTED["retrain"] | {"epochs": 4, "finetune_epochs": 1, "ramp_epochs": 4},
            "retrain.ramp_epochs: found 4, so that the weight of pseudo labels never reaches retrain.pseudo_weight",
            "expected at most 3, the epochs with pseudo labels",
        ),
        params(
            "one file twice in a list", "data.train", ["train.json"] * 2, "'train.json' is named twice in data.train"
        ),
        params(
            "a misspelt class",
            "data.classes",
            ["Glas", "Paper"],
            "data.classes leaves out ['Glass']; names 'Glas', which is no category (did you mean 'Glass'?)",
            "The categories are those of data/raw/mine/train.json",
        ),
        params(
            "the background among the classes",
            "data.classes",
            ["Background", "Glass", "Paper"],
            "data.classes names 'Background', which is no category (data.background: class adds it by itself",
        ),
        params(
            "a class twice", "data.classes", ["Glass", "Paper", "Paper"], "data.classes names ['Paper'] more than once"
        ),
        params(
            "a category merged and left out in other words",
            "data.classes",
            [{"Bottle": ["Glass", "Jar"]}],
            "data.classes leaves out ['Paper']; names 'Jar', which is no category.",
            "Expected each category of the annotation files exactly once in data.classes, data.drop or data.ignore: ",
        ),
        params(
            "one name for two classes",
            "data.classes",
            ["Paper", {"Paper": ["Glass"]}],
            "data.classes calls more than one class ['Paper']; expected each class name once",
        ),
        params(
            "a class called as the background is",
            "data.classes",
            ["Paper", {"Background": ["Glass"]}],
            "data.classes calls a class 'Background', and data.background: class adds one of that name",
            "or name its categories in data.drop: they become background",
        ),
        params(
            "a class without categories",
            "data.classes",
            ["Paper", {"Bottle": []}],
            "data.classes.1: the class 'Bottle' has [] for its categories; expected the names of some",
        ),
        params(
            "two classes in one entry",
            "data.classes",
            [{"Bottle": ["Glass"], "Card": ["Paper"]}],
            "data.classes.0: found {'Bottle': ['Glass'], 'Card': ['Paper']}; expected one new name an",
        ),
        params("a number for a class", "data.classes", ["Glass", 7], "data.classes.1: 7 is no text; put it in quotes"),
        params("no name to drop", "data.drop", [" "], "data.drop.0: ' ' is blank"),
        params(
            "a misspelt category to drop",
            "data.drop",
            ["Papper"],
            "data.drop names 'Papper', which is no category (did you mean 'Paper'?)",
        ),
        Case(
            "a category that has a class, dropped and ignored too",
            None,
            ("data.drop names 'Glass', as does data.classes. data.ignore names 'Glass', as does data.drop.",),
            {"data.classes": ["Glass", "Paper"], "data.drop": ["Glass"], "data.ignore": ["Glass"]},
        ),
        params(
            "every category left out",
            "data.ignore",
            ["Glass", "Paper"],
            "name every category there is, ['Glass', 'Paper']",
        ),
    ],
    "An annotation file as a whole": [
        Case(
            "missing, and another one too",
            removed("train.json", "val.json"),
            ("data.train: 'train.json' does not exist", "data.val: 'val.json' does not exist"),
        ),
        unreadable("empty", written("train.json", b""), "the file is empty"),
        unreadable("a CSV", written("train.json", b"id,name\n1,Glass\n"), "is not JSON (", "line 1, column 1)"),
        unreadable("cut off", recoded("train.json", lambda content: content[:200]), "is not JSON (", "line 1, column"),
        unreadable("compressed", recoded("train.json", gzip.compress), "is compressed (gzip): unpack it"),
        unreadable(
            "not UTF-8",
            recoded("train.json", lambda content: content.replace(b"a.png", b"\xe4.png")),
            "is not UTF-8 text (byte 0xe4 at position 37)",
        ),
        unreadable("nested without end", written("train.json", b"[" * 100_000), "is nested too deeply"),
        unreadable(
            "an endless number",
            written("train.json", b'{"images": ' + b"9" * 5000 + b"}"),
            "holds an integer of more than 4300 digits",
        ),
        unreadable(
            "a key twice", recoded("train.json", double_key), "the object with id 10 has the key 'height' twice"
        ),
        unreadable("a list of results", written("train.json", b"[]"), "holds a JSON list"),
        unreadable(
            "no images",
            edited("train.json", lambda content: content.pop("images")),
            "a JSON object without 'images' (its keys: ['annotations', 'categories'])",
        ),
        unreadable("images by name", replaced("images", {"a": 1}), "the file has {'a': 1} under 'images'"),
        Case(
            "an empty training set",
            several(replaced("images", []), replaced("annotations", [])),
            (f"{TRAIN}'images': the list is empty", "expected at least one entry"),
        ),
        Case(
            "an empty test set",
            replaced("images", [], "test.json"),
            (f"{TEST}'images': the list is empty",),
        ),
        Case(
            "no annotations",
            edited("train.json", lambda content: content.pop("annotations")),
            (f"{TRAIN}'annotations': the key is missing; expected a list, because the file is read as a labelled one",),
        ),
        Case(
            "text for a list", replaced("categories", "Glass"), (f"{TRAIN}'categories': found 'Glass'; expected a li",)
        ),
        Case("no category", replaced("categories", []), (f"{TRAIN}'categories': the list is empty",)),
        Case(
            "nothing annotated where background is ignored",
            replaced("annotations", []),
            (f"{TRAIN}'annotations': no image has an annotation", "with data.background: ignore no pixel of the file"),
            {"data.background": "ignore"},
        ),
    ],
    "Lists and scenes": [
        Case(
            "an image in two files of a list",
            several(labelled("pool.json"), image("pool.json", file_name="a.png")),
            ("pool.json: image 10: found 'a.png'; expected an image that data/raw/mine/train.json does not list",),
            {"data.train": ["train.json", "pool.json"], "data.unlabeled": None},
        ),
        Case("an image in two lists", image("val.json", file_name="b.png"), (f"{VAL}image 10: found 'b.png'", LEAK)),
        Case(
            "the same in other words", image("pool.json", file_name="./b.png"), ("pool.json: image 10: found", LABELED)
        ),
        Case(
            "a copy of a training image",
            copied("b.png", "x.png"),
            (f"{TEST}image 10: x.png is a byte-identical copy of b.png in data.train; expected images of its own",),
        ),
        Case(
            "a copy of a training image in the pool",
            copied("b.png", "p.png"),
            ("pool.json: image 10: p.png is a byte-identical copy of b.png in data.train; expected images of its own",),
        ),
        params(
            "a pattern that finds nothing",
            "split.group_by",
            r"seq(\d+)",
            r"split.group_by: the pattern 'seq(\\d+)' finds no scene in 10 of 10 file names (such as a.png, b.png, c.p",
        ),
        params(
            "one scene in all images",
            "split.group_by",
            r"(\.png)",
            "found 1 scene both in judge images and",
        ),
        Case(
            "one validation image",
            edited("val.json", lambda c: c.update(images=c["images"][:1], annotations=c["annotations"][:1])),
            ("split.judge_fraction: found one group of images ('c.png') to hold out", TWO_SCENES),
        ),
        Case(
            "more folds than images",
            None,
            ("split.folds: found 2 groups of images for 5 folds; expected two, to tune and to judge, for each",),
            {"data.val": None, "split.folds": 5},
        ),
        Case(
            "scenes shared with the judge",
            labelled("pool.json"),
            ("split.group_by: found 1 scene both in judge images and in training or tuning images (such as .png)",),
            {"data.judge": "pool.json", "data.unlabeled": None, "split.group_by": r"(\.png)"},
        ),
    ],
    "Folds from a file": [
        folds(
            "no such file", None, "params.yaml: split.file: 'folds.csv' does not exist in data/raw/mine; expected a CSV"
        ),
        folds(
            "no table", b"a.png\nb.png\n", f"{FOLDS}line 1: the header 'a.png' lacks file_name, fold; expected the col"
        ),
        folds(
            "a misspelt column", b"file_name,fold,haf\n", f"{FOLDS}line 1: the header names 'haf'; expected the columns"
        ),
        folds(
            "an unknown image", GIVEN + b"z.png,0\n", f"{FOLDS}line 8: found 'z.png'; expected an image that data.train"
        ),
        folds("an image twice", GIVEN + b"c.png,0\n", f"{FOLDS}line 8: found 'c.png' again; expected each image once"),
        folds(
            "an image is missing", GIVEN[:-8], f"{FOLDS}1 of 6 images of data.train are not in it ('f.png'); expected"
        ),
        folds(
            "a fold that is no number", GIVEN[:-2] + b"A\n", f"{FOLDS}line 7: the fold of 'f.png' is 'A'; expected a w"
        ),
        folds(
            "a fold is left out", GIVEN.replace(b",1", b",2"), f"{FOLDS}no image has fold 1, but some have 2; expected"
        ),
        folds(
            "all in one fold", GIVEN.replace(b",1", b",0"), f"{FOLDS}one fold holds every image out; expected images"
        ),
        folds(
            "a fold of one image", ONE_ALONE, "split.judge_fraction: found one group of images ('a.png') to hold out"
        ),
        folds("some halves", HALVES, f"{FOLDS}fold 0: 2 of 3 images have no half; expected halves for all of them"),
    ],
}
