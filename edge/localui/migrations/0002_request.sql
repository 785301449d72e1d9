-- +goose Up
-- What was asked under an Idempotency-Key, by the id of the row that it made:
-- who uses the key for something else is told, instead of getting that row. A
-- row without one was made before this table, at another box, or long ago.
CREATE TABLE holdfast.request (
    row_id     uuid PRIMARY KEY,
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX request_by_time ON holdfast.request (created_at);

-- +goose Down
DROP TABLE holdfast.request;
