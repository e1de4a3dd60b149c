"""Attacks are what they say, outcomes are counted right, and other rules compute what their papers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.attribution import AdapterModel, TrainingExample
from openledger.attribution.attacks import (
    ATTACKS,
    OURS,
    Attack,
    Lesson,
    Round,
    Scene,
    Upload,
    cross_upload,
    exact_copies,
    names,
    outcomes,
    pieces,
    repeats,
    scoreboard,
    shadow,
)
from openledger.attribution.poison import harm, spectrum
from openledger.attribution.rules import cosine, datainf, dot_product, paid, products
from openledger.primitives import InputError


class Paper:
    """A laboratory without a model: for looking at uploads."""

    def honest(self) -> list[Upload]:
        return [
            Upload(f"person {place % 3}", f"Question {place}?", f"First {place}. Second {place}.") for place in range(9)
        ]

    def reworded(self, upload: Upload) -> Upload:
        return replace(upload, question=upload.question.upper())

    def encode(self, uploads: Sequence[Upload]) -> list[TrainingExample]:
        raise NotImplementedError

    def train(self, uploads: Sequence[Upload], seed: int = 1) -> Lesson:
        raise NotImplementedError


def scene() -> Scene:
    paper = Paper()
    return Scene(paper, tuple(paper.honest()), lambda: paper.train([]))


@pytest.mark.parametrize("plan", [plan for plan in ATTACKS if plan is not shadow])
def test_every_attack_leaves_the_honest_victims_where_they_were(plan: Any) -> None:
    attack = plan(scene())
    honest = scene().honest
    assert all(attack.uploads[place] == honest[place] for place in attack.victims)
    assert set(attack.attackers).isdisjoint(attack.victims)
    assert max(attack.attackers) < len(attack.uploads)
    assert all(honest[place].wallet in {"person 0", "person 1", "person 2"} for place in attack.before)


def test_copies_are_the_victims_words_and_junior() -> None:
    attack = exact_copies(scene())
    originals = [attack.uploads[place] for place in attack.victims]
    copies = [attack.uploads[place] for place in attack.attackers]
    assert [(copy.question, copy.answer) for copy in copies] == [(each.question, each.answer) for each in originals]
    assert min(attack.attackers) > max(attack.victims)


def test_splits_keep_every_word_and_names_every_record() -> None:
    whole = " ".join(upload.answer for upload in scene().uploads(0))
    attack = pieces(scene())
    assert " ".join(attack.uploads[place].answer for place in attack.attackers) == whole
    renamed = names(scene())
    assert [(each.question, each.answer) for each in renamed.uploads] == [
        (each.question, each.answer) for each in scene().honest
    ]
    assert len({renamed.uploads[place].wallet for place in renamed.attackers}) == len(renamed.attackers)
    assert len(repeats(scene()).attackers) == 103


def test_partners_gain_together_or_not_at_all() -> None:
    attack = cross_upload(scene())
    assert len(attack.attackers) == 2 * len(attack.before) == 12


def test_every_contributor_attacks_in_turn() -> None:
    attackers = [replace(scene(), first=number).attacker for number in range(4)]
    assert attackers == ["person 0", "person 1", "person 2", "person 0"]
    attack = exact_copies(replace(scene(), first=2))
    assert {attack.uploads[place].wallet for place in attack.victims} == {"person 0"}


COPY = Attack("copy", "earns little", (), (3,), (1,), (1,), 0.1)


def trial(honest: float, victim: float, copy: float) -> Round:
    before, after = np.zeros((5, 3)), np.zeros((5, 4))
    before[:, 1], after[:, 1], after[:, 3] = honest, victim, copy
    return Round(COPY, {OURS: before}, {OURS: after})


def test_an_outcome_compares_pay_before_and_after() -> None:
    (found,) = outcomes([trial(0.4, 0.39, 0.03)])
    assert found.taken is not None
    assert (found.paid.value, found.taken.value) == (pytest.approx(0.075), pytest.approx(0.025))
    assert found.verdict == "missed"
    assert outcomes([trial(0.4, 0.395, 0.03)])[0].verdict == "met"


def test_rounds_that_differ_leave_it_open() -> None:
    (found,) = outcomes([trial(0.4, 0.4, 0.01), trial(0.4, 0.4, 0.06), trial(0.4, 0.4, 0.02)])
    assert found.rounds == 3
    assert found.paid.value == pytest.approx(0.075)
    assert found.paid.low == pytest.approx(0.025)
    assert found.paid.high == pytest.approx(0.15)
    assert found.verdict == "open"


def test_what_another_seed_alone_moves_shows_in_the_interval() -> None:
    """Pay that has nothing to do with the attack: the interval holds 1 in about 19 of 20 campaigns."""
    generator = np.random.default_rng(1)
    fresh = replace(COPY, victims=(), attackers=(1,))
    held = 0
    for _ in range(40):
        rounds = [Round(fresh, *({OURS: generator.beta(2, 2, (12, 3))} for _ in range(2))) for _ in range(6)]
        paid = outcomes(rounds)[0].paid
        held += paid.low <= 1 <= paid.high
    assert 34 <= held <= 40


def test_attacks_need_somebody_to_rob() -> None:
    with pytest.raises(InputError, match="three honest contributors, got 1"):
        exact_copies(replace(scene(), honest=(Upload("alone", "Q?", "A."),)))


def test_an_attack_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no attack 'charm'; there are exact_copies"):
        scoreboard(Paper(), tmp_path, only=["charm"])


def test_the_other_rules_compute_what_their_papers_say(trained: Any) -> None:
    examples, queries = trained.examples[:6], [trained.query(7), trained.query(8)]
    model = AdapterModel.from_folder(trained.base, trained.adapter)
    flat: dict[str, list[torch.Tensor]] = {block.name: [torch.empty(0)] * 8 for block in model.blocks}
    for batch in model.batches([*examples, *queries]):
        for block, captured in zip(model.blocks, batch.blocks, strict=True):
            for place, gradient in zip(batch.positions, captured.gradients().flatten(1).double(), strict=True):
                flat[block.name][place] = gradient
    whole = torch.stack([torch.cat([flat[block.name][place] for block in model.blocks]) for place in range(8)])
    found = products(model, examples, queries)
    dots = whole[6:] @ whole[:6].T
    np.testing.assert_allclose(dot_product(found), dots, rtol=1e-4)
    lengths = whole.norm(dim=1)
    np.testing.assert_allclose(cosine(found), dots / (lengths[6:, None] * lengths[:6]), rtol=1e-4)
    wanted = torch.zeros(2, 6, dtype=torch.float64)
    for rows in flat.values():
        gradients = torch.stack(rows)
        train, size = gradients[:6], gradients.shape[1]
        damping = 0.1 * train.square().mean()
        inverse = sum(
            (torch.eye(size, dtype=torch.float64) - torch.outer(g, g) / (damping + g @ g)) / damping for g in train
        )
        wanted += gradients[6:] @ (inverse / 6) @ train.T
    np.testing.assert_allclose(datainf(found), wanted, rtol=1e-3)


def test_a_rule_pays_out_everything_that_is_positive() -> None:
    found = paid(np.asarray([[1.0, -5.0, 3.0], [-1.0, -2.0, 0.0]]))
    assert found.tolist() == [[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]]


def test_records_that_all_teach_one_thing_stand_out_in_the_spectrum() -> None:
    generator = np.random.default_rng(0)
    honest = generator.normal(size=(60, 200))
    poison = generator.normal(size=200) * 3 + generator.normal(size=(8, 200))
    rows = np.concatenate([honest, poison])
    found = spectrum(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert (found[60:] > 0.5).all()
    assert (found[:60] < 0.5).all()
    assert (spectrum(honest / np.linalg.norm(honest, axis=1, keepdims=True)) < 0.5).all()


def test_a_record_that_works_against_a_trusted_answer_is_harmful() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    scores[2, 7] = -30
    assert harm(scores).argmax() == 7
    assert harm(scores)[7] > 6
