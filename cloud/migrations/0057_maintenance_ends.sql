-- +goose Up
-- What is going on now, and what is over for long, are found by when it ends.
CREATE INDEX maintenance_ends ON holdfast.maintenance (ends_at);

-- +goose Down
DROP INDEX holdfast.maintenance_ends;
