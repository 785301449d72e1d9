-- +goose Up
-- What people change in a fact table that is not captured is in the database
-- alone, until the table has been read into the queue.
ALTER TABLE holdfast.synced_table ADD COLUMN unread boolean NOT NULL DEFAULT false;
UPDATE holdfast.synced_table SET unread = true WHERE class = 'fact' AND state <> 'streaming';

-- +goose Down
ALTER TABLE holdfast.synced_table DROP COLUMN unread;
