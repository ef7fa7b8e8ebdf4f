"""How the documentation is built: ``nox -s docs`` makes ``docs/_build/html/index.html``.

Every page is Markdown. What GitHub shows in the root of the repository is part of it, too:
README.md and its like are included, and links to them lead to those pages.
"""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx_gallery.sorting import ExplicitOrder

import fusedopt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples" / "gallery"))  # where programs find each other
sys.path.insert(0, str(ROOT / "docs" / "_extensions"))

from run import NO_PROGRAMS  # noqa: E402

# Programs as they are shown: momentum, then a step size for each element, then networks.
ORDER = (
    "local_minimum",
    "acceleration",
    "elongated_bowl",
    "nesterov",
    "moving_average",
    "momentum_schedule",
    "bias_correction",
    "one_learning_rate",
    "amsgrad",
    "weight_decay",
    "sensitivity",
    "convolutional_network",
    "wall_clock",
)

HELPERS = rf"^({'|'.join(NO_PROGRAMS)})\.py$"

project = "fusedopt"
author = "the fusedopt developers"
copyright = "2026, the fusedopt developers"  # noqa: A001
release = version = fusedopt.__version__

extensions = [
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "sg_execution_times.rst", "**/sg_execution_times.rst"]
default_role = "py:obj"  # of names in docstrings
nitpicky = True
nitpick_ignore_regex = [
    # Types in words, as NumPy's style has them, and names of types that are only for checkers.
    ("py:class", r"(?!fusedopt).*"),
    ("py:class", r"fusedopt\.(\w+\.)?_.*"),
    ("py:obj", r"(?!fusedopt\.).*"),
]

templates_path = ["_templates"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = "fusedopt"
html_static_path = ["_static"]
html_css_files = ["fusedopt.css"]
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc says what types there are
numpydoc_show_class_members = False

# Inventories of other projects are fetched: only where somebody says that there is a network.
if os.environ.get("FUSEDOPT_DOCS_ONLINE"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r".*\.py",
    "ignore_pattern": HELPERS,
    "within_subsection_order": ExplicitOrder([*(f"{name}.py" for name in ORDER), "*"]),
    "download_all_examples": False,
    "show_memory": False,
    "copyfile_regex": HELPERS,
    "abort_on_example_error": True,
    "min_reported_time": 5,
    "show_signature": False,
}

# What is shown on GitHub, and which page of these has it.
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security.md",
    "examples": "examples.md",
}


def _lead_to_pages(text: str, to_root: str, from_root: str) -> str:
    """Turn links to files of the repository into links to pages.

    ``to_root`` is how a link begins that leads to the repository's root, ``from_root`` how one to
    this folder begins in the end.
    """

    def page_of(link: re.Match[str]) -> str:
        path, anchor = link[1], link[2] or ""
        if not path.startswith(to_root):
            return link[0]
        path = path.removeprefix(to_root)
        page = _PAGES.get(path) or (path.startswith("docs/") and path.removeprefix("docs/"))
        return f"]({from_root}{page}{anchor})" if page else link[0]

    return re.sub(r"\]\(([\w./-]+?)/?(#[\w-]+)?\)", page_of, text)


def _read_page(app: Sphinx, page: str, source: list[str]) -> None:
    depth = page.count("/")
    source[0] = _lead_to_pages(source[0], "../" * (depth + 1), "../" * depth)


def _read_included(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    content[0] = _lead_to_pages(content[0], "", "")


def _show_picture_first(app: Sphinx, page: str, source: list[str]) -> None:
    """Put a program's picture below its introduction, for those who come to look."""
    name = page.removeprefix("gallery/")
    if name not in ORDER:
        return
    introduction, code, rest = source[0].partition("\n.. GENERATED FROM PYTHON SOURCE LINES")
    pictures = sorted((Path(app.srcdir) / "gallery/images").glob(f"sphx_glr_{name}_*.png"))
    shown = "".join(f"\n.. image:: images/{p.name}\n   :alt: {name}\n" for p in pictures)
    source[0] = introduction + shown + code + rest


def setup(app: Sphinx) -> None:
    """Tell Sphinx what is to be done with each page."""
    app.connect("source-read", _show_picture_first)
    app.connect("source-read", _read_page)
    app.connect("include-read", _read_included)
