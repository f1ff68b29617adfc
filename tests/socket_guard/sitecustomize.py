"""Found by every Python that a test starts, since PYTHONPATH names this folder: it stays on loopback too."""

import loopback_only

loopback_only.install()
