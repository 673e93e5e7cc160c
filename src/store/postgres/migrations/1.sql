-- Used assertions. The primary key is what two servers meet at: of two that insert the same key one gets it.
CREATE TABLE certbind.replay (
    key        bytea  PRIMARY KEY CHECK (length(key) = 16),
    keep_until bigint NOT NULL -- milliseconds since 1970, inclusive
);
-- Rows come in the order of time, so a summary of each block finds what is over; a tree would cost as much as the key.
CREATE INDEX replay_keep_until ON certbind.replay USING brin (keep_until) WITH (pages_per_range = 16);

CREATE TABLE certbind.replay_state (
    id                integer PRIMARY KEY CHECK (id = 1),
    horizon           bigint  NOT NULL, -- what was to be kept no longer than this may have been deleted
    fence             bigint  NOT NULL, -- when the database was last replaced by a copy that may lack the latest uses
    system_identifier text    NOT NULL, -- of the cluster that these uses were committed on
    timeline          text    NOT NULL  -- a fail-over and a restore each begin a new one
);

-- How often each kind of state has changed. Other servers look here for news; the row is also the lock of its kind.
CREATE TABLE certbind.revisions (
    kind     text   PRIMARY KEY, -- clients, keys or revocations
    revision bigint NOT NULL
);
INSERT INTO certbind.revisions (kind, revision) VALUES ('clients', 0), ('keys', 0), ('revocations', 0);

-- Keys that sign access tokens, each with its place in time (milliseconds since 1970). They are one set: whoever changes it
-- names the revision that it saw.
CREATE TABLE certbind.signing_keys (
    kid            text   PRIMARY KEY,
    algorithm      text   NOT NULL,
    form           text   NOT NULL, -- how the secret is kept
    secret         bytea  NOT NULL,
    created        bigint NOT NULL, -- published from then on
    activates      bigint NOT NULL, -- signs from then on
    retired        bigint,          -- taken back: neither signs nor is published
    token_lifetime bigint NOT NULL  -- milliseconds: the longest life of a token that it signs
);

-- Clients that were registered while servers run. A removed one stays, without metadata, until every server has seen it go.
CREATE TABLE certbind.clients (
    client_id text   PRIMARY KEY,
    metadata  text,            -- JSON (RFC 7591 §2); none when the client was removed
    revision  bigint NOT NULL UNIQUE,
    created   bigint NOT NULL, -- milliseconds since 1970
    updated   bigint NOT NULL  -- milliseconds since 1970
);

-- What was revoked, until nothing that it concerns can be alive.
CREATE TABLE certbind.revocations (
    what       text   NOT NULL, -- token, certificate or client
    id         bytea  NOT NULL CHECK (length(id) = 32),
    revoked    bigint NOT NULL, -- milliseconds since 1970
    keep_until bigint NOT NULL, -- milliseconds since 1970, inclusive
    revision   bigint NOT NULL UNIQUE,
    PRIMARY KEY (what, id)
);
