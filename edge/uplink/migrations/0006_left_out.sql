-- +goose Up
-- What was committed here and is not in the change stream, until its table is
-- sent again.
CREATE TABLE holdfast.left_out (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    reason      text NOT NULL,               -- too_large, keyless
    key         text NOT NULL,               -- for people; '' where all of the table is meant
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name, reason, key)
);

-- +goose Down
DROP TABLE holdfast.left_out;
