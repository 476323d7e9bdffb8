"""Whom a client trusts, with authorities in each of the places that OpenSSL looks into."""

import os
import socket
from pathlib import Path

import pytest

from postfix_mtasts.adapters.fetcher import HttpsFetcher
from postfix_mtasts.adapters.trust import Authorities, client_context, trusts_nobody
from tests.adapters.https_server import Authority, HttpsServer, answers

HOST = "mta-sts.example.com"
HASHED = "3387b84d.0"  # `openssl x509 -hash` of the name "CN = Test CA", whatever its key


@pytest.fixture(name="authority")
def make_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(name="folder")
def system_without_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder, empty, that is all of the system's authorities."""
    folder = tmp_path / "certs"
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'none'}{os.pathsep}{folder}")
    return folder


def nobody(ca_file: Path | None = None) -> bool:
    name = None if ca_file is None else str(ca_file)
    return trusts_nobody(client_context(name), name)


def test_a_system_without_authorities_trusts_nobody(folder: Path) -> None:
    assert nobody()
    assert HttpsFetcher().trusts_nobody
    folder.rmdir()
    assert nobody()


def test_a_file_of_authorities_is_somebody(
    folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    assert not nobody()
    assert not HttpsFetcher().trusts_nobody
    assert not any(folder.iterdir())


def test_a_ca_file_of_ones_own_is_somebody_where_the_system_has_none(
    folder: Path, authority: Authority
) -> None:
    assert nobody()
    assert not nobody(authority.ca_file)
    assert not any(folder.iterdir())


def test_a_folder_of_authorities_is_somebody_whom_openssl_finds(
    folder: Path, authority: Authority
) -> None:
    (folder / HASHED).symlink_to(authority.ca_file)
    context = client_context(None)
    assert context.cert_store_stats()["x509"] == 0  # it reads them later
    assert not trusts_nobody(context, None)
    with (
        HttpsServer(authority.good(HOST), answers(b"x")) as server,
        socket.create_connection(("127.0.0.1", server.port)) as sock,
        context.wrap_socket(sock, server_hostname=HOST),
    ):
        assert context.cert_store_stats()["x509"] == 1


@pytest.mark.parametrize("name", ["authority.pem", HASHED.upper(), "3387b84d.r0", f"{HASHED}.bak"])
def test_a_file_that_openssl_would_not_find_is_nobody(
    folder: Path, authority: Authority, name: str
) -> None:
    (folder / name).symlink_to(authority.ca_file)
    assert nobody()


def test_a_link_that_leads_nowhere_is_nobody(folder: Path) -> None:
    (folder / HASHED).symlink_to("removed.pem")
    assert nobody()


def names(authorities: Authorities) -> list[str]:
    certificates = authorities.context.get_ca_certs()
    return [str(certificate["subject"]) for certificate in certificates]


def test_authorities_are_read_again_where_their_file_changes(
    tmp_path: Path, authority: Authority
) -> None:
    file = tmp_path / "authorities.pem"
    file.write_bytes(authority.ca_file.read_bytes())
    authorities = Authorities(str(file))
    [first] = names(authorities)
    assert authorities.context is authorities.context

    new = tmp_path / "authorities.new"
    new.write_bytes(Authority(tmp_path, "Another CA").ca_file.read_bytes())
    new.rename(file)

    [second] = names(authorities)
    assert first != second


def test_the_systems_own_authorities_are_read_again_too(
    folder: Path, authority: Authority, tmp_path: Path
) -> None:
    authorities = Authorities(None)
    assert authorities.trusts_nobody

    (tmp_path / "none.pem").write_bytes(authority.ca_file.read_bytes())

    assert not authorities.trusts_nobody
    assert not any(folder.iterdir())


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_authorities_are_trusted_on_where_their_file_is_broken_or_gone(
    authority: Authority, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    authorities = Authorities(str(authority.ca_file))
    before = names(authorities)

    authority.ca_file.write_text(text)

    assert names(authorities) == names(authorities) == before
    assert caplog.text.count("the authorities of before stay") == 1
    authority.ca_file.unlink()
    assert names(authorities) == before
