"""Prices by OCPI's Tariffs module: exact, explained, compared. Pure functions over OCPI objects.

`docs/pricing.md` has every interpretation, with its section of the specification.
"""

from __future__ import annotations

from streams.pricing.compare import Comparison, TotalComparison, compare
from streams.pricing.engine import (
    TOTALS,
    Line,
    Money,
    Priced,
    PriceWarning,
    Segment,
    price_cdr,
    price_session,
)
from streams.pricing.plan import PricingError, content_hash

__all__ = [
    "TOTALS",
    "Comparison",
    "Line",
    "Money",
    "PriceWarning",
    "Priced",
    "PricingError",
    "Segment",
    "TotalComparison",
    "compare",
    "content_hash",
    "price_cdr",
    "price_session",
]
