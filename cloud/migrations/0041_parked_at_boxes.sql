-- +goose Up
-- What a facility's own database refuses of the region's changes waits at its
-- box. The rows with direction 'down' are what the boxes tell of it: the newest.
ALTER TABLE holdfast.parked ADD COLUMN box_id bigint; -- the change's number at the box; null for direction 'up'
CREATE UNIQUE INDEX parked_box_id ON holdfast.parked (facility, box_id) WHERE direction = 'down';

CREATE TABLE holdfast.parked_at_box (
    facility text PRIMARY KEY REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    waiting  bigint NOT NULL,            -- all of them, listed or not
    told_at  timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE holdfast.parked_at_box;
DELETE FROM holdfast.parked WHERE direction = 'down';
DROP INDEX holdfast.parked_box_id;
ALTER TABLE holdfast.parked DROP COLUMN box_id;
