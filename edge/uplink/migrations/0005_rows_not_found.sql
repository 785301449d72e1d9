-- +goose Up
-- Rows that updates of some columns did not find: what they said is lost unless
-- the rows come, or the table comes again.
ALTER TABLE holdfast.parked_table ADD COLUMN keys jsonb NOT NULL DEFAULT '[]'; -- [{column: value as text}], with reason row_missing

-- +goose Down
ALTER TABLE holdfast.parked_table DROP COLUMN keys;
