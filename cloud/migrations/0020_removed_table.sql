-- +goose Up
-- Tables whose syncing was ended. A box that was offline meanwhile may still
-- have their changes in its queue: they are passed over, where those of a table
-- that nobody knows hold the stream up.
CREATE TABLE holdfast.removed_table (
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    removed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name)
);

-- +goose Down
DROP TABLE holdfast.removed_table;
