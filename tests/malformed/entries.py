"""Malformed inputs: images, categories and annotations of a list, and image files."""

from malformed.breaks import (
    annotation,
    category,
    edited,
    image,
    in_both,
    jpeg,
    linked,
    moved,
    several,
    without,
    written,
)
from malformed.case import TEST, TRAIN, VAL, Case, broken, file_name, segmentation
from malformed.project import RLE

NAN, INFINITY = float("nan"), float("inf")
SIDE = "expected an integer from 1 to 16384"
ROOTED = "expected the path of an image within data.root, relative to it"
POINTS = "expected a list of polygons, each a flat list of at least 6 finite numbers"
RUNS = "expected an RLE of size [4, 6] whose runs add up to 24"
WHOLE = "expected a whole image such as JPEG or PNG"
ONCE = "expected ids that occur once"

SECTIONS: dict[str, list[Case]] = {
    "An image of a list": [
        Case("no object", edited("train.json", lambda c: c["images"].append("g")), (f"{TRAIN}images[2]: found 'g'; ",)),
        Case("no id", without("images", "id", 1), (f"{TRAIN}images[1]: 'id' is missing; expected an integer",)),
        Case("an id of text", image("pool.json", id="1"), ("pool.json: images[0]: 'id' is '1'; expected an integer",)),
        Case("an id with a point", image("test.json", id=1.0), (f"{TEST}images[0]: 'id' is 1.0; expected an integer",)),
        Case("an id true", image("test.json", id=True), (f"{TEST}images[0]: 'id' is True; expected an integer",)),
        Case("an id twice", image(id=11), (f"{TRAIN}image 11: 2 images have this id", ONCE)),
        Case("no height", without("images", "height"), (f"{TRAIN}image 10: 'height' is missing", SIDE)),
        Case("no width at all", image(width=0), (f"{TRAIN}image 10: 'width' is 0", SIDE)),
        Case("a huge width", image(width=10**9), (f"{TRAIN}image 10: 'width' is 1000000000", SIDE)),
        Case("a height of text", image(height="4"), (f"{TRAIN}image 10: 'height' is '4'", SIDE)),
        Case("a height that is not a number", image(height=NAN), (f"{TRAIN}image 10: 'height' is nan", SIDE)),
        file_name("no file_name", None, "'file_name' is None; expected the path of an image relative to data.root"),
        file_name("a missing file", "z.png", "file_name 'z.png' does not exist", ROOTED),
        file_name(
            "its folder left out", "a.png", "('images/a.png' does)", ROOTED, break_it=moved("a.png", "images/a.png")
        ),
        file_name("backslashes", "images\\a.png", "does not exist (write / between folders, not \\)"),
        file_name("a folder", "images", "(it is a folder)", ROOTED, break_it=moved("a.png", "images/a.png")),
        file_name("an absolute path", "/etc/hostname", "file_name '/etc/hostname' is an absolute path", ROOTED),
        file_name("a way upwards", "../../x.png", "file_name '../../x.png' leads upwards through '..'", ROOTED),
        file_name(
            "a link out of the folder", "a.png", "leads out of data.root", break_it=linked("a.png", "/etc/hostname")
        ),
        file_name("a circle of links", "a.png", "(a circle of symbolic links)", break_it=linked("a.png", "a.png")),
        file_name("a name too long", "x" * 300, "cannot be looked up (File name too long)"),
        file_name("a line break in the name", "a\n.png", "holds a control character", ROOTED),
        file_name("the name of another image", "./b.png", "2 images have the file_name './b.png'"),
    ],
    "A category": [
        Case("an id of text", category(id="7"), (f"{TRAIN}categories[1]: 'id' is '7'; expected an integer",)),
        Case("an id twice", category(id=2), (f"{TRAIN}category 2: 2 categories have this id", ONCE)),
        Case("a name twice", category(name="Glass"), (f"{TRAIN}category 7: 2 categories have the name 'Glass'",)),
        Case("a line break", category(name="Pa\nper"), (f"{TRAIN}category 7: 'name' is 'Pa\\nper', which holds",)),
        Case("no name", category(name=" "), (f"{TRAIN}category 7: 'name' is ' '; expected the name of the category",)),
        Case(
            "the background's name",
            in_both(lambda content: content["categories"][0].update(name="Background")),
            ("a category is named 'Background'", "Rename the category, or set data.background: ignore"),
        ),
        Case(
            "more than 8 bits can hold",
            in_both(lambda content: content["categories"].extend({"id": i, "name": f"n{i}"} for i in range(100, 400))),
            ("the class table has 303 classes, but targets of 8 bits hold at most 254",),
        ),
        Case(
            "others in the validation file",
            edited("val.json", lambda c: c["categories"].append({"id": 9, "name": "Metal"})),
            (
                f"{VAL}'categories': the list adds 9 'Metal'",
                "expected the names of data/raw/mine/train.json, or each na",
            ),
        ),
        Case(
            "fewer in the validation file",
            edited("val.json", lambda c: c["categories"].pop()),
            (f"{VAL}'categories': the list lacks 'Paper'", "or objects pass for background"),
        ),
        Case(
            "a class that only the validation file has",
            edited("val.json", lambda c: c["categories"].append({"id": 9, "name": "Metal"})),
            ("data.classes: no file of data.train has a category of 'Metal'", "or nothing is trained on it"),
            {"data.classes": ["Glass", "Metal", "Paper"], "data.background": "ignore"},
        ),
    ],
    "An annotation": [
        Case("no id", without("annotations", "id"), (f"{TRAIN}annotations[0]: 'id' is missing; expected an integer",)),
        Case("an id twice", annotation(id=101), (f"{TRAIN}annotation 101: 2 annotations have this id", ONCE)),
        Case(
            "an image that is not listed",
            annotation(image_id=99),
            (f"{TRAIN}annotation 100: image_id is 99, which 'images' does not list; expected the id of",),
        ),
        Case(
            "an image_id of text", annotation(image_id="10"), (f"{TRAIN}annotation 100: 'image_id' is '10'; expected",)
        ),
        Case(
            "a category that is not listed",
            annotation(category_id=99),
            (f"{TRAIN}annotation 100: category_id is 99, which 'categories' does not list; expected one of [2, 7]",),
        ),
        Case("no category", annotation(category_id=None), (f"{TRAIN}annotation 100: 'category_id' is None; expected",)),
        Case("half a crowd", annotation(iscrowd=2), (f"{TRAIN}annotation 100: 'iscrowd' is 2; expected 0 or 1",)),
        Case(
            "a bbox only",
            several(annotation(bbox=[0, 0, 2, 2]), without("annotations", "segmentation")),
            (f"{TRAIN}annotation 100: 'segmentation' is missing (its bbox says nothing of pixels); expected polygons",),
        ),
        segmentation("no polygon", [], "the list of polygons is empty", POINTS),
        segmentation("text", "0 0 2 2", "the segmentation is '0 0 2 2', neither polygons nor an RLE", POINTS),
        segmentation("a flat list", [0, 0, 2, 0, 2, 2], "the segmentation is one flat list of 6 numbers", POINTS),
        segmentation("a list of points", [[[0, 0], [2, 0], [2, 2]]], "polygon 0 holds [0, 0], which is not a", POINTS),
        segmentation("two points", [[0, 0, 2, 2]], "polygon 0 has 4 numbers, fewer than 3 points", POINTS),
        segmentation("one point thrice", [[2, 2] * 3], "polygon 0 has no area: only 1 different point", POINTS),
        segmentation("two points, one twice", [[0, 0, 2, 2, 2, 2]], "no area: only 2 different points", POINTS),
        segmentation("a line", [[0, 0, 2, 1, 4, 2]], "polygon 0 has no area: all points lie on one line", POINTS),
        segmentation("half a point", [[0, 0, 2, 0, 2, 2, 1]], "polygon 0 has 7 numbers, an odd count", POINTS),
        segmentation("text in a polygon", [[0, 0, 2, 0, 2, "2"]], "polygon 0 holds '2', which is not a number", POINTS),
        segmentation(
            "NaN", [[0, 0, NAN, 0, 2, 2]], "polygon 0 has a point whose x is nan, which is not finite", POINTS
        ),
        segmentation("Infinity", [[0, 0, 2, INFINITY, 2, 2]], "a point whose y is inf, which is not finite", POINTS),
        segmentation(
            "far outside", [[0, 0, 1e9, 0, 2, 2]], "whose x is 1000000000.0, which lies too far", "x from -6 to"
        ),
        segmentation("an endless outline", [[0, 0, 6, 4] * 2000], "polygon 0 has an outline of 24000 pixels", POINTS),
        segmentation(
            "an RLE of another size", RLE | {"size": [6, 4]}, "the RLE's size is [6, 4], not the image's", RUNS
        ),
        segmentation(
            "runs that miss pixels", RLE | {"counts": [2, 3]}, "the RLE's runs add up to 5 pixels, not to", RUNS
        ),
        segmentation("a negative run", RLE | {"counts": [-2, 26]}, "the RLE has a run of -2 pixels", RUNS),
        segmentation("a cut compressed RLE", RLE | {"counts": "h0h"}, "the compressed counts are cut off", RUNS),
        segmentation("an RLE without counts", {"size": [4, 6]}, "the RLE's counts are None", RUNS),
    ],
    "An image file": [
        broken("empty", b"", "is an empty file", WHOLE),
        broken("text renamed", b"no image at all", "cannot be decoded: it is of another format or damaged (15", WHOLE),
        broken(
            "cut off", jpeg(64, 64)[:500], "cannot be decoded: it begins as a JPEG but is cut off or damaged", WHOLE
        ),
        broken("of another size", jpeg(5, 6), "has height 5 and width 6", "expected height 4 and width 6, as the ann"),
        broken(
            "turned by EXIF", jpeg(4, 6, orientation=6), "has height 6 and width 4 (after the rotation that its EXIF"
        ),
        Case(
            "a test image under skip",
            written("x.png", b"no image at all"),
            (f"{TEST}image 10: x.png cannot be decoded", "Mend the above."),
            {"data.on_problem": "skip"},
        ),
        Case(
            "every training image under skip",
            several(written("a.png", b""), written("b.png", b"")),
            (
                "data.train: no sound image is left",
                "skip leaves out what has 2 problems",
                f"{TRAIN}image 11: b.png is an",
            ),
            {"data.on_problem": "skip"},
        ),
    ],
}
