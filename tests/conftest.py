"""pullback comes before torch here: its import tells OpenMP's threads to sleep while they wait, not to spin.

With spinning threads this suite takes several times longer on a busy machine.
"""

import pullback  # noqa: F401
