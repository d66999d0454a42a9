-- The Merkle tree over the log. Leaf n is the event at position n + 1.
--
-- An append moves the tree in its own transaction. Events that were stored before this migration,
-- or by a process of the release before it, have no leaf yet: whoever appends next adds theirs
-- first, under the head's lock.

ALTER TABLE log_head
    ADD COLUMN leaves   bigint NOT NULL DEFAULT 0,
    -- The roots of the complete subtrees, largest first, 32 bytes each.
    ADD COLUMN frontier bytea  NOT NULL DEFAULT '';

ALTER TABLE log_head
    ADD CONSTRAINT log_head_leaves CHECK (leaves >= 0 AND leaves <= position);

ALTER TABLE events
    ADD COLUMN leaf bytea CHECK (octet_length(leaf) = 32);

-- The roots of full tiles: each is one hash of the level above its tile.
CREATE TABLE tile_roots (
    level  smallint NOT NULL CHECK (level >= 0),
    index  bigint   NOT NULL CHECK (index >= 0),
    root   bytea    NOT NULL CHECK (octet_length(root) = 32),
    CONSTRAINT tile_roots_key PRIMARY KEY (level, index)
);
