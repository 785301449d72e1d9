-- +goose Up
-- That a provider takes what is sent by a way proves credentials and path, but not
-- that anybody has seen it (proved_at).
ALTER TABLE holdfast.contact_method ADD COLUMN taken_at timestamptz;  -- when a provider last took something for it
UPDATE holdfast.contact_method m
SET taken_at = (SELECT max(d.accepted_at) FROM holdfast.delivery d WHERE d.method = m.id AND d.accepted_at IS NOT NULL);

-- +goose Down
ALTER TABLE holdfast.contact_method DROP COLUMN taken_at;
