"""Near-duplicates among records: groups that share one credit, so that copying and splitting do not pay.

Two records are near-duplicates when their texts are (Jaccard similarity of their token triples; candidates by
MinHash and banding, Broder, 1997) and their whitened gradients point the same way. Groups are the connected
components. A paraphrase with few common words is not found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

_PERMUTATIONS = 128
_BANDS = 32
_SEED = 7


def near_duplicates(
    documents: Sequence[Sequence[int]],
    embeddings: NDArray[np.float32],
    text_similarity: float,
    gradient_similarity: float,
) -> NDArray[np.int64]:
    """The group of each record: the place of its first member [records].

    Args:
        documents: the records' token ids.
        embeddings: their whitened gradients [records, components].
        text_similarity: least Jaccard similarity of token triples, 0 to 1.
        gradient_similarity: least cosine of the embeddings; records with the same tokens need none.
    """
    groups = np.arange(len(documents), dtype=np.int64)

    def first(place: int) -> int:
        while groups[place] != place:
            groups[place] = groups[groups[place]]
            place = int(groups[place])
        return place

    shingles = [_shingles(document) for document in documents]
    lengths = np.linalg.norm(embeddings, axis=1)
    for left, right in _candidates(shingles):
        common = len(shingles[left] & shingles[right])
        if common < text_similarity * len(shingles[left] | shingles[right]):
            continue
        cosine = float(embeddings[left] @ embeddings[right]) / max(float(lengths[left] * lengths[right]), 1e-30)
        if cosine >= gradient_similarity or tuple(documents[left]) == tuple(documents[right]):
            low, high = sorted((first(left), first(right)))
            groups[high] = low
    return np.asarray([first(place) for place in range(len(documents))], dtype=np.int64)


def _candidates(shingles: Sequence[frozenset[tuple[int, ...]]]) -> Iterator[tuple[int, int]]:
    lookup = RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)
    for place, found in enumerate(shingles):
        sketch = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        sketch.update([" ".join(map(str, shingle)) for shingle in sorted(found)])
        for other in sorted(lookup.query(sketch)):
            yield other, place
        lookup.insert(place, sketch)


def _shingles(document: Sequence[int]) -> frozenset[tuple[int, ...]]:
    size = min(3, len(document))
    return frozenset(tuple(document[start : start + size]) for start in range(len(document) - size + 1))
