-- Which file this is. A copy of it is another file, or is marked as one: it lacks what was used after it was made.
CREATE TABLE origin (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    file  INTEGER NOT NULL, -- the number of the file in its file system; 0 in a copy that was made to be one
    fence INTEGER NOT NULL  -- milliseconds since 1970: when a copy last took the place of the original
) STRICT;
