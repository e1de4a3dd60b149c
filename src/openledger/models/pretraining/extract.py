"""Plain English prose out of HTML, roff, POD, reStructuredText, AsciiDoc, Solidity comments and docstrings.

Every reader takes the text of one file and gives its paragraphs in order; ``is_prose`` then says which of
them are English sentences rather than code, tables, menus or lists of names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[A-Za-z][a-z'’]*")
_COMMON = frozenset(
    {
        "the",
        "of",
        "to",
        "and",
        "a",
        "in",
        "is",
        "it",
        "that",
        "for",
        "on",
        "with",
        "as",
        "be",
        "are",
        "this",
        "by",
        "an",
        "or",
        "if",
        "not",
        "from",
        "can",
        "will",
        "you",
        "your",
        "have",
        "has",
        "at",
        "which",
        "when",
        "all",
        "one",
        "more",
        "but",
        "was",
        "its",
        "use",
        "used",
        "may",
        "also",
        "there",
        "other",
        "than",
        "do",
        "does",
        "no",
        "into",
        "only",
        "must",
        "should",
        "so",
        "then",
        "such",
        "any",
        "some",
        "how",
        "what",
        "they",
        "their",
        "them",
        "were",
        "who",
        "been",
        "these",
        "each",
        "would",
        "could",
        "about",
    }
)
_TYPOGRAPHY = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": " - ", "…": "...", "\u00a0": " ", "\u00ad": ""}
)


def tidy(text: str) -> str:
    """Plain quotes and dashes, single spaces."""
    return _SPACE.sub(" ", text.translate(_TYPOGRAPHY)).strip()


def is_prose(paragraph: str) -> bool:
    """Whether a tidied paragraph reads as English sentences: enough words, few symbols, common words, an end mark."""
    if not 50 <= len(paragraph) <= 4000 or not paragraph.isascii():
        return False
    if paragraph[-1] not in ".!?:)\"'" or not (paragraph[0].isalnum() or paragraph[0] in "\"'("):
        return False
    letters = sum(character.isalpha() or character in " ,.'" for character in paragraph)
    if letters < 0.87 * len(paragraph) or re.search(r"[{}\\|<>=]|::|--{2,}|__", paragraph):
        return False
    words = _WORD.findall(paragraph)
    return len(words) >= 8 and sum(word.lower() in _COMMON for word in words) >= 0.22 * len(words)


class _Paragraphs(HTMLParser):
    """Collects the text of paragraph-like elements and skips code, navigation, tables and scripts."""

    _BLOCK = frozenset({"p", "li", "dd", "blockquote", "item", "para"})
    _SKIP = frozenset(
        {"script", "style", "pre", "nav", "table", "header", "footer", "head", "svg", "button", "screen", "info"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._pieces: list[str] = []
        self._skipping: list[str] = []
        self._divisions: list[bool] = []
        self._open = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._SKIP:
            self._skipping.append(tag)
        elif tag == "div":
            self._divisions.append(("class", "para") in attrs)
            self._begin(self._divisions[-1])
        else:
            self._begin(tag in self._BLOCK)

    def handle_endtag(self, tag: str) -> None:
        if self._skipping and tag == self._skipping[-1]:
            self._skipping.pop()
        elif tag == "div":
            self._end(bool(self._divisions) and self._divisions.pop())
        else:
            self._end(tag in self._BLOCK)

    def handle_data(self, data: str) -> None:
        if self._open and not self._skipping:
            self._pieces.append(data)

    def _begin(self, block: bool) -> None:
        if block:
            self._flush()
            self._open += 1

    def _end(self, block: bool) -> None:
        if block:
            self._flush()
            self._open = max(0, self._open - 1)

    def _flush(self) -> None:
        if text := tidy("".join(self._pieces)).replace("¶", ""):
            self.found.append(text)
        self._pieces = []

    def close(self) -> None:
        super().close()
        self._flush()


def html(text: str) -> list[str]:
    """Paragraphs of an HTML or Mallard page."""
    parser = _Paragraphs()
    parser.feed(text)
    parser.close()
    return parser.found


_ROFF_ESCAPE = re.compile(r"\\f\(..|\\f\[[^]]*\]|\\f.|\\s[-+]?\d|\\[&,/|^%:c]")
_ROFF_FONT = re.compile(r"^\.(?:B|I|BR|IR|RB|RI|BI|IB|SM|SB)\s+(.*)")


def _roff_text(line: str) -> str:
    line = _ROFF_ESCAPE.sub("", line)
    line = re.sub(r"\\\((?:aq|cq|oq)", "'", line)
    line = re.sub(r"\\\((?:lq|rq|dq)", '"', line)
    line = re.sub(r"\\\(..|\\\[[^]]*\]", " ", line)
    return line.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\").replace("\\.", ".")


def man(text: str) -> list[str]:
    """Paragraphs of a manual page written with the man macros; mdoc pages give none."""
    if re.search(r"^\.Dd", text, re.MULTILINE):
        return []
    found: list[str] = []
    pieces: list[str] = []
    verbatim = False
    for line in text.splitlines():
        if line.startswith((".nf", ".EX")):
            verbatim = True
        elif line.startswith((".fi", ".EE")):
            verbatim = False
        elif line.startswith((".", "'")):
            font = _ROFF_FONT.match(line)
            if font and not verbatim:
                joined = " " if line[1:3] in {"B ", "I ", "SM", "SB"} else ""
                parts = re.findall(r'"([^"]*)"|(\S+)', font.group(1))
                pieces.append(_roff_text(joined.join(quoted or bare for quoted, bare in parts)))
            elif not line.startswith(('.\\"', "'\\")):
                found.append(tidy(" ".join(pieces)))
                pieces = []
        elif not verbatim:
            pieces.append(_roff_text(line))
    found.append(tidy(" ".join(pieces)))
    return [paragraph for paragraph in found if paragraph]


def pod(text: str) -> list[str]:
    """Paragraphs of Perl documentation."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        if block[:1] in {"=", " ", "\t", ""}:
            continue
        plain = re.sub(r"E<(\w+)>", lambda m: {"lt": "<", "gt": ">"}.get(m.group(1), ""), block)
        for _ in range(3):
            plain = re.sub(r"L<([^<>|]*)\|[^<>]*>", r"\1", plain)
            plain = re.sub(r"X<[^<>]*>", "", plain)
            plain = re.sub(r"[A-Z]<<+ (.*?) >>+", r"\1", plain, flags=re.DOTALL)
            plain = re.sub(r"[A-Z]<([^<>]*)>", r"\1", plain)
        found.append(tidy(plain))
    return found


