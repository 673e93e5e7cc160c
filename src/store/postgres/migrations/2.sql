-- Audit lines, each server's in a chain of its own. The line is what counts; the columns before it are there to search by.
CREATE TABLE certbind.audit (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- grows in the order in which lines can be seen
    server       text   NOT NULL,
    chain        text   COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    at           bigint NOT NULL, -- milliseconds since 1970
    client_id    text,
    actor        text,
    reason       text,
    event        text,
    jti          text,
    request_id   text,
    cnf_x5t_s256 text,
    outcome      text,
    line         text   NOT NULL,
    UNIQUE (chain, seq)
);
CREATE INDEX audit_server ON certbind.audit (server, id);
-- Lines come in the order of time, so a summary of each block is enough.
CREATE INDEX audit_at ON certbind.audit USING brin (at) WITH (pages_per_range = 16);
CREATE INDEX audit_client ON certbind.audit (client_id, id) WHERE client_id IS NOT NULL;
CREATE INDEX audit_actor ON certbind.audit (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_reason ON certbind.audit (reason, id) WHERE reason IS NOT NULL;
CREATE INDEX audit_jti ON certbind.audit (jti) WHERE jti IS NOT NULL;
CREATE INDEX audit_request ON certbind.audit (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_thumbprint ON certbind.audit (cnf_x5t_s256, id) WHERE cnf_x5t_s256 IS NOT NULL;
