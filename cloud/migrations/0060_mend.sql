-- +goose Up
-- Where the facility must be before it is asked to send the table up behind what
-- it was sent; NULL when it need not, or was asked.
ALTER TABLE holdfast.down_load ADD COLUMN mend_epoch bigint, ADD COLUMN mend_seq bigint;
CREATE INDEX down_load_mend ON holdfast.down_load (facility) WHERE mend_epoch IS NOT NULL;

-- +goose Down
ALTER TABLE holdfast.down_load DROP COLUMN mend_epoch, DROP COLUMN mend_seq;
