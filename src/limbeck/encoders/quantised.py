"""Products in int8 for OpenVINO graphs: weights and inputs are rounded before they are multiplied, sums are exact.

Each filter's weights are rounded within their own range, a product's inputs all within one that is settled before any
protein is encoded: :data:`MARGIN` times the largest that they get on :data:`PROTEINS`. So a protein's vector doesn't
depend on what else is in its batch, and any student can be had in int8, with nothing stored beside its weights. All
that isn't a product with weights stays f32, so that vectors don't depend on whether a processor has bf16. Two machines
differ where a number is so close to the middle between two steps that f32's own rounding decides. Without VNNI sums
overflow or weights are halved, so there is no int8 there: see :func:`exact`.

The compression library that belongs to OpenVINO (nncf) would place the same rounding operators into the graph, but it
wants a data set to choose ranges from, too, and brings many packages with it, for the lines below.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "PROTEINS", "Ranges", "convolution", "exact", "linear", "rounded"]

Ranges = dict[str, float]
"""The largest magnitude of the input of each product with weights, by the name of its layer."""

MARGIN = 1.5
"""Other proteins' inputs are larger than those of :data:`PROTEINS` now and then, and cutting the largest off harms much
more than a coarser step: four tenths of the range spoil the ranks of neighbours, three times the range hardly shows."""

# Natural proteins, as chance ones miss the largest inputs in one of the default model's layers by a factor of 3. Those
# of Mycoplasma genitalium in NCBI RefSeq, which places no restrictions on the use of its records.
PROTEINS = (
    # WP_014894056.1
    "MNYFFKSNKKTKTPNWLIGSFSFFLVFIYYLLIWILFGEINLLGFNFLIAAQNRTFMGKEIEPIFDLVLLWFLFVPLLIYLFLAFFLFAFTKYIIWELIPFCYSTAFTLIVL"
    "FLSGIIPMAWNSWIILLRFFLVLITLMLSFFLLNKMTNFFLIRSKYAIIIAENLLKTGKSKTKNRQKLQQIQSDLERKKSAEIVFKIKKKKPK",
    # WP_009885564.1
    "MSINNKKKRFFFDLAQDDDPEQSLLEEDLFSIKEKVTPQNKNKFNQKQNLSKREETSFDKDSSSFDFGPLSAFEKTFPKSFWSKNNSFQQPEQINQQNENNLENWNEEKSFS"
    "SNFSGKPKKERYFQEEQNFQYHNNGFLQQKNQNFQQQFTQPQPIPPQPKTKIPGIVPVERQEKLDTGVHFYTSQRVWQKVRNYSKAVNIPISRILTIILDNVIEE",
    # WP_081440607.1
    "MAPLTSKFAAYKKKIANWLTVYRIFIALPTIIFIALDNQLGVLANFSVGAISISLQISLLIGGFLFLTAVISDYLDGYLARKWLAVSNFGKLWDPIADKVIINGVLIALAIN"
    "GYFHFSLLIVFIVRDLVLDGMRIYAYEKKVVIAANWLGKWKTIMQMVGIVFSCFVWSFKQSEIASLNSGLFFWLLTQLPYYLAAVFSIWSFIVYNIQIYQQLKAYNSKL",
    # WP_014894004.1
    "MQIKVINETNKTVQIFQCAKVKHRALAWLCDVFLLAIVLVVIFLITQAFSDNRFLLFLVLSCSQTILWTVYFIFLPFFWDGKTLFRNLLKIKLFAFDKRFLRIMIHELFLWI"
    "LLSVLFLVIASYFFINQNSSEALNFFTNLDKPNAIAITIRTITILISFLQLIFIGYFCFSSEKQALQEILSNTFMVQEKHTLKSKPTSLKTNNQPDPANLPGVIALDEVEKL"
    "IN",
    # WP_041593672.1
    "MKLTYSSSGSNNISFDSTNNKPSYVVEFTNSTNVGIKWTMVKKYQLDVPNVSSNMNDVLKNLILEQPLTKYTLNSSLAKEKGKTQVAVHLGSGQATNWRSMRNSISLNNNPS"
    "PNASTGFKLDKGNAYRKLSESWPIYQPIDGTKQGKGKDQANWSSTEESTAASDAPLSTGGGSSSGTFNKYLNTKQALESIGILFDGDGMRNVVSLLPLLSTQQGEKWSIPNH"
    "QHLQQVNWTWQVTIK",
    # WP_049759242.1
    "MHNTNLFVLFKSRDVKVKYESSGSNNISFDSTSQGEKPSYVVEFTNSTNIGIKWSVVKKYQLDLPNVTNEMNQVLQELILEQPLTKYTLNSSLAKQKGKTQREVHLSNSNQW"
    "QSMRNQHDLNNNPSPNASTGFKLDKGNAYRKLSESWPIYQPIDGTKQGKGKDSSGWSSTEATTAKNDAPSVSGSGTSDTASKFKSYLNTKQALESIGILFDGTTARNVVTLL"
    "PLLSTQQGEKWSISTK",
)
"""Ranges are taken from these. Other proteins here are another int8: vectors would not be comparable."""

EXACT = 1e-3
_LAST = np.iinfo(np.int64).max


def rounded(values: Any, largest: float | NDArray[np.floating], lowest: float | None = None) -> Any:
    """A node of values rounded to 8 bits, and cut off beyond ``largest`` and ``lowest``, by default ``-largest``.

    ``largest`` may be an array, for ranges of their own, unless ``lowest`` is given.

    The runtime multiplies in int8 where both factors of a product come like this, as the numbers that they stand for.
    """
    from openvino import opset13 as op

    if lowest is None:
        # As many steps below zero as above.
        step, below, above = np.asarray(largest) / 127, 127, 127
    else:
        # Zero, near which most values are, has to stay zero: a whole number of steps above the lowest.
        step = (np.asarray(largest) - lowest) / 255
        below = int(np.ceil(-lowest / step))
        above = 255 - below
    ends = [op.constant(np.asarray(end, dtype=np.float32)) for end in (-below * step, above * step)]
    return op.fake_quantize(values, *ends, *ends, below + above + 1)


def linear(x: Any, weight: NDArray[np.floating], largest: float, lowest: float | None = None) -> Any:
    """A linear map in int8.

    Args:
        x: (..., channels), a node of an OpenVINO graph.
        weight: (filters, channels).
        largest: the largest magnitude of ``x``, from :data:`Ranges`.
        lowest: below which ``x`` never is, if that is not about ``-largest``: steps are finer then.

    Returns:
        (..., filters).
    """
    return _product(rounded(x, MARGIN * largest, lowest), weight)


def convolution(x: Any, weight: NDArray[np.floating], largest: float, dilation: int, pad: int) -> Any:
    """A dilated convolution in int8, as one product over the channels of all taps side by side.

    Gathering them is cheap, for they are bytes; and the runtime's own convolution takes up to 1.6 times as long where
    it is dilated.

    Args:
        x: (batch, length, channels), a node of an OpenVINO graph.
        weight: (filters, channels, taps).
        largest: the largest magnitude of ``x``, from :data:`Ranges`.
        dilation: distance of two taps.
        pad: zeros beyond either end.

    Returns:
        (batch, length + 2 pad - dilation (taps - 1), filters).
    """
    from openvino import opset13 as op

    x = rounded(x, MARGIN * largest)
    if pad:
        x = op.pad(x, _integers(0, pad, 0), _integers(0, pad, 0), "constant", op.constant(np.float32(0)))
    filters, _, taps = weight.shape
    # What a tap reads stops so many before the end.
    stops = [dilation * tap - dilation * (taps - 1) or _LAST for tap in range(taps)]
    read = [
        op.slice(x, _integers(dilation * tap), _integers(stop), _integers(1), _integers(1))
        for tap, stop in enumerate(stops)
    ]
    return _product(op.concat(read, 2), weight.transpose(0, 2, 1).reshape(filters, -1))


@cache
def exact() -> bool:
    """Whether the runtime adds up products of 8 bits without loss on this processor, as it does with VNNI or AMX.

    Without them pairs of products are added in 16 bits, which the largest exceed: asked here by such a sum.
    """
    import openvino as ov
    from openvino import opset13 as op

    x = op.parameter([-1, -1, 48], np.float32)
    made = linear(x, np.ones((16, 48), np.float32), 1 / MARGIN)
    compiled = ov.Core().compile_model(ov.Model([made], [x], "exact"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([np.ones((1, 32, 48), np.float32)])[0]
    return bool(np.abs(found - 48).max() < EXACT)


def _product(x: Any, weight: NDArray[np.floating]) -> Any:
    from openvino import opset13 as op

    largest = np.abs(weight).max(axis=1, keepdims=True)
    return op.matmul(x, rounded(op.constant(weight), largest), False, True)


def _integers(*values: int) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, np.int64))
