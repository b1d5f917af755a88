"""What the signals mean, and what a pool may be like after two of them."""

SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "TTIN", "TTOU", "CHLD")
PHASES = ("idle", "reading", "database", "writing", "parked")
KINDS = ("unix", "tcp", "inherited")
STOPS, RELOADS, RESIZES = {"TERM", "INT", "QUIT"}, {"HUP", "USR2"}, {"TTIN": 1, "TTOU": -1}
# What the log says once a signal has been obeyed.
OBEYED = {**dict.fromkeys(STOPS, "draining"), **dict.fromkeys(RELOADS, "reloading"), **dict.fromkeys(RESIZES, "workers from now on"), "WINCH": "are let go"}
WORKERS, DRAIN, LIMIT = 2, 6, 10  # the pool's size; seconds for a drain, and after which a cell is given up


def outcomes(first, second, is_ordered):
    """What a pool may be like after a pair without a stop, as (workers, is paused).

    Only where the first has been obeyed before the second was sent do they have an order: signals that wait have none, two
    of a kind become one, and a reload, which begins anew, comes when the program has been checked.
    """
    orders = [(first, second)]
    if not is_ordered:
        orders += [(second, first)] + [(first,)] * (first == second)
    found = set()
    for order in orders:
        size, is_paused = WORKERS, False
        for name in order:
            if name in RELOADS:
                size, is_paused = WORKERS, False
            if name in RESIZES:
                size = max(1, size + RESIZES[name])
                is_paused = is_paused and name == "TTOU"
            if name == "WINCH":
                is_paused = True
        found.add((size, is_paused))
    return found
