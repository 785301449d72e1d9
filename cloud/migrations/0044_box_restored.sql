-- +goose Up
-- The box's epoch in which its facility was last sent all of its rows because
-- the box's database was put back from a backup.
ALTER TABLE holdfast.down_position ADD COLUMN restored_epoch bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE holdfast.down_position DROP COLUMN restored_epoch;
