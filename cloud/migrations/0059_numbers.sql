-- +goose Up
-- How many messages a number got is counted whoever has it.
CREATE INDEX contact_method_address ON holdfast.contact_method (address, channel);

-- +goose Down
DROP INDEX holdfast.contact_method_address;
