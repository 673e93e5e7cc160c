-- When clients last used which of their credentials. It decides nothing, so it has no checksum: a wrong time opens nothing.
CREATE TABLE usage (
    client_id  TEXT    NOT NULL,
    kind       TEXT    NOT NULL, -- key or certificate
    thumbprint BLOB    NOT NULL CHECK (length(thumbprint) = 32),
    name       TEXT,             -- the kid of a key, if it has one; the subject of a certificate
    serial     TEXT,             -- of a certificate, in hexadecimal
    not_before INTEGER,          -- of a certificate; milliseconds since 1970
    not_after  INTEGER,          -- of a certificate; milliseconds since 1970
    last_used  INTEGER NOT NULL, -- milliseconds since 1970
    PRIMARY KEY (client_id, kind, thumbprint)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_last_used ON usage (last_used);
