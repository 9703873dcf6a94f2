"""Source can be parsed in any thread."""

from __future__ import annotations

import ast
import gc
import sys
import threading
from pathlib import Path

from cerebelum_nb._text.syntax import parse_python


def test_threads_can_parse_at_the_same_time():
    text = Path(ast.__file__).read_text(encoding="utf-8")
    parsed = []

    def parse():
        parsed.extend(len(parse_python(text).body) for _ in range(5))

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-5)  # so that the threads overlap: with ast.parse one in ten failed on Python 3.11
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=parse) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    assert len(parsed) == 20 and len(set(parsed)) == 1
