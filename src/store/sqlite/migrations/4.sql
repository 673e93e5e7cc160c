-- Audit lines, each server's in a chain of its own. The line is what counts; the columns before it are there to search by.
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY, -- grows in the order in which lines can be seen
    server       TEXT    NOT NULL,
    chain        TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,    -- milliseconds since 1970
    client_id    TEXT,
    actor        TEXT,
    reason       TEXT,
    event        TEXT,
    jti          TEXT,
    request_id   TEXT,
    cnf_x5t_s256 TEXT,
    outcome      TEXT,
    line         TEXT    NOT NULL,
    UNIQUE (chain, seq)
) STRICT;
CREATE INDEX audit_server ON audit (server, id);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_client ON audit (client_id, id) WHERE client_id IS NOT NULL;
CREATE INDEX audit_actor ON audit (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_reason ON audit (reason, id) WHERE reason IS NOT NULL;
CREATE INDEX audit_jti ON audit (jti) WHERE jti IS NOT NULL;
CREATE INDEX audit_request ON audit (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_thumbprint ON audit (cnf_x5t_s256, id) WHERE cnf_x5t_s256 IS NOT NULL;
