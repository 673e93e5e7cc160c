-- When clients last used which of their credentials, on any server.
CREATE TABLE certbind.usage (
    client_id  text   NOT NULL,
    kind       text   NOT NULL, -- key or certificate
    thumbprint bytea  NOT NULL CHECK (length(thumbprint) = 32),
    name       text,            -- the kid of a key, if it has one; the subject of a certificate
    serial     text,            -- of a certificate, in hexadecimal
    not_before bigint,          -- of a certificate; milliseconds since 1970
    not_after  bigint,          -- of a certificate; milliseconds since 1970
    last_used  bigint NOT NULL, -- milliseconds since 1970
    PRIMARY KEY (client_id, kind, thumbprint)
);
CREATE INDEX usage_last_used ON certbind.usage (last_used);
