"""Fetching: from a server that cuts and lies, from archives that mean harm; all or nothing, checked by SHA-256."""

import hashlib
import http.server
import io
import stat
import tarfile
import threading
import zipfile
from collections import Counter

import pytest

from dus_gym.data import archive as archives
from dus_gym.data import download as downloads
from dus_gym.data import fetch as fetching
from dus_gym.data.download import download
from dus_gym.data.fetch import fetch, manifest_of
from dus_gym.data.manifest import Archive, Entry, Manifest
from dus_gym.data.registry import DATA_SETS
from dus_gym.errors import ConfigError, DatasetNotFoundError, FetchError

FILES = {"table.csv": b"a,b\n1,2\n", "sounds/one.wav": bytes(range(256)) * 500, "sounds/two.wav": b"two" * 9}


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES below /pinned/, and can cut answers off, ignore ranges, refuse, or send other bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/pinned/{name}": data for name, data in FILES.items()}
        self.cuts = {}
        """Path to the bytes after which each of the next answers ends."""
        self.ranges = True
        self.status = {}
        """Path to the codes of the next answers."""
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        codes = server.status.get(self.path)
        if codes:
            self.send_error(codes.pop(0))
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        data = server.files[self.path]
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cuts = server.cuts.get(self.path)
        end = start + cuts.pop(0) if cuts else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "WAIT", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def entry(name, url="http://127.0.0.1:9", data=None):
    data = FILES[name] if data is None else data
    return Entry(name, f"{url}/pinned/{name}", f"data/{name}", len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def manifest(monkeypatch):
    """Puts a manifest in the place of that of any name."""

    def use(url="http://127.0.0.1:9", **more):
        found = Manifest("toy", "a toy", "none", "", tuple(entry(name, url) for name in FILES), **more)
        monkeypatch.setattr(fetching, "manifest_of", lambda name: found)
        return found

    return use


def content(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# -- the committed manifests ---------------------------------------------------------------------------


def test_every_committed_manifest_is_pinned_and_safe():
    fetched = [name for name, known in DATA_SETS.items() if known.can_be_fetched]
    assert fetched == ["avdigits", "cremad-ratings", "mfeat", "sarcasm-tags"]
    for name in fetched:
        found = manifest_of(name)
        assert found.name == name
        assert found.title
        assert found.licence
        assert all(count == 1 for count in Counter(e.path for e in found.entries).values())
        for e in found.entries:
            host, _, path = e.url.removeprefix("https://").partition("/")
            assert host == "raw.githubusercontent.com"
            commit = path.split("/")[2]
            assert len(commit) == 40
            assert set(commit) <= set("0123456789abcdef")
            assert len(e.sha256) == 64
            assert e.size > 0
            assert not e.path.startswith("/")
            assert ".." not in e.path.split("/")
    assert len(manifest_of("avdigits").entries) == 3000
    with pytest.raises(ConfigError, match="Did you mean 'mfeat'"):
        manifest_of("mfaet")


# -- from a server -------------------------------------------------------------------------------------


def test_every_file_arrives_and_a_second_call_asks_for_nothing(server, manifest, tmp_path):
    manifest(server.url)
    seen = []
    result = fetch("toy", tmp_path / "new", progress=lambda done, total, name: seen.append((done, total)))
    assert content(tmp_path / "new") == dict(sorted(FILES.items()))
    assert result.new == tuple(FILES)
    total = sum(map(len, FILES.values()))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    server.asked.clear()
    again = fetch("toy", tmp_path / "new")
    assert (again.new, again.present) == ((), tuple(FILES))
    assert server.asked == []


def test_a_cut_connection_goes_on_where_it_stopped(server, manifest, tmp_path):
    manifest(server.url)
    path = "/pinned/sounds/one.wav"
    server.cuts[path] = [50_000, 30_000]
    fetch("toy", tmp_path)
    assert content(tmp_path)["sounds/one.wav"] == FILES["sounds/one.wav"]
    assert [asked for name, asked in server.asked if name == path] == [None, "bytes=50000-", "bytes=80000-"]


def test_a_call_that_failed_is_continued_by_the_next_one(server, manifest, tmp_path, monkeypatch):
    manifest(server.url)
    path = "/pinned/sounds/one.wav"
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.cuts[path] = [50_000, 0]
    with pytest.raises(FetchError, match="can't be had"):
        fetch("toy", tmp_path)
    # None of the new files is in its place before all are.
    assert all(name.startswith(".dus-fetch/") for name in content(tmp_path))
    fetch("toy", tmp_path)
    assert content(tmp_path) == dict(sorted(FILES.items()))
    assert [asked for name, asked in server.asked if name == path][-1] == "bytes=50000-"


def test_a_server_without_ranges_starts_anew(server, manifest, tmp_path):
    manifest(server.url)
    server.ranges = False
    server.cuts["/pinned/sounds/one.wav"] = [50_000]
    fetch("toy", tmp_path)
    assert content(tmp_path)["sounds/one.wav"] == FILES["sounds/one.wav"]


@pytest.mark.parametrize("code", [404, 403, 410])
def test_a_refusal_is_named_and_not_repeated(server, manifest, tmp_path, code):
    manifest(server.url)
    server.status["/pinned/table.csv"] = [code] * 9
    with pytest.raises(FetchError, match=rf"/pinned/table\.csv can't be had: the server answered {code}"):
        fetch("toy", tmp_path)
    assert [name for name, _ in server.asked].count("/pinned/table.csv") == 1
    assert "table.csv" not in content(tmp_path)


def test_a_busy_server_is_asked_again_but_not_for_ever(server, tmp_path):
    server.status["/pinned/table.csv"] = [503, 429]
    download(f"{server.url}/pinned/table.csv", tmp_path / "x", len(FILES["table.csv"]))
    assert (tmp_path / "x").read_bytes() == FILES["table.csv"]
    server.status["/pinned/table.csv"] = [503] * 99
    with pytest.raises(FetchError, match=r"answered 503 .* after 4 attempts"):
        download(f"{server.url}/pinned/table.csv", tmp_path / "y", len(FILES["table.csv"]))


def test_wrong_bytes_are_named_with_both_checksums_and_not_kept(server, manifest, tmp_path):
    manifest(server.url)
    other = b"a,b\n1,3\n"
    server.files["/pinned/table.csv"] = other
    with pytest.raises(FetchError) as caught:
        fetch("toy", tmp_path)
    message = str(caught.value)
    assert "table.csv" in message
    assert f"expected SHA-256 {hashlib.sha256(FILES['table.csv']).hexdigest()}" in message
    assert f"found {hashlib.sha256(other).hexdigest()}" in message
    assert other not in content(tmp_path).values()
    server.files["/pinned/table.csv"] = FILES["table.csv"]
    fetch("toy", tmp_path)
    assert content(tmp_path) == dict(sorted(FILES.items()))


def test_more_bytes_than_announced_are_not_written(server, manifest, tmp_path):
    manifest(server.url)
    server.files["/pinned/table.csv"] = b"x" * 1_000_000
    with pytest.raises(FetchError, match="more than the 8 bytes"):
        fetch("toy", tmp_path)
    assert all(len(data) <= len(FILES["sounds/one.wav"]) for data in content(tmp_path).values())


def test_a_server_that_is_not_there_and_a_scheme_that_is_not_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "WAIT", 0.0)
    with Server() as gone:
        url = gone.url
    with pytest.raises(FetchError, match=r"can't be had: .*refused"):
        download(f"{url}/x", tmp_path / "x", 3)
    (tmp_path / "secret").write_bytes(b"abc")
    with pytest.raises(FetchError, match="only http and https"):
        download((tmp_path / "secret").as_uri(), tmp_path / "x", 3)


def test_many_files_come_in_one_archive_and_the_rest_one_by_one(server, manifest, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fetching, "CONNECTIONS", 1)
    server.files["/all.zip"] = zipped({f"repo-1/data/{n}": d for n, d in FILES.items() if n != "table.csv"})
    manifest(server.url, archive=Archive(f"{server.url}/all.zip", 1 << 20))
    fetch("toy", tmp_path / "one")
    assert content(tmp_path / "one") == dict(sorted(FILES.items()))
    assert [name for name, _ in server.asked] == ["/all.zip", "/pinned/table.csv"]
    # An archive that can't be had is said, and not the end.
    del server.files["/all.zip"]
    fetch("toy", tmp_path / "two")
    assert content(tmp_path / "two") == dict(sorted(FILES.items()))
    assert "answered 404" in caplog.text


# -- from files the user has ---------------------------------------------------------------------------


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def tarred(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def as_folder(path, members):
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path, members):
    path.write_bytes(zipped(members))
    return path


KINDS = {"folder": as_folder, "zip": as_zip, "tar.gz": tarred}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "repo-main/", "repo-main/data/"])
def test_a_folder_or_archive_gives_the_files_wherever_they_lie_in_it(manifest, tmp_path, kind, prefix):
    manifest()
    members = {f"{prefix}{name}": data for name, data in FILES.items()} | {f"{prefix}README": b"hello"}
    source = KINDS[kind](tmp_path / "source", members)
    assert fetch("toy", tmp_path / "root", source).new == tuple(FILES)
    assert content(tmp_path / "root") == dict(sorted(FILES.items()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_or_missing_file_in_it_is_named_and_nothing_is_taken(manifest, tmp_path, kind):
    manifest()
    source = KINDS[kind](tmp_path / "source", FILES | {"table.csv": b"a,b\n1,9\n"})
    with pytest.raises(FetchError, match=r"table\.csv: expected SHA-256 \w{64}, found \w{64}"):
        fetch("toy", tmp_path / "root", source)
    short = KINDS[kind](tmp_path / "short", FILES | {"table.csv": b"a,b\n"})
    with pytest.raises(FetchError, match=r"table\.csv: expected 8 bytes, found 4"):
        fetch("toy", tmp_path / "root", short)
    lacking = KINDS[kind](tmp_path / "lacking", {"table.csv": FILES["table.csv"]})
    with pytest.raises(FetchError, match=r"lacks 2 of the 3 files of 'toy', the first: 'data/sounds/one\.wav'"):
        fetch("toy", tmp_path / "root", lacking)
    assert all(name.startswith(".dus-fetch/") for name in content(tmp_path / "root"))


def test_a_file_of_the_users_own_is_never_replaced(manifest, tmp_path):
    manifest()
    source = as_folder(tmp_path / "source", FILES)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/table.csv").write_bytes(b"my own")
    with pytest.raises(FetchError, match=r"table\.csv is there but is not the file of 'toy'.*Move it away"):
        fetch("toy", tmp_path / "root", source)
    assert content(tmp_path / "root") == {"table.csv": b"my own"}


def test_a_source_that_is_not_there_or_no_archive(manifest, tmp_path):
    manifest()
    with pytest.raises(DatasetNotFoundError, match=r"give a folder, a \.zip or a \.tar"):
        fetch("toy", tmp_path / "root", tmp_path / "nothing")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(FetchError, match="neither a folder nor a zip or tar"):
        fetch("toy", tmp_path / "root", tmp_path / "text")
    damaged = bytearray(zipped(FILES))
    damaged[60:90] = b"\0" * 30
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(FetchError, match=r"can't be read|expected SHA-256"):
        fetch("toy", tmp_path / "root", tmp_path / "damaged.zip")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../table.csv", "leads out"),
        ("data/../../table.csv", "leads out"),
        ("..\\table.csv", "leads out"),
        ("/etc/table.csv", "is absolute"),
        ("\\\\host\\table.csv", "is absolute"),
        ("C:/table.csv", "is absolute"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_with_a_member_that_leads_elsewhere_is_refused_whole(manifest, tmp_path, kind, name, why):
    manifest()
    source = KINDS[kind](tmp_path / "source", FILES | {name: FILES["table.csv"]})
    with pytest.raises(FetchError, match=f"is refused: its member .* {why}.*Nothing was taken"):
        fetch("toy", tmp_path / "root", source)
    assert content(tmp_path / "root") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root", "source"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_a_link_or_a_device_is_refused(manifest, tmp_path, kind):
    manifest()
    path = tarred(tmp_path / "source.tar", FILES, "w")
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("table2.csv")
        member.type, member.linkname = kind, "/etc/passwd"
        file.addfile(member)
    with pytest.raises(FetchError, match=r"'table2\.csv' is a link or a device"):
        fetch("toy", tmp_path / "root", path)


def test_a_zip_with_a_link_is_refused(manifest, tmp_path):
    manifest()
    link = zipfile.ZipInfo("table2.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as file:
        for name, data in FILES.items():
            file.writestr(name, data)
        file.writestr(link, "/etc/passwd")
    with pytest.raises(FetchError, match=r"'table2\.csv' is a link or a device"):
        fetch("toy", tmp_path / "root", tmp_path / "source.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_swells_is_refused(manifest, tmp_path, kind, monkeypatch):
    manifest()
    monkeypatch.setattr(archives, "MOST_BYTES", 1_000_000)
    source = KINDS[kind](tmp_path / "source", FILES | {"bomb": b"\0" * 2_000_000})
    with pytest.raises(FetchError, match="'bomb' has 2000000 bytes; at most 1000000"):
        fetch("toy", tmp_path / "root", source)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    with pytest.raises(FetchError, match="more than 3 members"):
        fetch("toy", tmp_path / "root", KINDS[kind](tmp_path / "many", FILES | {"more": b"1"}))
