-- +goose Up
-- whole: this box took another's place and has all rows of the table that its facility
-- had then, so that its key ranges say also which rows there are not. resent: the
-- table was sent again, so that without that something may be left in the region.
ALTER TABLE holdfast.synced_table ADD COLUMN whole boolean NOT NULL DEFAULT false, ADD COLUMN resent boolean NOT NULL DEFAULT false;
UPDATE holdfast.synced_table SET resent = load_no > 1;

-- +goose Down
ALTER TABLE holdfast.synced_table DROP COLUMN whole, DROP COLUMN resent;
