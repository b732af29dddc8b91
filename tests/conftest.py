"""pullback comes before torch here: its import tells OpenMP's threads to sleep while they wait, not to spin.

With spinning threads this suite takes several times longer on a busy machine.
"""

import pullback  # noqa: F401

collect_ignore_glob = ["data/transforms/*"]
"""Reference files and the scripts that made them; those need the tools themselves."""
