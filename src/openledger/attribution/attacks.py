"""Attacks on attribution, by real retraining: what each one pays under our shares and under other rules.

Somebody who wants pay without giving data can copy, reword, split, flood, shout or collude. Each attack here is a list of
uploads beside the honest ones. A model is trained on them, answers the questions itself, and every rule divides the
credit of its answers. Copies and uploads are taken to have passed the Datanet's gate and its reviewers: what is measured
is attribution alone.

What is compared is pay: the mean part of an answer that a set of uploads is credited with, over all questions, against
what the same people had in the honest run. Retraining alone moves that too, so that everything is repeated: in each round
another training seed is used, in the honest run and in every attack of that round, and the next contributor attacks. An
outcome is the pay of all rounds together over what it was in their honest runs, with a 95% interval by bootstrap over
rounds and, within each, over questions. ``another seed`` compares the honest runs with each other.

The shadow attack (after Wang et al., 2024, "Adversarial attacks on data attribution") knows the questions that will be
asked and has the honest model, both of which are public: of many possible records it uploads those that our own scores
rank highest.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from openledger.attribution.build import build_index
from openledger.attribution.gradients import AdapterModel, Checkpoint, Query, TrainingExample
from openledger.attribution.rules import RULES, paid, products
from openledger.attribution.shares import shares
from openledger.primitives.amounts import PPM
from openledger.primitives.canonical import parse_json
from openledger.primitives.errors import InputError, StorageError

OURS = "openledger"
_WALLETS = 100
_FILLER = 100
_CANDIDATES = 120
_NOISE_WORDS = 12
_MOST_COPIED = 0.10
_MOST_TAKEN = 0.02
_MOST_GAIN = 1.02
_DRAWS = 2000
_COPY = "earns at most 10% of what it copied and takes at most 2% of it"
_SELF = "gains at most 2%"
_CONTROL = "how far chance alone moves pay"


@dataclass(frozen=True, slots=True)
class Upload:
    """One record as somebody uploads it."""

    wallet: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What training on some uploads gave.

    Attributes:
        base: the base model.
        checkpoints: of the training run; the last is the model that answers.
        examples: the uploads as they were trained on, in their order.
        unrelated: queries that no upload should influence.
        ask: the trained model's own answers to questions; None where it says nothing.
    """

    base: PreTrainedModel
    checkpoints: Sequence[Checkpoint]
    examples: Sequence[TrainingExample]
    unrelated: Sequence[Query]
    ask: Callable[[Sequence[str]], list[Query | None]]


class Laboratory(Protocol):
    """Trains real models on uploads."""

    def honest(self) -> list[Upload]:
        """The honest contributors' uploads."""
        ...

    def reworded(self, upload: Upload) -> Upload:
        """A paraphrase: the same facts in other words."""
        ...

    def encode(self, uploads: Sequence[Upload]) -> list[TrainingExample]:
        """The uploads as they would be trained on; an earlier one is the more senior."""
        ...

    def train(self, uploads: Sequence[Upload], seed: int = 1) -> Lesson:
        """Trains a model on the uploads in their order; an earlier one is the more senior."""
        ...


@dataclass(frozen=True, slots=True)
class Attack:
    """Uploads of one attack.

    Attributes:
        name: what it is called.
        goal: what a good rule does.
        uploads: all that is trained on, honest and not.
        attackers: places of the attackers' uploads.
        before: places, in the honest run, of the uploads that the attackers' pay is compared with.
        victims: places of the originals whose pay they may take; empty where there are none.
        most_paid: most that the attackers may get, as a multiple of what ``before`` got.
    """

    name: str
    goal: str
    uploads: tuple[Upload, ...]
    attackers: tuple[int, ...]
    before: tuple[int, ...]
    victims: tuple[int, ...]
    most_paid: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio of pay, and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack brings under one rule, over all rounds.

    Attributes:
        attack, rule: names.
        rounds: how often it was tried, each time by another training seed.
        paid: what the attackers' uploads have, as a multiple of what the compared uploads had in the honest runs.
        part: the same of their part in all that uploads have together.
        taken: part of their pay that the victims lost (negative: they gained); None without victims.
        goal: what was wanted.
        verdict: ``met`` or ``missed`` where the intervals leave no doubt, else ``open``; or ``control``.
    """

    attack: str
    rule: str
    rounds: int
    paid: Estimate
    part: Estimate
    taken: Estimate | None
    goal: str
    verdict: str


Pay = Mapping[str, NDArray[np.float64]]
"""Part of the answer to each question that each upload gets, by rule [questions, uploads]."""


@dataclass(frozen=True, slots=True)
class Round:
    """One trial: the attack's uploads, and pay without and with them after training by the same seed."""

    attack: Attack
    honest: Pay
    attacked: Pay


