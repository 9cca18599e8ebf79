"""Shows what a webhook receiver gets: `python examples/receive_webhooks.py 9000`, then POST a job that names it."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Prints one line for each delivery. A delivery may come twice: `webhook-id` tells."""

    seen: set[str] = set()

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.headers["webhook-id"]
        if name not in self.seen:
            self.seen.add(name)
            print(event["log"], f"(Authorization: {self.headers['Authorization']})", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The lines above are enough."""


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(f"usage: python {sys.argv[0]} PORT")
    try:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
    except KeyboardInterrupt:
        pass
