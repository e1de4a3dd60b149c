"""Train the base model's tokenizer: byte-level BPE in which every digit is its own token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}<|system|>{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('a role is system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train(work: Path, output: Path, context: int, characters: int = 40_000_000) -> PreTrainedTokenizerFast:
    """Learn the vocabulary from the first ``characters`` of the shuffled corpus and write it to ``output``.

    Args:
        work: folder with ``documents.jsonl`` and ``dialogues.jsonl``.
        output: folder for tokenizer.json and tokenizer_config.json.
        context: longest sequence of the model, in tokens.
        characters: how much of the corpus to learn from.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(work, characters), trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(output, save_jinja_files=False)
    path = output / "tokenizer_config.json"
    named = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    return fast


def _texts(work: Path, characters: int) -> Iterator[str]:
    for name, share in (("documents.jsonl", 0.75), ("dialogues.jsonl", 0.25)):
        left = characters * share
        with (work / name).open(encoding="utf-8") as stream:
            for line in stream:
                text = " ".join(value for key, value in json.loads(line).items() if key != "kind")
                left -= len(text)
                yield text
                if left < 0:
                    break