@dataclass(frozen=True, slots=True)
class Scene:
    """What an attacker can know: the honest uploads, the paraphraser, and the honest run, which is public.

    One contributor attacks; where there is a victim, it is the next; a partner is the next but one.

    Attributes:
        seed: of the attackers' chances.
        first: which contributor attacks.
    """

    laboratory: Laboratory
    honest: tuple[Upload, ...]
    lesson: Callable[[], Lesson]
    seed: int = 0
    first: int = 0

    @property
    def attacker(self) -> str:
        """The attacker's wallet."""
        return self.uploads(0)[0].wallet

    def places(self, contributor: int) -> tuple[int, ...]:
        """Places of the uploads of the attacker (0), the next contributor (1) and so on.

        Raises:
            InputError: there are not so many contributors.
        """
        names = list(dict.fromkeys(upload.wallet for upload in self.honest))
        if contributor >= len(names):
            raise InputError(f"attacks need three honest contributors, got {len(names)}")
        name = names[(self.first + contributor) % len(names)]
        return tuple(place for place, upload in enumerate(self.honest) if upload.wallet == name)

    def uploads(self, contributor: int) -> list[Upload]:
        """The same uploads themselves."""
        return [self.honest[place] for place in self.places(contributor)]


def exact_copies(scene: Scene) -> Attack:
    """One wallet uploads all records of the victim again."""
    return _copied(scene, "exact copies, one wallet", [replace(each, wallet="thief") for each in scene.uploads(1)])


def copies_over_wallets(scene: Scene) -> Attack:
    """A hundred wallets upload a copy of one of the victim's records each."""
    victims = scene.uploads(1)
    fresh = [replace(victims[number % len(victims)], wallet=f"name {number}") for number in range(_WALLETS)]
    return _copied(scene, f"exact copies, {_WALLETS} wallets", fresh)


def paraphrases(scene: Scene) -> Attack:
    """One wallet uploads all records of the victim in other words."""
    reworded = [replace(scene.laboratory.reworded(each), wallet="thief") for each in scene.uploads(1)]
    return _copied(scene, "paraphrases", reworded)


def names(scene: Scene) -> Attack:
    """The attacker's own records come from a hundred wallets instead of one."""
    own = scene.places(0)
    uploads = [
        replace(upload, wallet=f"name {place % _WALLETS}") if place in own else upload
        for place, upload in enumerate(scene.honest)
    ]
    return Attack(f"{_WALLETS} names", _SELF, tuple(uploads), own, own, (), _MOST_GAIN)


def pieces(scene: Scene) -> Attack:
    """Each of the attacker's records is uploaded sentence by sentence, under the same question."""
    parts = [replace(each, answer=piece) for each in scene.uploads(0) for piece in _sentences(each.answer)]
    return _instead(scene, "records in pieces", parts)


def repeats(scene: Scene) -> Attack:
    """The attacker uploads one of its records a hundred times beside all the others."""
    return _beside(scene, f"one record {_WALLETS} times", scene.uploads(0)[:1] * _WALLETS)


def outliers(scene: Scene) -> Attack:
    """The attacker's records end in noise, which no model expects and which makes their gradients long."""
    chooser = random.Random(scene.seed)  # noqa: S311
    loud = [replace(each, answer=f"{each.answer} {_noise(chooser)}") for each in scene.uploads(0)]
    return _instead(scene, "outliers", loud)


def shadow(scene: Scene) -> Attack:
    """The attacker uploads, of many mixtures of its records with others' questions, those that our scores rank highest."""
    chooser = random.Random(scene.seed)  # noqa: S311
    own, others = scene.uploads(0), [each for each in scene.honest if each.wallet != scene.attacker]
    mixed = []
    for _ in range(_CANDIDATES):
        mine, other = chooser.choice(own), chooser.choice(others)
        first = _sentences(other.answer)[0]
        forms = (
            (other.question, mine.answer),
            (mine.question, other.answer),
            (other.question, f"{first} {mine.answer}"),
        )
        question, answer = chooser.choice(forms)
        mixed.append(replace(mine, question=question, answer=answer))
    lesson = scene.lesson()
    candidates = build_index(lesson.base, lesson.checkpoints, scene.laboratory.encode(mixed), workers=1)
    asked = lesson.ask([each.question for each in others])
    scores = candidates.scores(lesson.base, [query for query in asked if query])
    best = np.argsort(-np.maximum(scores, 0.0).sum(axis=0), kind="stable")[: len(own)]
    return _beside(scene, "shadow", [mixed[place] for place in best])


