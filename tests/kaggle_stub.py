"""A loopback stand-in for Kaggle's web API: enough for data sets, kernels and submissions.

The real client is sent here by KAGGLE_API_ENVIRONMENT=LOCALHOST and a proxy on 127.0.0.1.
"""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT = 1_000_000


class Stub:
    """The server's memory: data sets with their files, kernels, calls in their order.

    Attributes:
        refuse: call name to the answer it gets instead, (HTTP status, JSON).
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.blobs: dict[str, tuple[str, bytes]] = {}
        self.datasets: dict[str, list[dict[str, bytes]]] = {}
        self.kernels: dict[str, list[dict[str, Any]]] = {}
        self.polls: dict[str, int] = {}
        self.refuse: dict[str, tuple[int, dict[str, Any]]] = {}
        self.lock = threading.Lock()
        stub = self

        class Handler(_Handler):
            memory = stub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: str) -> dict[str, str]:
        """Variables that bring the real client here, with a user called alice."""
        proxy = f"http://127.0.0.1:{self.server.server_port}"
        return {
            **dict.fromkeys(("HTTP_PROXY", "http_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": "alice",
            "KAGGLE_KEY": "dummy",
            "HOME": home,
            "KAGGLE_CONFIG_DIR": home,
        }

    def named(self, call: str) -> list[dict[str, Any]]:
        """Requests of one call, in their order."""
        return [request for name, request in self.calls if name == call]

    def answer(self, call: str, request: dict[str, Any], count: int) -> tuple[int, dict[str, Any]]:
        if call in self.refuse:
            return self.refuse[call]
        method = getattr(self, f"_{call}", None)
        if method is None:
            return 404, {"code": 404, "message": f"the stub has no {call}"}
        return method(request, count)

    def _GetDatasetStatus(self, request: dict[str, Any], count: int) -> Any:
        name = f"{request['ownerSlug']}/{request['datasetSlug']}"
        if name not in self.datasets:
            return 404, {"code": 404, "message": "not found"}
        self.polls[name] = self.polls.get(name, 0) + 1
        return 200, {"status": "BLOBS_RECEIVED" if self.polls[name] == 1 else "READY"}

    def _StartBlobUpload(self, request: dict[str, Any], count: int) -> Any:
        token = f"token{count}"
        self.blobs[token] = (request["name"], b"")
        return 200, {"token": token, "createUrl": f"http://localhost/upload/{token}"}

    def _files(self, request: dict[str, Any]) -> dict[str, bytes]:
        return dict(self.blobs[file["token"]] for file in request["files"])

    def _CreateDataset(self, request: dict[str, Any], count: int) -> Any:
        self.datasets[f"{request['ownerSlug']}/{request['slug']}"] = [self._files(request)]
        return 200, {"ref": "x", "url": "http://localhost/d", "status": "Ok", "error": ""}

    def _CreateDatasetVersion(self, request: dict[str, Any], count: int) -> Any:
        name = f"{request['ownerSlug']}/{request['datasetSlug']}"
        self.datasets[name].append(self._files(request["body"]))
        self.polls[name] = 0
        return 200, {"ref": "x", "url": "http://localhost/d", "status": "Ok", "error": ""}

    def _SaveKernel(self, request: dict[str, Any], count: int) -> Any:
        if len(request["text"].encode()) >= LIMIT:
            return 400, {"code": 400, "message": "must be less than 1 megabytes in size."}
        versions = self.kernels.setdefault(request["slug"], [])
        versions.append(request)
        url = f"http://localhost/code/{request['slug']}"
        return 200, {"ref": "x", "url": url, "versionNumber": len(versions), "kernelId": 7}

    def _GetKernelSessionStatus(self, request: dict[str, Any], count: int) -> Any:
        self.polls["kernel"] = self.polls.get("kernel", 0) + 1
        return 200, {"status": "RUNNING" if self.polls["kernel"] == 1 else "COMPLETE"}

    def _ListKernelSessionOutput(self, request: dict[str, Any], count: int) -> Any:
        return 200, {"files": [], "log": "", "nextPageToken": ""}

    def _CreateCodeSubmission(self, request: dict[str, Any], count: int) -> Any:
        return 200, {"message": "Successfully submitted to the competition", "ref": 1}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    memory: Stub

    def log_message(self, *args: Any) -> None:
        pass

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, code: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _last(self) -> str:
        # A proxy is asked with the whole address.
        return urllib.parse.urlsplit(self.path).path.rpartition("/")[2]

    def do_PUT(self) -> None:
        token, data = self._last(), self._body()
        self.memory.blobs[token] = (self.memory.blobs[token][0], data)
        self._send(200, {})

    def do_POST(self) -> None:
        call, request = self._last(), json.loads(self._body() or b"{}")
        with self.memory.lock:
            self.memory.calls.append((call, request))
            self._send(*self.memory.answer(call, request, len(self.memory.calls)))
