"""The migrations make the schema that the design names."""

import re
import sqlite3
from pathlib import Path

import pytest

from service.store.queries import load, migrations
from service.store.sqlite import APPLICATION_ID, connect, migrate

TABLES = {
    "jobs",
    "labels",
    "events",
    "sources",
    "secrets",
    "endpoints",
    "deliveries",
    "delivery_attempts",
    "idempotency",
}
#: Columns that the design names because they are dear to add later.
COLUMNS = {
    "jobs": {"uid", "job_id", "owner", "tenant", "attempt", "version", "wanted"},
    "events": {"id", "job_uid", "sequence", "attempt", "type", "time", "data"},
    "sources": {"job_uid", "attempt", "file", "n", "offset"},
}
HANGS_ON_JOBS = {"labels", "events", "sources", "secrets", "deliveries"}


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    migrate(tmp_path / "trainyard.db")
    return connect(tmp_path / "trainyard.db")


def pragma(database: sqlite3.Connection, name: str) -> object:
    return database.execute(f"PRAGMA {name}").fetchone()[0]


def test_an_empty_database_becomes_ours_at_the_newest_version(database: sqlite3.Connection) -> None:
    assert pragma(database, "application_id") == APPLICATION_ID
    assert pragma(database, "user_version") == len(migrations())
    assert pragma(database, "auto_vacuum") == 2  # INCREMENTAL
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2  # FULL
    assert pragma(database, "foreign_keys") == 1
    database.close()


def test_migrating_again_changes_nothing(tmp_path: Path, database: sqlite3.Connection) -> None:
    def schema() -> list[tuple[object, ...]]:
        return database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()

    before = schema()
    migrate(tmp_path / "trainyard.db")
    assert schema() == before
    database.close()


def test_every_table_is_strict_and_known(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    strict = {name: flag for name, flag in rows if not name.startswith("sqlite_")}
    assert set(strict) == TABLES
    assert [name for name, flag in strict.items() if not flag] == []
    database.close()


def test_the_columns_that_the_design_names_are_there(database: sqlite3.Connection) -> None:
    for table, wanted in COLUMNS.items():
        present = {row[0] for row in database.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        assert wanted <= present
    database.close()


def test_what_belongs_to_a_job_goes_with_it(database: sqlite3.Connection) -> None:
    for table in HANGS_ON_JOBS:
        keys = database.execute('SELECT "table", on_delete FROM pragma_foreign_key_list(?)', (table,)).fetchall()
        assert ("jobs", "CASCADE") in keys
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


@pytest.mark.parametrize("module", ["jobs", "events", "deliveries"])
def test_every_query_fits_the_schema(database: sqlite3.Connection, module: str) -> None:
    for sql in load(module).values():
        named = dict.fromkeys(re.findall(r":([a-z_]+)", sql))
        assert database.execute(f"EXPLAIN {sql}", named or [None] * sql.count("?")).fetchall()
    database.close()


@pytest.mark.parametrize("name", ["insert_job", "lanes", "waiting"])
def test_what_every_submission_asks_walks_through_no_table(database: sqlite3.Connection, name: str) -> None:
    """The foreign keys that an insertion checks count too: events and deliveries may be there before their job."""
    sql = load("jobs")[name]
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]
    assert plan
    scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(("SCAN hop", "SCAN json_each"))]
    assert scans + [step for step in plan if "jobs_by_status" in step] == []
    database.close()
