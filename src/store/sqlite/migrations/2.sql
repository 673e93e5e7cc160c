-- How often each kind of state has changed. Other processes look here for news.
CREATE TABLE revisions (
    kind     TEXT    PRIMARY KEY, -- clients, keys or revocations
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO revisions (kind, revision) VALUES ('clients', 0), ('keys', 0), ('revocations', 0);

-- Clients that were registered while the server runs. A removed one stays, without metadata, until others have seen it go.
CREATE TABLE clients (
    client_id TEXT    PRIMARY KEY,
    metadata  TEXT,             -- JSON (RFC 7591 §2); none when the client was removed
    revision  INTEGER NOT NULL UNIQUE,
    created   INTEGER NOT NULL, -- milliseconds since 1970
    updated   INTEGER NOT NULL, -- milliseconds since 1970
    checksum  INTEGER NOT NULL  -- FNV-1a over the five above
) STRICT;

-- What was revoked, until nothing that it concerns can be alive.
CREATE TABLE revocations (
    what       TEXT    NOT NULL, -- token, certificate or client
    id         BLOB    NOT NULL CHECK (length(id) = 32),
    revoked    INTEGER NOT NULL, -- milliseconds since 1970
    keep_until INTEGER NOT NULL, -- milliseconds since 1970, inclusive
    revision   INTEGER NOT NULL UNIQUE,
    checksum   INTEGER NOT NULL, -- FNV-1a over the five above
    PRIMARY KEY (what, id)
) STRICT, WITHOUT ROWID;
