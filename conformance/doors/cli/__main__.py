"""``python -m convform.conformance.doors.cli`` is the command ``convform``."""

from convform.conformance.doors.cli import main

main()
