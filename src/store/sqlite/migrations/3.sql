-- Keys that sign access tokens, each with its place in time. Times are milliseconds since 1970. They are one set: whoever
-- changes it names the revision that it saw (`revisions`, kind keys).
ALTER TABLE signing_keys RENAME TO signing_keys_2;
CREATE TABLE signing_keys (
    kid            TEXT    PRIMARY KEY,
    algorithm      TEXT    NOT NULL,
    form           TEXT    NOT NULL, -- pkcs8: the private key as it is; sealed: encrypted; pkcs11: where it is
    secret         BLOB    NOT NULL,
    created        INTEGER NOT NULL, -- published from then on
    activates      INTEGER NOT NULL, -- signs from then on
    retired        INTEGER,          -- taken back: neither signs nor is published
    token_lifetime INTEGER NOT NULL, -- milliseconds: the longest life of a token that it signs
    checksum       INTEGER NOT NULL  -- FNV-1a over all of the above
) STRICT;
-- The rows move over in sqlite/keys.rs, which knows their checksums; then signing_keys_2 goes.