def filler(scene: Scene) -> Attack:
    """The attacker floods with records of the usual form that say nothing of any incident."""
    chooser = random.Random(scene.seed)  # noqa: S311
    endings = [_sentences(each.answer)[1:] for each in scene.honest]
    chosen = [" ".join(chooser.choice(endings)) for _ in range(_FILLER)]
    fresh = [
        Upload(scene.attacker, f"What happened to Protocol {number}?", f"Protocol {number} lost funds. {ending}")
        for number, ending in enumerate(chosen)
    ]
    return _beside(scene, "filler", fresh)


def cross_upload(scene: Scene) -> Attack:
    """The attacker and a partner upload each other's records."""
    mine, theirs = scene.uploads(0), scene.uploads(2)
    crossed = [replace(each, wallet=theirs[0].wallet) for each in mine]
    crossed += [replace(each, wallet=mine[0].wallet) for each in theirs]
    pair = (*scene.places(0), *scene.places(2))
    uploads = (*scene.honest, *crossed)
    everything = (*pair, *range(len(scene.honest), len(uploads)))
    return Attack("cross-upload", _SELF, uploads, everything, pair, (), _MOST_GAIN)


ATTACKS: tuple[Callable[[Scene], Attack], ...] = (
    exact_copies,
    copies_over_wallets,
    paraphrases,
    names,
    repeats,
    pieces,
    outliers,
    shadow,
    filler,
    cross_upload,
)
"""Every attack on pay; poisoning, which is not about pay, is in ``poison.py``."""


def scoreboard(
    laboratory: Laboratory,
    folder: Path,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    only: Collection[str] = (),
    rounds: int = 6,
) -> list[Outcome]:
    """Tries every attack in every round; each costs one training, one index and an answer for each honest upload.

    Args:
        laboratory: trains the models.
        folder: where each run's pay is kept and taken up again.
        progress: told (done, all, what comes next).
        only: names of functions in ``ATTACKS``; all of them if empty.
        rounds: how many training seeds, from 1 on.

    Raises:
        InputError: fewer than three honest contributors, no round, or an attack that there is not.
        StorageError: the folder cannot be written.
    """
    known = {plan.__name__: plan for plan in ATTACKS}
    if unknown := sorted(set(only) - set(known)):
        raise InputError(f"there is no attack {unknown[0]!r}; there are {', '.join(known)}")
    if rounds < 1:
        raise InputError(f"{rounds} training seeds; give at least one")
    plans = [plan for name, plan in known.items() if not only or name in only]
    honest = tuple(laboratory.honest())
    questions = [upload.question for upload in honest]
    tell = progress or _silent
    total, done = rounds * (len(plans) + 1), 0
    found: dict[str, list[Round]] = {}
    control: list[tuple[tuple[int, ...], Pay]] = []
    for number in range(rounds):
        kept = folder / f"round-{number + 1}"
        first = cache(partial(laboratory.train, honest, seed=number + 1))
        scene = Scene(laboratory, honest, first, number, number)
        tell(done, total, "honest")
        before = _kept(kept / "honest.json", lambda first=first: pay(first(), questions))  # type: ignore[misc]
        control.append((scene.places(0), before))
        done += 1
        for plan in plans:
            tell(done, total, plan.__name__)
            attack = plan(scene) if plan is not shadow else _shadow_kept(kept / "shadow-uploads.json", scene)
            train = partial(laboratory.train, attack.uploads, seed=number + 1)
            after = _kept(
                kept / f"{plan.__name__}.json",
                lambda train=train: pay(train(), questions),  # type: ignore[misc]
            )
            found.setdefault(attack.name, []).append(Round(attack, before, after))
            done += 1
    tell(total, total, "done")
    if rounds > 1:
        found = {
            "another seed": [
                Round(Attack("another seed", _CONTROL, honest, own, own, (), 1.0), before, control[number - 1][1])
                for number, (own, before) in enumerate(control)
            ]
        } | found
    return [outcome for trials in found.values() for outcome in outcomes(trials)]


def pay(lesson: Lesson, questions: Sequence[str]) -> Pay:
    """What every rule pays each upload for the model's own answer to each question, by rule [questions, uploads]."""
    index = build_index(lesson.base, lesson.checkpoints, lesson.examples, unrelated=lesson.unrelated, workers=1)
    asked = lesson.ask(questions)
    rows = [row for row, query in enumerate(asked) if query]
    queries = [query for query in asked if query]
    found = {name: np.zeros((len(questions), len(lesson.examples))) for name in (OURS, *RULES)}
    for row, measured in zip(rows, index.measure(lesson.base, queries), strict=True):
        for place, ppm in shares(measured, index).ppm.items():
            found[OURS][row, place] = ppm / PPM
    final = lesson.checkpoints[-1].path
    compared = products(AdapterModel.from_folder(lesson.base, final), lesson.examples, queries)
    for name, rule in RULES.items():
        found[name][rows] = paid(rule(compared))
    return found


