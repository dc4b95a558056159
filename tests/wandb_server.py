"""A stand-in for the W&B server on a loopback port: enough of it to log, to resume and to sync a run.

It speaks what wandb 0.31 sends (GraphQL at /graphql, rows at /files/.../file_stream, uploads by PUT) and keeps it.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from tests.loopback import QuietServer

KEY = "k" * 40
"""A key of the form that wandb takes for one."""

Behaviour = Literal["good", "refuses keys", "refuses runs", "fails", "is silent"]
REFUSAL = "this project is not for you"
MANIFEST = "?manifest"
"""Ends the address of an artifact's own manifest, which is none of its files."""
HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"


class WandbServer:
    """Keeps runs: their rows, configuration and artifacts. `behaviour` may be changed at any time."""

    def __init__(self) -> None:
        """Listen on a free port of the loopback interface."""
        self.behaviour: Behaviour = "good"
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.replaced: dict[str, bytes] = {}
        """What is handed out in place of an upload."""
        self.uploads: dict[str, bytes] = {}
        self.files: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"state": self})
        self._http = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return the rows that a run was sent, in order."""
        return [json.loads(line) for line in self.files[run_id][HISTORY]]

    def receive(self, run_id: str, sent: dict[str, Any]) -> None:
        """Keep lines of a run's files from their offsets on: what is sent twice is kept once."""
        with self._lock:
            for name, part in (sent.get("files") or {}).items():
                kept = self.files[run_id][name]
                kept[part["offset"] : part["offset"] + len(part["content"])] = part["content"]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a GraphQL operation."""
        with self._lock:
            self.operations.append(operation)
            answer = getattr(self, f"_on_{operation}", None)
            if answer is None:
                self.unknown.append(operation)
                return {}
            return answer(variables)

    def _on_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": None}}

    def _on_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _on_OrgFeatureFlags(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"organization": {"featureFlags": []}}

    def _on_XXHashDigestsEnabled(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _on_FetchArtifactDigestAlgorithm(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifactType": {"artifactCollection": None}}}

    def _on_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"organization": None}}

    def _on_ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}

    def _on_RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run_id = asked["name"]
        bucket = None
        if run_id in self.runs:
            history = self.files[run_id][HISTORY]
            summary = self.files[run_id][SUMMARY]
            bucket = {
                "id": run_id,
                "name": run_id,
                "displayName": self.runs[run_id].get("displayName"),
                "summaryMetrics": summary[-1] if summary else "{}",
                "logLineCount": 0,
                "historyLineCount": len(history),
                "eventsLineCount": len(self.files[run_id]["wandb-events.jsonl"]),
                "historyTail": json.dumps(history[-1:]),
                "eventsTail": "[]",
                "config": self.runs[run_id].get("config") or "{}",
                "tags": [],
                "notes": None,
                "wandbConfig": '{"t": 1}',
            }
        entity = {"id": "e", "name": "me"}
        return {"model": {"id": "p", "name": asked.get("project"), "entity": entity, "bucket": bucket}}

    def _on_UpsertBucket(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run_id = sent.get("name") or sent["id"]
        is_new = run_id not in self.runs
        self.runs.setdefault(run_id, {}).update({name: value for name, value in sent.items() if value is not None})
        project = {"id": "p", "name": sent.get("project"), "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": run_id,
            "name": run_id,
            "displayName": sent.get("displayName"),
            "description": None,
            "config": sent.get("config") or "{}",
            "sweepName": None,
            "project": project,
            "historyLineCount": len(self.files[run_id][HISTORY]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _on_CreateRunFiles(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{sent['run']}/{name}"} for name in sent["files"]]
        return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}

    def _on_MarkRunFilesUploaded(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"markRunFilesUploaded": {"success": True}}

    def _on_NotifyScriptableRunAlert(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.alerts.append(sent)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _on_CreateArtifact(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = len(self.artifacts)
        self.artifacts.append({**sent["input"], "is_committed": False})
        artifact = {"id": f"a{number}", "digest": sent["input"]["digest"], "state": "PENDING"}
        sequence = {"id": f"s{number}", "name": "s", "latestArtifact": None}
        return {"createArtifact": {"artifact": {**artifact, "artifactSequence": sequence}}}

    def _on_CreateArtifactManifest(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/{sent['artifactID']}{MANIFEST}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m{sent['artifactID']}", "file": file}}}

    def _on_UpdateArtifactManifest(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = sent["artifactManifestID"].removeprefix("m")
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/{number}{MANIFEST}", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": f"m{number}", "file": file}}}

    def _on_CreateArtifactFiles(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        nodes = [
            {
                "node": {
                    "storagePath": f"{spec['artifactID']}/{spec['name']}",
                    "uploadUrl": f"{self.url}/upload/{spec['artifactID']}/{spec['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": spec["artifactID"]},
                }
            }
            for spec in sent["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _on_GetDefaultEntity(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "u", "entity": "me"}}

    def _on_ArtifactByID(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"artifact": self._described(int(asked["id"].removeprefix("a")))}

    def _on_ArtifactMembershipByName(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name, _, alias = asked["name"].partition(":")
        versions = self._versions(asked["entity"], asked["project"], name)
        named = {**{f"v{index}": number for index, number in enumerate(versions)}, "latest": (versions or [-1])[-1]}
        if not versions:
            return {"project": None}
        if alias not in named:
            return {"project": {"artifactCollectionMembership": None}}
        number = named[alias]
        index, project = versions.index(number), self._project(asked["entity"], asked["project"])
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": f"k{number}",
            "versionIndex": index,
            "createdAt": "2026-01-01T00:00:00Z",
            "aliases": [],
            "artifactCollection": {"__typename": "ArtifactSequence", "name": name, "project": project},
            "artifact": self._described(number),
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _on_FetchArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/upload/{asked['id']}{MANIFEST}"}}}}

    def stored(self, artifact: str, md5: str) -> bytes | None:
        """Return the file of an artifact whose content was sent with this hash."""
        for path, content in self.uploads.items():
            if path.startswith(f"{artifact}/") and hashlib.md5(content).hexdigest() == md5:
                return self.replaced.get(path, content)
        return None

    def _versions(self, entity: str, project: str, name: str) -> list[int]:
        """Return the numbers of the artifacts that are the versions of a collection."""
        wanted = (entity, project, name)
        keys = ("entityName", "projectName", "artifactCollectionName")
        return [
            n for n, one in enumerate(self.artifacts) if tuple(map(one.get, keys)) == wanted and one["is_committed"]
        ]

    def _project(self, entity: str, name: str) -> dict[str, Any]:
        return {"id": "p", "internalId": "p", "name": name, "entity": {"name": entity}}

    def _described(self, number: int) -> dict[str, Any]:
        artifact = self.artifacts[number]
        entity, project = artifact["entityName"], artifact["projectName"]
        name = artifact["artifactCollectionName"]
        sequence = {"__typename": "ArtifactSequence", "name": name, "project": self._project(entity, project)}
        files = [path for path in self.uploads if path.startswith(f"a{number}/")]
        return {
            "__typename": "Artifact",
            "id": f"a{number}",
            "artifactSequence": sequence,
            "versionIndex": self._versions(entity, project, name).index(number),
            "artifactType": {"name": artifact["artifactTypeName"]},
            "description": None,
            "metadata": artifact["metadata"],
            "ttlDurationSeconds": -2,
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": sum(len(self.uploads[path]) for path in files),
            "digest": artifact["digest"],
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "c",
            "fileCount": len(files),
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
        }

    def _on_CommitArtifact(self, sent: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self.artifacts[int(sent["artifactID"].removeprefix("a"))]
        artifact["is_committed"] = True
        return {"commitArtifact": {"artifact": {"id": sent["artifactID"], "digest": artifact["digest"]}}}


class _Handler(BaseHTTPRequestHandler):
    state: WandbServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = self.state.uploads.get(self.path.removeprefix("/upload/"))
        if found is None and (asked := re.fullmatch(r"/artifactsV2/.*/(a\d+)/([0-9a-f]{32})/[^/]+", self.path)):
            found = self.state.stored(asked[1], asked[2])
            if found is None or self._misbehaves():
                self._reply({"error": "not found"}, 404)
                return
        self._reply({}) if found is None else self._send(found, 200, "application/octet-stream")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._misbehaves():
            return
        sent = json.loads(body or b"{}")
        if stream := re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.state.receive(stream[1], sent)
            self._reply({})
        elif self.path.endswith("/graphql"):
            match = re.search(r"(?:query|mutation)\s+(\w+)", sent["query"])
            operation = match[1] if match else sent["query"][:80]
            if self.state.behaviour == "refuses runs" and operation == "UpsertBucket":
                self._reply({"errors": [{"message": REFUSAL}]}, 400)
                return
            self._reply({"data": self.state.answer(operation, sent.get("variables") or {})})
        else:
            self._reply({})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._misbehaves():
            self.state.uploads[self.path.removeprefix("/upload/")] = body
            self._reply({})

    def _misbehaves(self) -> bool:
        state = self.state
        if state.behaviour == "is silent":
            while state.behaviour == "is silent":
                time.sleep(0.05)
            self.close_connection = True
            return True
        if state.behaviour == "fails":
            self._reply({"error": "out of order"}, 500)
            return True
        if state.behaviour == "refuses keys" or self._key() != KEY:
            self._reply({"errors": [{"message": "permission denied"}]}, 401)
            return True
        return False

    def _key(self) -> str:
        if self.command == "PUT":  # uploads go to signed addresses
            return KEY
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(given or "").decode().partition(":")[2]

    def _reply(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(answer).encode(), status, "application/json")

    def _send(self, body: bytes, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
