-- +goose Up
-- Which state of a plan somebody saw when he changed it, and who changed it last.
ALTER TABLE holdfast.contact
    ADD COLUMN version bigint NOT NULL DEFAULT 1, ADD COLUMN changed_at timestamptz, ADD COLUMN changed_by text NOT NULL DEFAULT '';
ALTER TABLE holdfast.schedule
    ADD COLUMN version bigint NOT NULL DEFAULT 1, ADD COLUMN changed_at timestamptz, ADD COLUMN changed_by text NOT NULL DEFAULT '';
ALTER TABLE holdfast.escalation_policy
    ADD COLUMN version bigint NOT NULL DEFAULT 1, ADD COLUMN changed_at timestamptz, ADD COLUMN changed_by text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE holdfast.escalation_policy DROP COLUMN version, DROP COLUMN changed_at, DROP COLUMN changed_by;
ALTER TABLE holdfast.schedule DROP COLUMN version, DROP COLUMN changed_at, DROP COLUMN changed_by;
ALTER TABLE holdfast.contact DROP COLUMN version, DROP COLUMN changed_at, DROP COLUMN changed_by;