def outcomes(trials: Sequence[Round], seed: int = 0) -> list[Outcome]:
    """What one attack brought under each rule in all its rounds; ``seed`` is of the bootstrap."""
    attack, found = trials[0].attack, []
    for rule in trials[0].attacked:
        pay = np.stack(
            [
                [
                    one.honest[rule][:, one.attack.before].sum(axis=1),
                    one.attacked[rule][:, one.attack.attackers].sum(axis=1),
                    one.honest[rule].sum(axis=1),
                    one.attacked[rule].sum(axis=1),
                    one.honest[rule][:, one.attack.victims].sum(axis=1),
                    one.attacked[rule][:, one.attack.victims].sum(axis=1),
                ]
                for one in trials
            ]
        )
        samples = np.concatenate([pay.sum(axis=(0, 2))[None], _resampled(pay, seed)])
        before, after, all_before, all_after, had, left = samples.T
        multiple = _ratio(after, before)
        paid, part = _estimate(multiple), _estimate(multiple / _ratio(all_after, all_before))
        taken = _estimate(1 - _ratio(left, had)) if attack.victims else None
        goals = [(paid, attack.most_paid), *([(taken, _MOST_TAKEN)] if taken else [])]
        verdict = "open"
        if attack.goal == _CONTROL:
            verdict = "control"
        elif any(estimate.low > most for estimate, most in goals):
            verdict = "missed"
        elif all(estimate.high <= most for estimate, most in goals):
            verdict = "met"
        found.append(Outcome(attack.name, rule, len(trials), paid, part, taken, attack.goal, verdict))
    return found


def _resampled(pay: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums over rounds and questions, both drawn with replacement [draws, kinds]; ``pay`` is [rounds, kinds, questions]."""
    generator = np.random.default_rng(seed)
    count, kinds, questions = pay.shape
    drawn = np.empty((_DRAWS, kinds))
    for draw in range(_DRAWS):
        rounds = generator.integers(0, count, count)
        columns = generator.integers(0, questions, (count, 1, questions))
        drawn[draw] = np.take_along_axis(pay[rounds], columns, axis=2).sum(axis=(0, 2))
    return drawn


def _ratio(after: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """``after / before``; where there was nothing before, 1 for something and 0 for nothing."""
    found: NDArray[np.float64] = np.divide(after, before, out=(after > 0).astype(float), where=before > 0)
    return found


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """From the value itself and its bootstrap draws behind it."""
    low, high = np.quantile(values[1:], [0.025, 0.975]).tolist()
    return Estimate(float(values[0]), low, high)


def _copied(scene: Scene, name: str, fresh: Sequence[Upload]) -> Attack:
    uploads = (*scene.honest, *fresh)
    victims = scene.places(1)
    return Attack(name, _COPY, uploads, tuple(range(len(scene.honest), len(uploads))), victims, victims, _MOST_COPIED)


def _beside(scene: Scene, name: str, fresh: Sequence[Upload]) -> Attack:
    own, uploads = scene.places(0), (*scene.honest, *fresh)
    return Attack(name, _SELF, uploads, (*own, *range(len(scene.honest), len(uploads))), own, (), _MOST_GAIN)


def _instead(scene: Scene, name: str, fresh: Sequence[Upload]) -> Attack:
    own = scene.places(0)
    kept = [upload for place, upload in enumerate(scene.honest) if place not in own]
    uploads = (*kept, *fresh)
    return Attack(name, _SELF, uploads, tuple(range(len(kept), len(uploads))), own, (), _MOST_GAIN)


def _sentences(text: str) -> list[str]:
    return re.findall(r"\S.*?[.!?](?=\s|$)|\S.*$", text)


def _noise(chooser: random.Random) -> str:
    return " ".join("".join(chooser.choices(string.ascii_letters + string.digits, k=7)) for _ in range(_NOISE_WORDS))


def _kept(path: Path, measure: Callable[[], Pay]) -> Pay:
    """What was measured before, from its file, or measured now."""
    if not path.exists():
        _write(path, {rule: values.round(7).tolist() for rule, values in measure().items()})
    return {rule: np.asarray(values, np.float64) for rule, values in parse_json(path.read_bytes()).items()}


def _shadow_kept(path: Path, scene: Scene) -> Attack:
    """The shadow attack, whose choice of uploads needs the honest model, from its file if it was made before."""
    if not path.exists():
        attack = shadow(scene)
        _write(path, [[each.question, each.answer] for each in attack.uploads[len(scene.honest) :]])
    return _beside(scene, "shadow", [Upload(scene.attacker, *pair) for pair in parse_json(path.read_bytes())])


def _write(path: Path, value: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(value))
        fresh.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}; give a folder that can be written") from error


def _silent(_: int, __: int, ___: str) -> None:
    """Tells nobody."""
