-- +goose Up
-- Of which of the facility's boxes the position is; 0 where that is not known.
ALTER TABLE holdfast.down_position ADD COLUMN enrolment bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE holdfast.down_position DROP COLUMN enrolment;
