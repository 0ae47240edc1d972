"""What observing costs, as ratios to controls measured in the same run: `python -m benchmarks`.

Start at `__main__.py`, which lists the benchmarks; each is a module with `rows(budget)`. How time is taken is in
`measuring.py`, what the ratios are to is in `controls.py`.
"""
