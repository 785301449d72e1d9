-- +goose Up
-- Whether who decides can judge: another process may hear what it does not, and
-- decides in its place then.
ALTER TABLE holdfast.alert_leader ADD COLUMN fit boolean NOT NULL DEFAULT true;

-- +goose Down
ALTER TABLE holdfast.alert_leader DROP COLUMN fit;
