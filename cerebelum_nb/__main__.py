"""``python -m cerebelum_nb`` is ``cerebelum``."""

from __future__ import annotations

from ._cli import main

if __name__ == "__main__":
    main(prog_name="cerebelum")
