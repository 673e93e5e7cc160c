-- Used assertions, in the order of their use. Rows are only ever added at the end, so a commit writes one page or two,
-- however many rows there are; the look-up by key is in memory (store/replay_index.rs).
-- The newest row is never deleted: a number is not given twice, so another process that follows the table misses nothing.
CREATE TABLE replay (
    id         INTEGER PRIMARY KEY,
    key        BLOB    NOT NULL CHECK (length(key) = 16),
    keep_until INTEGER NOT NULL, -- milliseconds since 1970, inclusive
    checksum   INTEGER NOT NULL  -- FNV-1a over the three above
) STRICT;

-- Used assertions that were to be kept no longer than this may have been deleted.
CREATE TABLE replay_horizon (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    horizon INTEGER NOT NULL -- milliseconds since 1970
) STRICT;
INSERT INTO replay_horizon (id, horizon) VALUES (1, -9223372036854775808);

-- Private keys that sign access tokens.
CREATE TABLE signing_keys (
    kid       TEXT    PRIMARY KEY,
    algorithm TEXT    NOT NULL,
    pkcs8     BLOB    NOT NULL,
    created   INTEGER NOT NULL, -- milliseconds since 1970
    checksum  INTEGER NOT NULL  -- FNV-1a over the four above
) STRICT;
