"""The policy daemon.

What it finds out for the reports lies in ``tlsrpt.db``, beside its store.
"""

from pathlib import Path

from tests.e2e.namespace import Namespace
from tests.e2e.service import Service

OVERRIDDEN = "operators.plain.test"  # of this domain nothing is looked up

_CONFIG = """\
server:
  listen:
    - "inet:127.0.0.1:8461"
    - "unix:/var/spool/postfix/postfix-mtasts/policy.sock"
dns:
  servers: ["127.0.0.1"]
mta_sts:
  ca_file: {authority}
  timeout: 5s
store:
  url: sqlite:///{folder}/state.db
policies:
  - {{domain: "{overridden}", level: may}}
logging:
  level: debug
"""


class Daemon(Service):
    """The daemon; its store outlives each of its processes."""

    def __init__(self, namespace: Namespace, folder: Path, *, authority: Path) -> None:
        config = _CONFIG.format(folder=folder, authority=authority, overridden=OVERRIDDEN)
        super().__init__(namespace, folder, verb="serve", config=config)
