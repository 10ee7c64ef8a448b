"""A hub on this machine: the few routes of the Hugging Face hub that reading and publishing files need."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_writer"


class Hub:
    """Repositories by kind and name: each a list of commits, ``(oid, {path: content})``, and branches."""

    def __init__(self):
        self.repos = {}
        self.requests = []

    def commit(self, kind, repo, files, branch="main"):
        commits, branches = self.repos.setdefault((kind, repo), ([], {}))
        before = dict(commits[-1][1]) if commits else {}
        oid = hashlib.sha1(f"{kind}{repo}{len(commits)}{branch}".encode()).hexdigest()
        commits.append((oid, before | files))
        branches[branch] = oid
        return oid

    def at(self, kind, repo, revision):
        """The commit of a branch or a full oid; None if there is none."""
        commits, branches = self.repos[kind, repo]
        return next((one for one in commits if one[0] == branches.get(revision, revision)), None)

    def file(self, kind, repo, path, revision="main"):
        return self.at(kind, repo, revision)[1][path]


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, content=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def say(self, status, **content):
            self.answer(status, json.dumps(content).encode(), Content_Type="application/json")

        def do_GET(self):
            hub.requests.append(f"{self.command} {self.path}")
            parts = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            if parts is None:
                about = re.match(r"/api/(model|dataset)s/([^/]+/[^/]+)/revision/([^/?]+)", self.path)
                if about is None:
                    return self.answer(404)
                # Versions before 1.0 ask how large files are kept.
                oid, _ = hub.at(about[1], about[2], unquote(about[3]))
                return self.say(200, id=about[2], sha=oid, xetEnabled=False)
            kind, repo, revision, path = ("dataset" if parts[1] else "model"), *map(unquote, parts.groups()[1:])
            if (kind, repo) not in hub.repos:
                return self.answer(404, X_Error_Code="RepoNotFound")
            commit = hub.at(kind, repo, revision)
            if commit is None:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            oid, files = commit
            if path not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
            etag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
            return self.answer(200, files[path], X_Repo_Commit=oid, ETag=etag)

        do_HEAD = do_GET

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.requests.append(f"{self.command} {self.path}")
            if self.path == "/api/validate-yaml":
                return self.say(200, warnings=[], errors=[])
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.say(401, error="Invalid username or password.")
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
                key = (asked.get("type") or "model", name)
                if key in hub.repos:
                    return self.say(409, error="You already created this repo", url=f"https://huggingface.co/{name}")
                hub.commit(*key, {".gitattributes": b""})
                return self.say(200, url=f"https://huggingface.co/{name}", name=name, id="0")
            found = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", self.path)
            kind, repo, what, branch = found.groups()
            if what == "branch":
                hub.repos[kind, repo][1].setdefault(unquote(branch), hub.at(kind, repo, "main")[0])
                return self.say(200)
            if what == "preupload":
                paths = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                return self.say(200, files=files)
            head, *rest = [json.loads(line) for line in body.splitlines()]
            parent = head["value"].get("parentCommit")
            if parent not in (None, hub.at(kind, repo, branch)[0]):
                return self.say(412, error="A commit has happened since. Please refresh and try again.")
            files = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in rest}
            oid = hub.commit(kind, repo, files, unquote(branch))
            return self.say(200, commitUrl=f"https://huggingface.co/{repo}/commit/{oid}", commitOid=oid)

    return Handler


@contextmanager
def running(hub):
    """The address of a hub while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def local_hub(tmp_path, monkeypatch):
    """A hub on this machine, which is the hub of a test; nothing of the user's own is read."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = Hub()
    with running(found) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield found
