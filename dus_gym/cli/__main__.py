"""``python -m dus_gym.cli`` is ``dus``."""

from dus_gym.cli import main

main()
