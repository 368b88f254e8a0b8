"""Any bytes, judged against an invariant: `targets.py` states them, `__main__.py` looks for bytes that break one.

The kept corpus, one input a line in hexadecimal, is replayed by `test_corpus.py` with every run of the suite.
"""
