"""How the shipped base model is made: corpus, tokenizer, pretraining. Run ``python -m openledger.models.pretraining``."""
