-- +goose Up
-- Whether a load has all rows that there are of its table, and which of the
-- facility's boxes was last told that it has them, so that its key ranges remove rows.
-- Of loads from before this it is not known.
ALTER TABLE holdfast.down_load ADD COLUMN complete boolean NOT NULL DEFAULT false, ADD COLUMN whole_enrolment bigint NOT NULL DEFAULT 0;
ALTER TABLE holdfast.down_load ALTER COLUMN complete SET DEFAULT true;

-- +goose Down
ALTER TABLE holdfast.down_load DROP COLUMN complete, DROP COLUMN whole_enrolment;