def rst(text: str) -> list[str]:
    """Paragraphs of reStructuredText."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        stripped = block.strip()
        if not stripped or stripped.startswith(("..", ":", "|", "+-", "==", ">>>", "$", "#")):
            continue
        plain = re.sub(r"^[*#-]\s+|^\d+\.\s+", "", stripped)
        plain = re.sub(r":[\w:+-]+:`~?!?([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", plain)
        plain = re.sub(r"`([^`<]+?)\s*<[^`]*>`_{0,2}", r"\1", plain)
        plain = re.sub(r"``([^`]*)``", r"\1", plain)
        plain = re.sub(r"`([^`]*)`_{0,2}", r"\1", plain)
        plain = re.sub(r"\*{1,2}([^*\n]+)\*{1,2}", r"\1", plain)
        found.append(tidy(plain).replace("::", ":"))
    return found


def asciidoc(text: str) -> list[str]:
    """Paragraphs of AsciiDoc or of plain text."""
    found = []
    text = re.sub(r"^(-{4,}|\.{4,})$.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    for block in re.split(r"\n\s*\n|\n\+\n", text):
        plain = block.strip("\n")
        if plain.startswith(("\t", "    ", "[", "=", "//")):
            continue
        plain = re.sub(r"^\S[^\n]*::\n", "", plain)
        plain = re.sub(r"^\s*[*.-]+\s+", "", plain)
        plain = re.sub(r"linkgit:([\w-]+)\[\d\]", r"\1", plain)
        plain = re.sub(r"[`_*'](\S[^`_*\n]*?)[`_*'](?!\w)", r"\1", plain)
        found.append(tidy(plain))
    return found


def solidity(text: str) -> list[str]:
    """Paragraphs of the documentation comments of a Solidity file."""
    found = []
    for comment in re.findall(r"/\*\*(.*?)\*/", text, re.DOTALL):
        lines = [re.sub(r"^\s*\*\s?", "", line) for line in comment.splitlines()]
        for block in re.split(r"\n\s*\n", "\n".join(lines)):
            plain = re.sub(r"^\s*@\w+\s", "", block)
            plain = re.sub(r"\{([^}]*)\}", r"\1", plain).replace("`", "")
            found.append(tidy(plain))
    return found


def docstrings(text: str) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a Python file's module, classes and functions; none when it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}"
                if not child.name.startswith("_") and (documentation := ast.get_docstring(child)):
                    yield name, documentation
                stack.append((f"{name}.", child))


def python(text: str) -> list[str]:
    """Paragraphs of the docstrings of a Python file."""
    return [paragraph for _, documentation in docstrings(text) for paragraph in rst(documentation)]


READERS: dict[str, Callable[[str], list[str]]] = {
    "html": html,
    "man": man,
    "pod": pod,
    "rst": rst,
    "asciidoc": asciidoc,
    "solidity": solidity,
    "python": python,
}
