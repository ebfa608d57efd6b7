"""The verbs of the command line: one file each, with its options (``add``) and what it calls (``run``); no logic.

What a verb works with is imported when it runs: ``limbeck --help`` should not wait for it.
"""

from limbeck.commands import (
    adapt,
    benchmark,
    completion,
    contexts,
    distill,
    embed,
    encoders,
    export,
    index,
    landscape,
    map,
    merge,
    predict,
    profiles,
    propose,
    report,
    search,
    serve,
    speed,
)

__all__ = ["VERBS"]

VERBS = (
    embed,
    merge,
    encoders,
    index,
    search,
    map,
    landscape,
    predict,
    propose,
    serve,
    benchmark,
    speed,
    profiles,
    contexts,
    distill,
    adapt,
    report,
    export,
    completion,
)
"""In the order of ``limbeck --help``."""
