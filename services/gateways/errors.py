"""Errors of outside systems that refuse or fail a request."""

from __future__ import annotations


class GatewayError(Exception):
    """Out of order for the moment; asking again may help."""


class RefusedError(Exception):
    """The answer is no, for a reason the customer may read. Nothing was done."""


class OutOfStockError(RefusedError):
    """There is not enough of one article."""

    def __init__(self, sku: str) -> None:
        """Name the article."""
        super().__init__(f"not enough of {sku}")
        self.sku = sku


class KeyBarredError(Exception):
    """This key was undone before it was used: it must not be used any more."""


class AnswerLostError(Exception):
    """Whether it was done is not known; the books know."""


USELESS_TO_RETRY = (KeyBarredError, AnswerLostError)
"""For `Retry(never=...)`: the same call would end the same way, or might do the work unseen."""
