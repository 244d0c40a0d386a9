"""A reward behind HTTP in Python: how red each picture is, 0 to 255. Put your own network into `score`.

Run: python examples/reward_server.py [PORT] (needs Pillow). Use: reward: { http: http://localhost:8000/score }
The protocol is in docs/guide-rewards.md."""
import base64, io, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from PIL import Image

PROTOCOL = "rldf-reward/1"


def score(images, prompts, metas):
    """One finite number a picture; higher is better."""
    return [sum(image.getchannel("R").tobytes()) / (image.width * image.height) for image in images]


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, value):
        body = json.dumps(value, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {"protocol": PROTOCOL})

    def do_POST(self):
        try:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            pictures = request["pictures"]
            images = [Image.open(io.BytesIO(base64.b64decode(one["png"]))).convert("RGB") for one in pictures]
            scores = score(images, [one["prompt"] for one in pictures], [one["meta"] for one in pictures])
            self.answer(200, {"id": request["id"], "scores": [float(one) for one in scores]})
        except Exception as error:  # told to the training, which tries again
            self.answer(500, {"error": str(error)})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Handler).serve_forever()
