-- The event log of one cluster: one database holds one log.
--
-- Positions are gapless. They come from the one row of log_head, which every append locks
-- before it reads anything else, and never from a sequence: sequences become visible out of
-- order, and a reader would skip what commits late.

CREATE TABLE log_head (
    only_row  boolean NOT NULL CONSTRAINT log_head_key PRIMARY KEY CHECK (only_row),
    position  bigint  NOT NULL CHECK (position >= 0)
);

INSERT INTO log_head (only_row, position) VALUES (true, 0);

CREATE TABLE events (
    position      bigint  NOT NULL CONSTRAINT events_position_key PRIMARY KEY CHECK (position > 0),
    category      text    NOT NULL,
    stream        uuid    NOT NULL,
    revision      bigint  NOT NULL CHECK (revision > 0),
    event_type    text    NOT NULL,
    schema        integer NOT NULL CHECK (schema > 0),
    payload       bytea   NOT NULL,
    organization  uuid,
    -- MessagePack, as every payload.
    actor         bytea   NOT NULL,
    command       uuid    NOT NULL,
    causation     bigint,
    -- Milliseconds since 1970, as in every signed format.
    recorded_at   bigint  NOT NULL,
    CONSTRAINT events_revision_key UNIQUE (category, stream, revision)
);

-- The last revision of each stream: an append's expectation is compared with one row.
CREATE TABLE streams (
    category  text   NOT NULL,
    stream    uuid   NOT NULL,
    revision  bigint NOT NULL CHECK (revision > 0),
    CONSTRAINT streams_key PRIMARY KEY (category, stream)
);

-- Every recorded command with what was answered, so that repeating it repeats nothing.
CREATE TABLE commands (
    command         uuid   NOT NULL CONSTRAINT commands_key PRIMARY KEY,
    request_hash    bytea  NOT NULL CHECK (octet_length(request_hash) = 32),
    first_position  bigint NOT NULL,
    last_position   bigint NOT NULL,
    reply           bytea  NOT NULL
);

-- Keys that at most one thing may hold, such as the name of an organization.
CREATE TABLE claims (
    claim    text NOT NULL CONSTRAINT claims_key PRIMARY KEY,
    command  uuid NOT NULL
);
