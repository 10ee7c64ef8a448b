"""``python -m dus_gym`` is ``dus``."""

from dus_gym.cli import main

main()
