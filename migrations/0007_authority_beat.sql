-- The votes for the authority beat. Rows, because a beat changes no authority: it says that more
-- than half of the replicas still see this database, and nothing else.

-- The beat that is to be signed.
CREATE TABLE beat_proposal (
    only_row  boolean NOT NULL CONSTRAINT beat_proposal_key PRIMARY KEY CHECK (only_row),
    sequence  bigint  NOT NULL CHECK (sequence > 0),
    payload   bytea   NOT NULL
);

-- Each replica's newest vote. It is stored before it is signed, and never goes back.
CREATE TABLE beat_votes (
    replica    bytea  NOT NULL CONSTRAINT beat_votes_key PRIMARY KEY CHECK (octet_length(replica) = 32),
    sequence   bigint NOT NULL CHECK (sequence > 0),
    -- The hash of the payload that it is for.
    payload    bytea  NOT NULL CHECK (octet_length(payload) = 32),
    signature  bytea  CHECK (octet_length(signature) = 64)
);
