-- +goose Up
-- On which occasion the region asked for the table last, when it asks until it
-- knows that it was heard.
ALTER TABLE holdfast.synced_table ADD COLUMN mend text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE holdfast.synced_table DROP COLUMN mend;
