-- +goose Up
-- A provider tells what a message cost some time after it was sent. It is asked
-- a few times; the currency is there once it has said it.
ALTER TABLE holdfast.delivery
    ADD COLUMN cost_unit  text NOT NULL DEFAULT '',    -- of cost_micros (ISO 4217); '': what it cost is not known
    ADD COLUMN price_at   timestamptz,                 -- when the provider is asked for it next; NULL: not (any more)
    ADD COLUMN price_asks integer NOT NULL DEFAULT 0;  -- how often it was
CREATE INDEX delivery_price ON holdfast.delivery (channel, price_at) WHERE price_at IS NOT NULL;

-- +goose Down
ALTER TABLE holdfast.delivery DROP COLUMN cost_unit, DROP COLUMN price_at, DROP COLUMN price_asks;
