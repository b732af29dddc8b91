"""Studies: scoring one pair or a thousand, comparing methods, Learn2Reg, and published numbers beside one's own."""

from pullback.evaluation.case import Case
from pullback.evaluation.comparison import (
    Comparison,
    MethodResult,
    compare,
    read_method,
    text_of_comparison,
    write_comparison,
)
from pullback.evaluation.learn2reg import Learn2RegDataset, Learn2RegPair, read_dataset
from pullback.evaluation.output import check_folder
from pullback.evaluation.pair_table import read_pairs
from pullback.evaluation.published_tables import PublishedTable, published_table, published_tables
from pullback.evaluation.run import Job, Outcome, evaluate, jobs_of
from pullback.evaluation.scores import Request, Scores, score
from pullback.evaluation.submission import write_submission

__all__ = [
    "Case",
    "Comparison",
    "Job",
    "Learn2RegDataset",
    "Learn2RegPair",
    "MethodResult",
    "Outcome",
    "PublishedTable",
    "Request",
    "Scores",
    "check_folder",
    "compare",
    "evaluate",
    "jobs_of",
    "published_table",
    "published_tables",
    "read_dataset",
    "read_method",
    "read_pairs",
    "score",
    "text_of_comparison",
    "write_comparison",
    "write_submission",
]
