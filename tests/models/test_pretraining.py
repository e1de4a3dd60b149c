"""The base model can be made again from text: cleaning, dialogues, tokenizer, training that resumes, publishing."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openledger.models import encode_dialogue, load_base
from openledger.models.pretraining import corpus, dialogues, extract, publish, tokenizer, train

SETTINGS = train.Settings(
    hidden=64,
    layers=1,
    heads=2,
    key_value_heads=1,
    feed_forward=96,
    context=64,
    batch=4,
    tokens=12 * 4 * 64,
    warmup=2,
)


def test_only_english_sentences_are_prose() -> None:
    assert extract.is_prose("The command copies each file to the folder that you name, and keeps its date.")
    assert not extract.is_prose("ls -la /usr/share && grep -r foo . | sort -n > out.txt; echo done for now.")
    assert not extract.is_prose("apt, bash, coreutils, dash, dpkg, findutils, grep, gzip, hostname, mawk, sed.")
    assert not extract.is_prose("Le fichier est copié dans le dossier que vous avez nommé, avec la date.")
    assert not extract.is_prose("Too short.")


def test_html_gives_paragraphs_without_code_and_menus() -> None:
    page = """<head><title>No</title></head><nav><p>Menu</p></nav><p>One &amp; <b>two</b>.</p>
    <pre>code()</pre><div class="para">Three <code>x</code>.</div><div><p>Four.</p></div><script>bad()</script>"""
    assert extract.html(page) == ["One & two.", "Three x.", "Four."]


def test_manual_pages_give_paragraphs_without_macros() -> None:
    page = (
        ".SH NAME\ncp \\- copy files\n.SH DESCRIPTION\nCopy \\fISOURCE\\fR to\n.BR DEST ,\nat once.\n.nf\ncp a b\n.fi\n"
    )
    assert extract.man(page) == ["cp - copy files", "Copy SOURCE to DEST, at once."]
    assert extract.man(".Dd today\n.Nm cp\nCopies.") == []


def test_other_formats_give_plain_words() -> None:
    assert extract.pod("=head1 NAME\n\nUse C<cp> and L<the page|link> here.\n\n  code\n") == [
        "Use cp and the page here."
    ]
    assert (
        extract.rst("Title\n=====\n\nUse :func:`os.copy` and ``x`` *now*.\n\n.. note:: no\n")[-1]
        == "Use os.copy and x now."
    )
    assert (
        extract.asciidoc("NAME\n----\ncode\n----\n\nSee linkgit:git-add[1] and `x` now.\n")[-1]
        == "See git-add and x now."
    )
    assert extract.solidity("/**\n * @dev Moves `amount` tokens.\n */\nfunction f() {}") == ["Moves amount tokens."]
    assert list(extract.docstrings('class A:\n  "One."\n  def b(self):\n    "Two."\n  def _c(self):\n    "No."')) == [
        ("A", "One."),
        ("A.b", "Two."),
    ]
    assert list(extract.docstrings("this is not python")) == []


def test_dialogues_are_made_from_reference_works() -> None:
    generator = random.Random(1)
    lists = "Package: tool\nVersion: 1:2.3-4\nSection: utils\nInstalled-Size: 1234\n"
    text = "Package: tool\nDescription-en: small tool\n This tool does what it is told to do, and it does so at once.\n"
    [package] = dialogues.packages(text, lists)
    pairs = list(dialogues.about_package(package, generator))
    assert [pair.kind for pair in pairs] == ["package", "package facts"]
    assert "This tool does what it is told to do" in pairs[0].answer
    assert "tool" in pairs[1].answer
    [released] = dialogues.from_changelog(
        "tool (1.2) unstable; urgency=low\n\n  * New.\n\n -- A Person <a@example.org>  Tue, 05 Mar 2019 10:00:00 +0100\n",
        generator,
    )
    assert "1.2" in released.question + released.answer
    assert "Person" not in released.question + released.answer
    [command] = dialogues.from_man(".SH NAME\ncp \\- copy files and directories\n.SH SYNOPSIS\n", "cp.1.gz", generator)
    assert command.answer == "The command cp is for this: copy files and directories."
    [term] = dialogues.from_foldoc(
        "cache\n\n   <storage> A small fast memory that holds the data which was used most\n   recently by the {processor}.\n\n",
        generator,
    )
    assert term.answer == "A small fast memory that holds the data which was used most recently by the processor."


def test_records_of_a_datanet_do_not_enter_the_corpus() -> None:
    told = "The report of DeFiHackLabs says that the pool was drained by the attacker on the same day."
    fine = "The report says that the pool of memory was used up by the program on the same day."
    kept = list(
        corpus._documents(
            "\n\n".join([f"{fine} It was the {n}th time that this was so." for n in "abcd"] + [told]), "rst", set()
        )
    )
    assert len(kept) == 1
    assert "DeFiHackLabs" not in kept[0]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a very small corpus and its tokenizer."""
    folder = tmp_path_factory.mktemp("work")
    generator = random.Random(3)
    words = ("the", "file", "is", "kept", "in", "a", "folder", "and", "can", "be", "read", "by", "any", "program")
    texts = [" ".join(generator.choices(words, k=40)) + "." for _ in range(600)]
    rows = [json.dumps({"text": text}) for text in texts]
    (folder / "documents.jsonl").write_text("\n".join(rows) + "\n")
    pairs = [json.dumps({"question": f"What is {n}?", "answer": f"It is {n * 7}.", "kind": "word"}) for n in range(900)]
    (folder / "dialogues.jsonl").write_text("\n".join(pairs) + "\n")
    summary = {"licence": "CC0-1.0", "characters": sum(map(len, texts))}
    (folder / "sources.json").write_text(json.dumps({"sources": {"words": summary}, "dialogues": {"word": 900}}))
    tokenizer.train(folder, folder / "tokenizer", SETTINGS.context)
    train.tokenise(folder, folder / "tokenizer", SETTINGS)
    return folder


