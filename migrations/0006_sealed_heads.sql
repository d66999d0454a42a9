-- Tree heads as control signed them, moment by moment, and the nodes that co-signed them. Whatever
-- is here proves itself by its signatures; how many rows are kept is the program's to bound.

CREATE TABLE sealed_heads (
    size       bigint NOT NULL CONSTRAINT sealed_heads_key PRIMARY KEY CHECK (size >= 0),
    -- The signed note, without cosignatures.
    note       bytea  NOT NULL,
    -- Milliseconds since 1970.
    sealed_at  bigint NOT NULL
);

CREATE TABLE cosignatures (
    size  bigint NOT NULL
        CONSTRAINT cosignatures_head REFERENCES sealed_heads (size) ON DELETE CASCADE,
    node  uuid   NOT NULL,
    -- One line of the note, with its line break.
    line  bytea  NOT NULL,
    CONSTRAINT cosignatures_key PRIMARY KEY (size, node)
);
