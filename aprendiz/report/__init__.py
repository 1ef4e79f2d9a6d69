"""Comparison of runs of any family: reading, grouping, statistics, and one page that works offline.

python -m aprendiz.report RUN... [--out report.html] [--wandb]

Nothing is imported here: name the module that you need, as in `from aprendiz.report.reading import read_run`.
"""
