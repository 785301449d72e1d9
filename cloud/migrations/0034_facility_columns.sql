-- +goose Up
-- The columns that each facility's table has, as it told them: [{name, type,
-- key, generated, required}]; empty for a box that does not tell.
ALTER TABLE holdfast.facility_table ADD COLUMN columns jsonb NOT NULL DEFAULT '[]';
