"""``python -m convform`` is the command ``convform``."""

from __future__ import annotations

from convform.conformance.doors.cli import main

if __name__ == "__main__":
    main()
