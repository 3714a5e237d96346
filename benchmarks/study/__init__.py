"""The study that the recipe of configs/folder.py was chosen by.

  python -m benchmarks.study --root=DATA --weights=resnet18.safetensors

DATA holds folders of parts as `configs/folder.py` reads them. Every row is a
way to score patches; it is tried on every part with every backbone and seed.
What was computed is kept in --cache, and each result is added to
benchmarks/results/study.jsonl as it comes: the same command goes on where it
was interrupted. At the end it writes docs/study.md.
"""
