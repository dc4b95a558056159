"""A stand-in for Hugging Face on a loopback port: enough of it to push and to fetch a repository of models.

It speaks what huggingface_hub 2.4 sends without Xet (HF_HUB_DISABLE_XET): repositories, commits, LFS and downloads.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import unquote, urlparse

from tests.loopback import QuietServer

TOKEN = "hf_" + "t" * 34
"""The token of the account `me`."""

Behaviour = Literal["good", "fails", "cuts downloads"]
_LFS = (".zip", ".onnx", ".gif", ".mp4", ".stl")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Repository:
    """Commits, newest last, each with its files by name."""

    def __init__(self, is_private: bool = False) -> None:
        """Begin as the service does: with a commit that has a .gitattributes."""
        self.is_private = is_private
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.messages: list[str] = []
        self.commit({".gitattributes": b"*.zip filter=lfs\n"}, "initial commit")

    def commit(self, changed: dict[str, bytes], message: str) -> str:
        """Add a commit in which these files are new; return its hash."""
        files = {**(self.files if self.commits else {}), **changed}
        text = repr((len(self.commits), sorted((name, _sha(content)) for name, content in files.items())))
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        self.messages.append(message)
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit that a revision means."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class HubServer:
    """Keeps repositories. `behaviour` may be changed at any time."""

    def __init__(self) -> None:
        """Listen on a free port of the loopback interface."""
        self.behaviour: Behaviour = "good"
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"state": self})
        self._http = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_PUT(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        path = unquote(urlparse(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        if self.state.behaviour == "fails":
            self._reply({"error": "out of order"}, 503)
            return
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given not in ("", TOKEN):
            self._reply({"error": "Invalid credentials in Authorization header"}, 401)
            return
        with self.state.lock:
            for pattern, answer in _ROUTES.items():
                if found := re.fullmatch(pattern, f"{self.command} {path}"):
                    answer(self, body, *found.groups())
                    return
        self.state.unknown.append(f"{self.command} {path}")
        self._reply({"error": "not found"}, 404)

    @property
    def _has_account(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository | None:
        """Return a repository that the client may see; otherwise answer as the service does."""
        found = self.state.repositories.get(name)
        if found is not None and (self._has_account or not found.is_private):
            return found
        code = 404 if self._has_account else 401
        self._reply({"error": "Repository not found"}, code, {"X-Error-Code": "RepoNotFound"})
        return None

    def harnesses(self, _: bytes) -> None:
        self._reply({})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self._has_account:
            self._reply({"error": "Invalid username or password."}, 401)
        elif asked["organization"] != "me":
            self._reply({"error": "You don't have the rights to create a model under this namespace"}, 403)
        elif name in self.state.repositories:
            self._reply({"error": "You already created this model repo", "url": f"{self.state.url}/{name}"}, 409)
        else:
            is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.state.repositories[name] = Repository(is_private)
            self._reply({"url": f"{self.state.url}/{name}", "name": name, "id": "1"})

    def info(self, _: bytes, name: str, revision: str = "main") -> None:
        if (repository := self._repository(name)) is None:
            return
        if (commit := repository.at(revision)) is None:
            self._reply({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": file} for file in commit[1]]
        about = {"id": name, "modelId": name, "sha": commit[0], "private": repository.is_private, "tags": []}
        self._reply({**about, "siblings": siblings, "downloads": 0, "likes": 0})

    def tree(self, _: bytes, name: str, revision: str) -> None:
        if (repository := self._repository(name)) is not None:
            commit = repository.at(revision)
            assert commit is not None
            files = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in commit[1].items()
            ]
            self._reply(files)

    def validate(self, body: bytes) -> None:
        assert json.loads(body)["content"].startswith("---\n")
        self._reply({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, _: str) -> None:
        if self._repository(name) is not None:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "lfs" if path.endswith(_LFS) else "regular"} for path in paths]
            self._reply({"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})

    def batch(self, body: bytes, _: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            action = {"upload": {"href": f"{self.state.url}/objects/{one['oid']}", "header": {}}}
            is_new = one["oid"] not in self.state.objects
            objects.append({**one, **({"actions": action} if is_new else {})})
        self._reply({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        assert _sha(body) == oid
        self.state.objects[oid] = body
        self._reply({})

    def commit(self, body: bytes, name: str, _: str) -> None:
        if (repository := self._repository(name)) is None:
            return
        changed, message = {}, ""
        for line in body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                changed[value["path"]] = self.state.objects[value["oid"]]
        commit = repository.commit(changed, message)
        url = f"{self.state.url}/{name}/commit/{commit}"
        self._reply({"commitUrl": url, "commitOid": commit, "success": True})

    def resolve(self, _: bytes, name: str, revision: str, file: str) -> None:
        if (repository := self._repository(name)) is None:
            return
        if (commit := repository.at(revision)) is None:
            self._reply({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        headers = {"X-Repo-Commit": commit[0]}
        content = commit[1].get(file)
        if content is None:
            self._reply({"error": "Entry not found"}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers["ETag"] = f'"{_sha(content)}"'
        if self.command == "GET" and self.state.behaviour == "cuts downloads" and file.endswith(_LFS):
            self._send(content[: len(content) // 2], 200, {**headers, "Content-Length": str(len(content))})
            self.close_connection = True
            return
        self._send(content, 200, headers)

    def _reply(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        message = {"X-Error-Message": answer["error"]} if isinstance(answer, dict) and "error" in answer else {}
        kind = {"Content-Type": "application/json"}
        self._send(json.dumps(answer).encode(), status, {**kind, **message, **(headers or {})})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_REPO = r"([^/]+/[^/]+)"
_ROUTES = {
    "GET /api/agent-harnesses": _Handler.harnesses,
    "POST /api/repos/create": _Handler.create,
    "POST /api/validate-yaml": _Handler.validate,
    rf"GET /api/models/{_REPO}": _Handler.info,
    rf"GET /api/models/{_REPO}/revision/(.+)": _Handler.info,
    rf"GET /api/models/{_REPO}/tree/([^/]+)": _Handler.tree,
    rf"POST /api/models/{_REPO}/preupload/(.+)": _Handler.preupload,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /objects/([0-9a-f]{64})": _Handler.store,
    rf"POST /api/models/{_REPO}/commit/(.+)": _Handler.commit,
    rf"(?:GET|HEAD) /{_REPO}/resolve/([^/]+)/(.+)": _Handler.resolve,
}
