"""
How much one message may ask of its reader.

A message is data that the reader already holds; these limits keep what is made of it in proportion. Beyond the
body itself, decoding takes at most the body's size (strings are copied out, numbers are not), 80 bytes for each
string and 6 for each byte of text, which are both counted here.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from graphpipe_fn.tensors import RANK_MAX
from graphpipe_fn.values import dataclass

MESSAGE_BYTES_MAX: Final = 2**31 - 1  # FlatBuffers' offsets are signed where they lead backwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bound what a decoder accepts.

    Args:
        message_bytes: The whole body.
        tensors: Inputs of a request, or outputs of a response.
        rank: Dimensions of one tensor; 32 at most.
        strings: Elements of all String tensors together.
        names: Input names, output names, and inputs or outputs described in metadata, each.
        errors: Errors in a response.
        text_bytes: Config, names, descriptions and error messages together.
        shared_bytes: How much may be reached more than once. Builders that store equal strings once need a
            little; offsets that all lead to one large tensor are an attack.
    """

    message_bytes: int = MESSAGE_BYTES_MAX
    tensors: int = 1_024
    rank: int = RANK_MAX
    strings: int = 65_536
    names: int = 1_024
    errors: int = 1_024
    text_bytes: int = 262_144
    shared_bytes: int = 4_096

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) < 0:
                raise ValueError(f"the limit {item.name} is negative; give 0 or more")
        if self.rank > RANK_MAX:
            raise ValueError(f"the limit rank is {self.rank}, but arrays have at most {RANK_MAX} dimensions")


DEFAULT_LIMITS: Final = Limits()
