"""A program that behaves as `crane serve` does, without a model. Its first word says how it is to fare.

good: serves until standard input ends; slow: then goes on until it is killed; broken: complains and ends at once;
dies: serves, and ends by itself when asked for its figures.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

FATE = sys.argv[1]
KEY = os.environ.get("CRANE_API_KEY", "")
ANSWERS = {
    "/v1/stats": {"active_sequences": 2, "waiting_sequences": 3, "completed_requests": 41},
    "/v1/models": {"data": [{"id": "tiny"}, {"id": "moonshine"}]},
}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if FATE == "dies":
            os._exit(7)
        if KEY and self.headers.get("Authorization") != f"Bearer {KEY}":
            self.send_error(401)
            return
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


print("crane: note: this is not worth a line", file=sys.stderr, flush=True)
if FATE == "broken":
    print("crane: No model at /nowhere. Download one in Models.", file=sys.stderr, flush=True)
    sys.exit(1)
flags = sys.argv[2:]
server = HTTPServer((flags[flags.index("--host") + 1], int(flags[flags.index("--port") + 1])), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"model    {flags[flags.index('--model-name') + 1]}", flush=True)
print(f"serving at http://127.0.0.1:{server.server_port} (OpenAI clients: ...). Ctrl-C ends it.", flush=True)
print("crane: a request failed", flush=True)
while sys.stdin.buffer.read(1):
    pass
if FATE == "slow":
    threading.Event().wait()
