-- The keys of persons: what is about somebody stands in the log under that person's key, and
-- deleting the row erases it. Wrapped under a key that is not in this database.

CREATE TABLE subject_keys (
    subject  uuid  NOT NULL CONSTRAINT subject_keys_key PRIMARY KEY,
    wrapped  bytea NOT NULL CHECK (octet_length(wrapped) <= 256)
);
