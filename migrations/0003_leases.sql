-- Leases: who holds what alone, and until when. Rows, because a renewal is no event; every grant
-- and every end is one, stored by the same transaction that changes the row.
--
-- All times are milliseconds since 1970 by this database's clock.

CREATE TABLE leases (
    -- Compared byte by byte, as every program compares it.
    category     text COLLATE "C" NOT NULL,
    stream       uuid    NOT NULL,
    generation   bigint  NOT NULL CHECK (generation > 0),
    holder       uuid    NOT NULL,
    ttl_ms       integer NOT NULL CHECK (ttl_ms >= 0),
    renewed_at   bigint  NOT NULL,
    -- Nobody else is granted the lease before.
    valid_until  bigint  NOT NULL,
    -- Given up or fenced: it is renewed no more.
    ended        boolean NOT NULL,
    CONSTRAINT leases_key PRIMARY KEY (category, stream)
);
