import pytest

from schemas.uri import conceal, is_location, is_metadata_host, is_metadata_url, is_uri, mask_urls, scheme_of

HTTP = ("http", "https")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.170.2",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.16689662",
        "%31%36%39.254.169.254",
        "１６９.254.169.254",
        "169。254。169。254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[::169.254.169.254]",
        "[fd00:ec2::254]",
        "[FD00:0EC2:0::254]",
        "[fd20:ce::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "metadata.goog",
        "instance-data",
    ],
)
def test_metadata_addresses_are_known_in_every_spelling(host):
    assert is_metadata_url(f"http://{host}/latest")
    assert is_metadata_url(f"http://{host}:80")
    assert is_metadata_url(f"http://user:pw@{host}?x")
    assert is_metadata_host(host)


@pytest.mark.parametrize(
    "host", ["webhook.internal", "10.0.0.1", "127.0.0.1", "[::1]", "169.253.1.1", "metadata.example.com", "8"]
)
def test_other_hosts_are_no_metadata_address(host):
    assert not is_metadata_url(f"http://{host}/169.254.169.254")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("https://host", True),
        ("http://host:8080/a?b=c#d", True),
        ("HTTPS://Host/x", False),
        ("https://user:pw@host/x", True),
        ("http://[::1]:80/x", True),
        ("http://host:notaport/", False),
        ("http://host:99999/", False),
        ("http://", False),
        ("http:///path", False),
        ("https:host", False),
        ("http://ho st/", False),
        ("http://host/a b", False),
        ("http://host/\n", False),
        ("http://[::1", False),
        ("ftp://host/x", False),
        ("javascript:alert(1)", False),
        ("host/x", False),
        ("", False),
    ],
)
def test_an_http_url_has_a_host_and_no_odd_characters(text, holds):
    assert is_uri(text, HTTP) is holds


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/k e y",
        "gs://b/x",
        "az://c/x",
        "https://h/x",
        "hf://datasets/o/n",
        "file:///x",
        "./x",
        "/x",
        "a b",
        "~/x",
        "x:y",
    ],
)
def test_uris_of_storage_and_paths_are_locations(text):
    assert is_location(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "s3://",
        "s3:/b",
        "S3://b/x",
        "ftp://h/x",
        "http://h/x",
        "file://host/x",
        "file:x",
        "a\tb",
        "https://",
        "https:x",
    ],
)
def test_other_schemes_and_half_uris_are_none(text):
    assert not is_location(text)


def test_a_scheme_is_told_from_a_path():
    assert [scheme_of(text) for text in ("s3://b", "a/b", "c:d", "file:x", "x+y://z")] == [
        "s3",
        None,
        None,
        "file",
        "x+y",
    ]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://u:p@h/x?sig=1", "https://••••@h/x?••••"),
        ("s3://b/k?versionId=1", "s3://b/k?••••"),
        ("see https://u@h and http://h/?t=1 now", "see https://••••@h and http://h/?•••• now"),
        ("--url=https://u:p@h", "--url=https://••••@h"),
        ("https://h/a@b", "https://h/a@b"),
        ("who? me@x", "who? me@x"),
        ("https://h/x", "https://h/x"),
        ("https://••••@h/x?••••", "https://••••@h/x?••••"),
    ],
)
def test_user_info_and_query_of_every_url_are_masked(text, masked):
    assert mask_urls(text) == masked


@pytest.mark.parametrize(
    "text", ["https://u:SECRET/x@h", "https://u:SECRET@h", "http://h/?t=SECRET", "u:SECRET@h", "https://u:SEC?RET@h"]
)
def test_broken_urls_are_concealed_in_messages(text):
    shown = conceal(text)
    assert "SECRET" not in shown and "SEC" not in shown and "RET" not in shown
