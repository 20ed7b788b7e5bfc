"""An ordinary HTTP server, which knows nothing of Lambda, with the function of ../python behind it."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from app import handler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        event = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(json.dumps(handler(json.loads(event), None)).encode())

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