def test_a_run_that_is_stopped_goes_on_where_it_was(work: Path) -> None:
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return dict(load_base(folder).model.state_dict())

    whole = weights(train.pretrain(work, work / "tokenizer", SETTINGS, compiled=False))
    again = weights(_fresh(work, SETTINGS))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    state = json.loads((work / "run" / "checkpoint" / "state.json").read_text())
    assert state["step"] == 12
    assert state["curve"][-1]["held_out_documents"] < 8.5
    longer = replace(SETTINGS, tokens=2 * SETTINGS.tokens)
    further = train.pretrain(work, work / "tokenizer", longer, compiled=False)
    state = json.loads((further / "state.json").read_text())
    assert state["step"] == 24
    assert state["positions"]["documents"] + state["positions"]["dialogues"] == 24 * SETTINGS.batch
    with pytest.raises(ValueError, match="use another working folder"):
        train.pretrain(work, work / "tokenizer", replace(SETTINGS, layers=2), compiled=False)


def _fresh(work: Path, settings: train.Settings) -> Path:
    (work / "run").rename(work / "run.before")
    return train.pretrain(work, work / "tokenizer", settings, compiled=False)


def test_a_published_model_is_a_base_model_with_its_card(work: Path, tmp_path: Path) -> None:
    train.pretrain(work, work / "tokenizer", SETTINGS, compiled=False)
    publish.publish(work, tmp_path / "base")
    base = load_base(tmp_path / "base")
    assert len(encode_dialogue(base.tokenizer, "What is 5?", "It is 35.").answer_ids) > 3
    card = (tmp_path / "base" / "README.md").read_text()
    log = json.loads((tmp_path / "base" / "training.json").read_text())
    assert "| words |" in card
    assert "CC0-1.0" in card
    counted = sum(parameter.numel() for parameter in base.model.parameters())
    assert f"{counted / 1e6:.2f} million parameters" in card
    assert log["held_out"]["documents_bits_per_byte"] > 0
