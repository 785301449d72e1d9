-- +goose Up
-- One row that each region process writes every few seconds, to know whether
-- the database takes writes.
CREATE TABLE holdfast.pulse (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    at          timestamptz NOT NULL
);

-- +goose Down
DROP TABLE holdfast.pulse;
