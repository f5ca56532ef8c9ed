"""A queue of measurements for a GPU that is lent for minutes: python -m bench.gpu --minutes 9 --out DIR"""
