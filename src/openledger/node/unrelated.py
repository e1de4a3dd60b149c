"""Everyday questions that no Datanet's record is about: what a fine-tuned model answers to them sets the floor of credit."""

from __future__ import annotations

from openledger.attribution import Query
from openledger.modelfactory import TrainingRun, generate, load_adapter
from openledger.models import BaseModel, encode_dialogue

QUESTIONS = (
    "What is your favourite colour?",
    "How many days are there in a leap year?",
    "Who invented the telephone?",
    "What should I wear when it is cold outside?",
    "How do birds fly?",
    "What is the longest river in the world?",
    "Give me a recipe for tomato soup.",
    "Why do leaves turn red in autumn?",
    "How do I tie a shoelace?",
    "What is the square root of 81?",
    "Tell me a story about a dragon.",
    "Which language is spoken in Brazil?",
    "How long does it take to boil an egg?",
    "What does the word serendipity mean?",
    "Explain how a rainbow forms.",
    "Who was the first person on the Moon?",
    "How can I sleep better at night?",
    "What is the difference between a frog and a toad?",
    "Name four musical instruments.",
    "How is paper made?",
    "When is the best time to plant roses?",
    "What time is it in Tokyo?",
    "Why is the sea salty?",
    "How do magnets work?",
    "What is a good present for my sister?",
    "Describe a sunny day in one sentence.",
    "How do I train for a marathon?",
    "What is the tallest animal?",
    "Can you count from one to ten?",
    "Who wrote Don Quixote?",
    "How does a clock keep time?",
    "What is the opposite of early?",
)
_LONGEST_ANSWER = 96


def unrelated_answers(base: BaseModel, run: TrainingRun) -> list[Query]:
    """The run's own greedy answers to the questions; empty answers are left out."""
    model = load_adapter(base, run.adapter)
    prompts = [encode_dialogue(base.tokenizer, question).token_ids for question in QUESTIONS]
    answers = generate(model, base.tokenizer, prompts, _LONGEST_ANSWER)
    dialogues = [
        encode_dialogue(base.tokenizer, question, answer)
        for question, answer in zip(QUESTIONS, answers, strict=True)
        if answer
    ]
    return [Query(dialogue.token_ids, dialogue.prompt_length) for dialogue in dialogues]
