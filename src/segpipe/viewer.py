"""The page that `dvc plots` fills: its scripts stand in the page itself, so that it opens without a network.

DVC's own page loads them from a content delivery network and stays blank offline. This one is made from a package that
is installed anyway, is not in git (0.9 MB), and is named in `.dvc/config.local` only, so that a clone without it falls
back to DVC's own page.
"""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import vl_convert
from dvc.config import Config

VEGA_LITE = "6.1"  # reads the version 5 of the templates; 5.x in this package warns about its own Vega
PAGE = Path("plots/page.html")  # below .dvc, as DVC reads plots.html_template
_HERE = Path(__file__)
_MARK = "<!-- viewer scripts -->"


def write_viewer(root: Path = Path()) -> Path:
    """Write the page below `root`/.dvc, name it in the local configuration, return its path; the same each time.

    Raises FileNotFoundError where `root` is not the top folder of a DVC project.
    """
    folder = root / ".dvc"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: not found; run `segpipe viewer` in the top folder of the project")
    path = folder / PAGE
    path.parent.mkdir(exist_ok=True)
    path.write_text(viewer_page(), encoding="utf-8", newline="\n")
    with Config(dvc_dir=str(folder)).edit("local") as local:
        local.setdefault("plots", {})["html_template"] = PAGE.as_posix()
    return path


def viewer_page() -> str:
    """The page with its scripts, the only ones that may run; `{plot_divs}` and `{refresh_tag}` are DVC's to fill."""
    bundle = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub asks for more
    own = _HERE.with_suffix(".js").read_text(encoding="utf-8")
    # in a function, so that the bundle's short names stay its own
    scripts = [_inline(script) for script in (f"(() => {{\n{bundle}\n}})();\n", own)]
    tags = "\n".join(f"<script>{script}</script>" for script in scripts)
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    page = _HERE.with_suffix(".html").read_text(encoding="utf-8")
    return page.replace("SCRIPT_HASHES", hashes).replace(_MARK, tags)


def _inline(script: str) -> str:
    r"""The script without what would end its element early; in strings and patterns, `<\/` is `</`."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
