"""`python -m tests.support.small_system`: the runner with two small processes in place of the system's own.

Each answers 200 on its port. With STUBBORN set they ignore SIGTERM, with DRAINS they end at the second one.
"""

import sys
from collections.abc import Mapping

from local.runner import machine, wiring
from local.runner.specs import Site, Spec
from local.runner.wiring import Wish

SERVER = """
import http.server, os, signal, sys
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("DRAINS"):
    def end(*args):
        print("ended by itself", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, lambda *args: signal.signal(signal.SIGTERM, end))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
print("pid", os.getpid(), flush=True)
server.serve_forever()
"""


def _plan(asked: Wish, site: Site, given: Mapping[str, str]) -> tuple[Spec, ...]:
    first, second = machine.free_ports(2)
    return (
        Spec("step", (sys.executable, "-c", "pass"), environment=given),
        Spec(
            "first",
            (sys.executable, "-c", SERVER, str(first)),
            f"http://127.0.0.1:{first}/",
            after=("step",),
            environment=given,
        ),
        Spec(
            "second",
            (sys.executable, "-c", SERVER, str(second)),
            f"http://127.0.0.1:{second}/",
            stops=1,
            environment=given,
        ),
    )


if __name__ == "__main__":
    wiring.plan = _plan
    sys.exit(wiring.main())
