"""Which replica on a Ray cluster answers: each adapter is at home in one of them, the same one for every gateway.

Rendezvous hashing (https://doi.org/10.1109/90.663936) by the adapter's content and the replica's id: when a replica comes or
goes, only its own adapters move. A home that answers a full batch already passes requests on to the next in the adapter's
order. The base alone goes to the shorter queue of two. Needs Ray Serve, so only what has it imports this.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class HomeRouter(RequestRouter):
    """Serve's router of every handle of the deployment."""

    queue_len_response_deadline_s = 2.0
    """Under load a home needs longer than Serve's tenth of a second to tell its queue, and the adapter would leave it."""

    def initialize_state(self, **kwargs: int) -> None:
        """``busy``: requests under way at which a home passes more of them on."""
        self._busy = kwargs["busy"]

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Lists of replicas in the order in which they are tried; within one, the shortest queue is taken."""
        if pending_request is None or not pending_request.metadata.multiplexed_model_id:
            found = [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        else:
            content = pending_request.metadata.multiplexed_model_id
            ordered = sorted(candidate_replicas, key=lambda one: _distance(content, one))
            found = [[one] for one in sorted(ordered, key=self._is_busy)]
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # where all are full, it looks again a while later
        return found

    def _is_busy(self, replica: Any) -> bool:
        return (self.replica_queue_len_cache.get(replica.replica_id) or 0) >= self._busy


def _distance(content: str, replica: Any) -> bytes:
    return hashlib.blake2b(f"{content} {replica.replica_id.unique_id}".encode(), digest_size=16).digest()
