-- +goose Up
-- The region's rows of a table that did not fit when this database had been put
-- back from a backup have still to come, before its own go up.
ALTER TABLE holdfast.synced_table ADD COLUMN put_back boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE holdfast.synced_table DROP COLUMN put_back;
