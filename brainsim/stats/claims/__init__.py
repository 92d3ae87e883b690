"""Turn scores of systems into answers to claims that were declared before: supported, not supported, undecided."""

from brainsim.stats.claims.answers import Answer, Rules, answer_claims
from brainsim.stats.claims.catalogue import CLAIMS
from brainsim.stats.claims.rows import Claim, Part
from brainsim.stats.claims.scores import Scores

__all__ = ["CLAIMS", "Answer", "Claim", "Part", "Rules", "Scores", "answer_claims"]
