"""`python -m app.cli` is `nenghao`."""

from app.cli import main

main()
