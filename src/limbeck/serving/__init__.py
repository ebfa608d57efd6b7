"""An HTTP server for one encoder, and an index and a landscape model if there are any: ``limbeck serve``.

A request goes through :mod:`~limbeck.serving.gate` (key, limits, time), is checked by :mod:`~limbeck.serving.bodies`,
and waits in a bounded queue, from which :mod:`~limbeck.serving.batching` takes proteins of several requests at once.
Needs the extra ``limbeck[serve]``.
"""
