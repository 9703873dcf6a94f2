"""Values on their way to the log and back: encoding, previews, secrets.

This file only re-exports; importing it does not load pandas, numpy or cloudpickle.
"""

from .arguments import fingerprint_args
from .codec import decode, encode
from .preview import preview
from .redactor import Redactor
from .secret import MASK, Secret

__all__ = ["MASK", "Redactor", "Secret", "decode", "encode", "fingerprint_args", "preview"]
