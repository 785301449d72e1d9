-- +goose Up
-- Rows of a table that the region sent when this database had been put back from a
-- backup wait in holdfast.parked, before the table's own go up.
ALTER TABLE holdfast.synced_table ADD COLUMN rows_wait boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE holdfast.synced_table DROP COLUMN rows_wait;
